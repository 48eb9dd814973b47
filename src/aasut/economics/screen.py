"""`aasut plan --screen`: a first meeting's questions, one at a time, each with a default; or a file of answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import yaml

from aasut.economics.advice import CHANGES, Situation, advise
from aasut.economics.cost import usd
from aasut.errors import DataError, RecipeError
from aasut.evaluate.paired import points

ENDLESS = 1e12  # different inputs, where they never come again
_UNITS = {"k": 1e3, "m": 1e6, "b": 1e9}
Answers = dict[str, Any]


class _Unclear(Exception):
    """What was typed is no answer; the message says what would be."""


def _always(said: Answers) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Question:
    """`read` turns what was typed into the answer, or raises _Unclear; it is asked where `when` holds.

    `by_task`: defaults that take the place of `default`, by kind of task.
    """

    name: str
    text: str
    default: str
    read: Callable[[str], Any]
    when: Callable[[Answers], bool] = _always
    by_task: Mapping[str, str] = field(default_factory=dict)

    def default_for(self, said: Answers) -> str:
        return self.by_task.get(said.get("task", ""), self.default)


def _number(low: float, high: float = math.inf, *, whole: bool = False, endless: bool = False) -> Callable[[str], Any]:
    """Reads 250, 1,000,000, 100k, 1.5M, $0.002 or 5e-4, from low to high."""

    def read(typed: str) -> Any:
        text = typed.strip().casefold().replace(",", "").replace("_", "").replace("$", "").replace(" ", "")
        if endless and text in ("endless", "inf", "infinite"):
            return ENDLESS
        unit = _UNITS.get(text[-1:], 1.0)
        try:
            value = float(text[:-1] if unit != 1 else text) * unit
        except ValueError:
            value = math.nan
        if not (low <= value <= high and math.isfinite(value)):
            span = f"from {low:g} on" if math.isinf(high) else f"from {low:g} to {high:g}"
            raise _Unclear(f"a number {span}, such as 250, 100k or 1.5M" + (", or endless" if endless else ""))
        return round(value) if whole else value

    return read


def _one_of(*choices: str) -> Callable[[str], str]:
    """Reads one of these, by name or by a beginning that only one has."""

    def read(typed: str) -> str:
        text = typed.strip().casefold()
        found = [choice for choice in choices if text and choice.startswith(text)]
        if text in choices or len(found) == 1:
            return text if text in choices else found[0]
        raise _Unclear(f"one of {', '.join(choices)}")

    return read


def _yes(typed: str) -> bool:
    text = typed.strip().casefold()
    if text in ("true", "yes", "y"):
        return True
    if text in ("false", "no", "n"):
        return False
    raise _Unclear("yes or no")


def _by_tokens(said: Answers) -> bool:
    return not said["usd_per_request"]


def _classify(said: Answers) -> bool:
    return bool(said["task"] == "classify")


QUESTIONS = (
    Question(
        "task",
        "What is an answer: one of some labels (classify), a JSON of fields (extract), a text (generate), or something "
        "else, such as a conversation (other)?",
        "classify", _one_of("classify", "extract", "generate", "other"),
    ),
    Question("labels", "How many labels?", "2", _number(2, whole=True), _classify),
    Question("requests_per_month", "How many requests a month?", "100k", _number(1)),
    Question("usd_per_request", "What does one cost now, in USD? 0 goes by tokens.", "0", _number(0)),
    Question("input_tokens", "Tokens sent with a request, prompt included?", "500", _number(1)),
    Question(
        "output_tokens", "Tokens of an answer?", "2", _number(1),
        by_task={"extract": "60", "generate": "120", "other": "200"},
    ),
    Question("usd_per_million_input_tokens", "USD for a million tokens sent?", "0.15", _number(0), _by_tokens),
    Question("usd_per_million_output_tokens", "USD for a million tokens answered?", "0.60", _number(0), _by_tokens),
    Question(
        "different_inputs", "How many different inputs are there, or endless?", "endless", _number(1, endless=True)
    ),
    Question(
        "rule", "Is there a rule that a programmer could write down: yes, partly or no?", "no",
        _one_of("yes", "partly", "no"),
    ),
    Question(
        "single_words", "Can the label be told from single words, whatever their order (yes or no)?", "no", _yes,
        _classify,
    ),
    Question("human_answers", "How many answers given by people are there?", "0", _number(0, whole=True)),
    Question("more_human_answers", "How many more can be had?", "1100", _number(0, whole=True)),
    Question("usd_per_human_answer", "What does one of these cost, in USD?", "0.10", _number(0)),
    Question("usd_per_wrong_answer", "What does a wrong answer cost, in USD?", "0", _number(0)),
    Question("latency_ms", "Within how many milliseconds is an answer wanted?", "2000", _number(1)),
    Question("may_leave", "May the inputs leave your house (yes or no)?", "yes", _yes),
    Question(
        "changes", f"How often does the task change: {', '.join(CHANGES)}?", "yearly", _one_of(*CHANGES),
    ),
)  # fmt: skip


def run(stdin: TextIO, stdout: TextIO, answers: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What was said and what to do: {"said": answers, "by_default": names, **advice.advise(...)}.

    Asks on stdin and stdout, one question at a time; an empty line takes the default, and what is no answer
    is asked again. With `answers` nothing is asked, and what they leave out goes by its default. Raises
    DataError where the input ends, RecipeError on answers that cannot be.
    """
    typed = None if answers is None else _checked(answers)
    said: Answers = {}
    by_default = []
    for number, question in enumerate(QUESTIONS, 1):
        given, default = None, question.default_for(said)
        if question.when(said):
            given = typed.get(question.name) if typed is not None else _ask(question, default, number, stdin, stdout)
            by_default += [question.name] if given is None else []
        said[question.name] = question.read(default) if given is None else given
    return {"said": said, "by_default": by_default, **advise(Situation(**said))}


