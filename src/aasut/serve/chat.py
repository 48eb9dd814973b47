"""Talk to a student in the terminal, or pipe inputs through it, one a line."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from aasut import tools as functions
from aasut.engine.base import Written
from aasut.errors import AasutError, DataError
from aasut.serve.student import Answer, ServedStudent
from aasut.tasks import Task

Do = Callable[[Written, float], str | None]  # (an answer, milliseconds) -> what to show of it, None for itself


def chat(student: ServedStudent, stdin: TextIO, stdout: TextIO, *, as_json: bool = False, do: Do | None = None) -> int:
    """Answer what is typed until an empty input, Ctrl-D or Ctrl-C; returns the exit code 0.

    Where `stdin` is no terminal, every line gets one line of answer, in order: a line is the text
    of the student's one slot, or a JSON object of its several slots. A line that cannot be answered
    gets a line that begins with `error:`, and the exit code is 1. `as_json` writes one JSON object
    a line. Interrupted while piping: 130. `do` is given each answer that is written, and says what to show of it.
    """
    if stdin.isatty():
        _converse(student, stdin, stdout, as_json, do)
        return 0
    return _pipe(student, stdin, stdout, as_json, do)


def _converse(student: ServedStudent, stdin: TextIO, stdout: TextIO, as_json: bool, do: Do | None) -> None:
    shown = not as_json  # JSON stays clean of prompts
    if shown:
        what = student.slots[0] if len(student.slots) == 1 else ", then ".join(student.slots)
        answers = ", ".join(student.task.answers) or _form(student.task)
        _write(stdout, f"{student.name} answers: {answers}\n")
        _write(stdout, f"Type the {what}. An empty line or Ctrl-D ends.\n")
    try:
        while True:
            slots: dict[str, str] = {}
            for name in student.slots:
                if shown:
                    _write(stdout, f"{name}> ")
                try:
                    line = stdin.readline()
                except UnicodeDecodeError:
                    line = "\udcff"  # told apart below, as any text that is not Unicode
                if line.rstrip("\r\n") == "":
                    _write(stdout, "\n" if shown and not line else "")
                    return
                slots[name] = line.rstrip("\r\n")
            _write(stdout, _reply(student, slots, as_json, do)[0] + "\n")
    except KeyboardInterrupt:
        _write(stdout, "\n" if shown else "")


def _form(task: Task) -> str:
    if task.tools:
        return f"calls of {', '.join(functions.names(task.tools))}, or in its own words"
    return "JSON" if task.schema else "in its own words"


def _pipe(student: ServedStudent, stdin: TextIO, stdout: TextIO, as_json: bool, do: Do | None) -> int:
    code = 0
    try:
        for line in stdin:
            try:
                slots = _slots(student, line.rstrip("\r\n"))
            except DataError as error:
                text, good = _complaint(error, as_json), False
            else:
                text, good = _reply(student, slots, as_json, do)
            code = code if good else 1
            _write(stdout, text + "\n")
    except UnicodeDecodeError:
        raise DataError("The input is not UTF-8.", "Convert it, for example with iconv.") from None
    except KeyboardInterrupt:
        return 130
    return code


def _slots(student: ServedStudent, line: str) -> Mapping[str, str]:
    """The slots that a piped line gives."""
    if not line.strip():
        raise DataError("The line is empty.", "Give one input a line.")
    if len(student.slots) == 1:
        return {student.slots[0]: line}
    example = json.dumps(dict.fromkeys(student.slots, "…"), ensure_ascii=False)
    try:
        given: Any = json.loads(line)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict) or any(not isinstance(given.get(name), str) for name in student.slots):
        raise DataError("The line does not give the slots.", f"Write each line like {example}.")
    extra = [name for name in given if name not in student.slots]
    if extra:
        raise DataError(f"The student has no slot {extra[0]!r}.", f"Write each line like {example}.")
    return given


def _reply(student: ServedStudent, slots: Mapping[str, str], as_json: bool, do: Do | None) -> tuple[str, bool]:
    """What to write for one input, and whether it is an answer."""
    try:
        for name, text in slots.items():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise DataError(f"The {name} is not UTF-8.", "Type it again, or convert it.") from None
        started = time.perf_counter()
        prompt = student.render(slots)
        answer = student.answer_prompt(prompt) if student.task.answers else student.write_prompt(prompt)
        milliseconds = (time.perf_counter() - started) * 1000
    except AasutError as error:
        return _complaint(error, as_json), False
    if isinstance(answer, Written):
        shown = do(answer, milliseconds) if do else None
        if shown is not None:
            return shown, True
        return _text(answer, milliseconds, as_json), True
    return _line(answer, milliseconds, as_json), True


def _text(answer: Written, milliseconds: float, as_json: bool) -> str:
    """A written answer on one line; one that was cut says so."""
    text = answer.text.strip()
    if as_json:
        record = {"text": text, "finish": answer.finish, "tokens": answer.tokens}
        return json.dumps(record | {"milliseconds": round(milliseconds, 1)}, ensure_ascii=False)
    return " ".join(text.splitlines()) + (" […]" if answer.finish == "length" else "")


def _line(answer: Answer, milliseconds: float, as_json: bool) -> str:
    (label, first), (other, second) = list(answer.logprobs.items())[:2]
    if as_json:
        record = {
            "label": label,
            "probability": round(math.exp(first), 6),
            "runner_up": other,
            "runner_up_probability": round(math.exp(second), 6),
            "milliseconds": round(milliseconds, 1),
        }
        return json.dumps(record, ensure_ascii=False)
    return f"{label}  {math.exp(first):.1%}  (then {other} {math.exp(second):.1%}, {milliseconds:.0f} ms)"


def _complaint(error: AasutError, as_json: bool) -> str:
    text = " ".join(str(error).split())
    return json.dumps({"error": text}, ensure_ascii=False) if as_json else f"error: {text}"


def _write(stream: TextIO, text: str) -> None:
    stream.write(text)
    stream.flush()
