"""`aasut chat RUN --tools FILE`: what a student calls is done, with the tools of a Python file.

Nothing of what a tool returns is read by the student, so it can be led astray by nothing but its user.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TextIO

from aasut import tools as functions
from aasut.agents import student as students
from aasut.agents import untrusted
from aasut.agents.functions import Result, Toolbox
from aasut.agents.streams import own_streams
from aasut.engine.base import Written
from aasut.serve import chat as talk
from aasut.serve.student import ServedStudent

DENIED = "denied: it is dangerous, and nobody approved it"


def chat(student: ServedStudent, tools: Path, *, as_json: bool = False) -> int:
    """As `aasut.serve.chat`; each call and its result is shown, then the state of the file. Gives the exit code.

    Raises ToolError where the file is no tools, or lacks one that the student calls.
    """
    with own_streams() as (stdin, stdout):
        toolbox = Toolbox.load(tools)
        students.check(student, toolbox.definitions)
        do = Doing(toolbox, stdin if stdin.isatty() else None, stdout, as_json=as_json)
        return talk.chat(student, stdin, stdout, as_json=as_json, do=do)


class Doing:
    """Makes the calls of an answer. `asked`: where a person says whether a dangerous call is made, None for nobody."""

    def __init__(self, toolbox: Toolbox, asked: TextIO | None, screen: TextIO, *, as_json: bool) -> None:
        self.toolbox, self._asked, self._screen, self.as_json = toolbox, asked, screen, as_json

    def __call__(self, answer: Written, milliseconds: float) -> str | None:
        """What to show of an answer once its calls are made; None for one that calls nothing."""
        if answer.finish == "length":
            return None
        calls = [(call["function"]["name"], call["function"]["arguments"]) for call in functions.native(answer.text)]
        if not calls:
            return None
        made = [(name, arguments, *self._make(name, arguments)) for name, arguments in calls]
        state = self.toolbox.state()
        if self.as_json:
            return json.dumps(_plain(answer, milliseconds, made, state), ensure_ascii=False)
        lines = [f"{name}({_shown(arguments)}) → {untrusted.line(result.text)}" for name, arguments, result, _ in made]
        return "\n".join(lines + ([untrusted.clean(state)] if state else []))

    def _make(self, name: str, arguments: str) -> tuple[Result, bool]:
        """(the result, whether it was called)"""
        if name in self.toolbox.dangerous and not self._approved(name, arguments):
            return Result(DENIED, failed=True), False
        return self.toolbox.call(name, arguments), True

    def _approved(self, name: str, arguments: str) -> bool:
        if self._asked is None:
            return False
        self._screen.write(f"{name}({_shown(arguments)}) is dangerous. Do it? [y/N] ")
        self._screen.flush()
        return self._asked.readline().strip().casefold() in ("y", "yes")


def _shown(arguments: str) -> str:
    """Arguments as one reads them: room="hall", level=5."""
    given: dict[str, Any] = json.loads(arguments)
    return untrusted.clean(
        ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in given.items())
    )


def _plain(
    answer: Written, milliseconds: float, made: list[tuple[str, str, Result, bool]], state: str | None
) -> dict[str, Any]:
    calls = [
        {"tool": name, "arguments": json.loads(arguments), "output": result.text, "failed": result.failed, "made": done}
        for name, arguments, result, done in made
    ]
    record: dict[str, Any] = {"text": answer.text.strip(), "calls": calls}
    record |= {} if state is None else {"state": state}
    return record | {"finish": answer.finish, "tokens": answer.tokens, "milliseconds": round(milliseconds, 1)}