def read(path: Path) -> dict[str, Any]:
    """Answers from a YAML file, by the names of QUESTIONS. Raises RecipeError where it holds none."""
    try:
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}.", "Give a YAML file of answers.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RecipeError(f"{path} is no YAML: {' '.join(str(error).split())}.", "Mend the line it names.") from None
    if not isinstance(plain, dict):
        raise RecipeError(f"{path} holds no answers.", f"Its lines are name: answer, with {_names()}.")
    return plain


def describe(found: Mapping[str, Any]) -> list[str]:
    """The advice in lines."""
    human, today = found["human_answers"], found["usd_per_month_today"]
    return [
        found["sentence"],
        *found["notes"],
        f"Today: {usd(today)} a month, {usd(found['usd_per_million_requests_today'])} a million requests. "
        + found["break_even"]["sentence"],
        f"Human answers for a margin of {points(human['margin'])}: {human['wanted']:,}, of these "
        f"{human['of_these_for_the_verdict']:,} for the verdict; {human['at_hand']:,} can be had.",
        f"Assumed, not measured: {'; '.join(found['assumed'])}.",
        f"Next: {found['next']}",
    ]


def _checked(answers: Mapping[str, Any]) -> Answers:
    """Answers from a file, read as if they had been typed."""
    readers = {question.name: question.read for question in QUESTIONS}
    found = {}
    for name, value in answers.items():
        if name not in readers:
            raise RecipeError(f"{name!s:.60}: there is no such question.", f"They are {_names()}.")
        word = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
        try:
            found[name] = readers[name](word)
        except _Unclear as wanted:
            raise RecipeError(f"{name}: {word!s:.60} is no answer.", f"Give {wanted}.") from None
    return found


def _ask(question: Question, default: str, number: int, stdin: TextIO, stdout: TextIO) -> Any | None:
    """The answer typed, None for an empty line."""
    while True:
        stdout.write(f"{question.text} [{default}] ")
        stdout.flush()
        try:
            line = stdin.readline(10_000)
        except UnicodeDecodeError:
            raise DataError(
                "The input is not UTF-8.", "Type letters and digits, or give --answers FILE.yaml."
            ) from None
        if not line:
            stdout.write("\n")
            raise DataError(
                f"The input ended at question {number} of {len(QUESTIONS)}, and nothing was decided.",
                "Answer all, or give --answers FILE.yaml.",
            )
        if not line.strip():
            return None
        try:
            return question.read(line)
        except _Unclear as wanted:
            stdout.write(f"That is no answer; give {wanted}.\n")


def _names() -> str:
    return ", ".join(question.name for question in QUESTIONS)
