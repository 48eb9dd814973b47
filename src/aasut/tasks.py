"""What a task knows: its prompt, what is an answer, when two answers are equal and how near they are.

Stages ask the task and never its kind; another kind of task is another class here.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from aasut import tools as functions
from aasut.json_form import ordered, validator
from aasut.prompts import PromptTemplate


class Task(Protocol):
    """What stages need of a task."""

    @property
    def answers(self) -> tuple[str, ...]:
        """The answers that can be given, in a fixed order; none where the answer is free text."""

    @property
    def prompt(self) -> PromptTemplate:
        """The prompt that the application sends today."""

    @property
    def max_tokens(self) -> int:
        """Tokens that an answer may have."""

    @property
    def schema(self) -> str:
        """The JSON Schema of an answer as text; empty where it need not be JSON."""

    @property
    def tools(self) -> str:
        """The functions that an answer may call, as the JSON text of OpenAI's definitions; empty where there are none.

        Instead of JSON of `schema`, which calls them, an answer may then be text that begins with neither [ nor {.
        """

    def parse(self, text: str) -> str | None:
        """The answer in a model's text, None where there is none."""

    def canonical(self, text: str) -> str | None:
        """An answer that a person or a table gives, in its one written form; None where it is no answer."""

    def correct(self, predicted: Sequence[str], gold: Sequence[str]) -> list[bool]:
        """Item by item: does the prediction equal the human answer?"""

    def similarity(self, predicted: str, gold: str) -> float:
        """How near a prediction is to the human answer, from 0 to 1, which it is where they are equal."""


@dataclass(frozen=True)
class Classify:
    """One of 2 to 100 labels for each input."""

    answers: tuple[str, ...]
    prompt: PromptTemplate
    max_tokens: int = 16
    schema: str = ""
    tools: str = ""

    def parse(self, text: str) -> str | None:
        for form in (_folded, _bare):
            said = form(text)
            found = [label for label in self.answers if said and form(label) == said]
            if len(found) == 1:
                return found[0]
        return None

    def canonical(self, text: str) -> str | None:
        return next((label for label in self.answers if _folded(label) == _folded(text)), None)

    def correct(self, predicted: Sequence[str], gold: Sequence[str]) -> list[bool]:
        return [p == g for p, g in zip(predicted, gold, strict=True)]

    def similarity(self, predicted: str, gold: str) -> float:
        return float(predicted == gold)


@dataclass(frozen=True)
class Generate:
    """Free text for each input. White space around an answer does not count; all else does."""

    prompt: PromptTemplate
    max_tokens: int
    answers: tuple[str, ...] = ()
    schema: str = ""
    tools: str = ""

    def parse(self, text: str) -> str | None:
        return self.canonical(text)

    def canonical(self, text: str) -> str | None:
        return _text(text)

    def correct(self, predicted: Sequence[str], gold: Sequence[str]) -> list[bool]:
        return [p.strip() == g.strip() for p, g in zip(predicted, gold, strict=True)]

    def similarity(self, predicted: str, gold: str) -> float:
        return _words_f1(predicted, gold)


@dataclass(frozen=True)
class Extract:
    """A JSON object of a given shape for each input.

    Its one written form has the fields in the schema's order, one space after commas and colons, and
    whole numbers without a fraction; two answers are equal where these forms are.
    """

    prompt: PromptTemplate
    max_tokens: int
    schema: str
    answers: tuple[str, ...] = ()
    tools: str = ""

    def parse(self, text: str) -> str | None:
        """Also where other text, or the fence of a code block, stands around the object."""
        begin, end = text.find("{"), text.rfind("}")
        return self.canonical(text[begin : end + 1]) if 0 <= begin < end else None

    def canonical(self, text: str) -> str | None:
        try:
            value, schema = json.loads(text), json.loads(self.schema)
            written = json.dumps(ordered(value, schema, schema), ensure_ascii=False, allow_nan=False)
            written.encode()  # escapes can name half a surrogate pair
        except (ValueError, RecursionError):
            return None
        return written if validator(self.schema).is_valid(value) else None

    def correct(self, predicted: Sequence[str], gold: Sequence[str]) -> list[bool]:
        return [p == g for p, g in zip(predicted, gold, strict=True)]

    def similarity(self, predicted: str, gold: str) -> float:
        """Share of the fields that either has in which both are equal."""
        said, wanted = fields(predicted), fields(gold)
        names = said.keys() | wanted.keys()
        return sum(said.get(n) == wanted.get(n) for n in names) / len(names) if names else 1.0


@dataclass(frozen=True)
class Tools:
    """Calls of functions for each input, one or several side by side, or text where nothing is called.

    `tools` is the JSON text of OpenAI's function definitions. Calls have one written form (see tools.py), and a text
    is one that begins with neither [ nor {. Calls are equal where functions and arguments are, whatever their order.
    """

    prompt: PromptTemplate
    max_tokens: int
    tools: str
    answers: tuple[str, ...] = ()

    @property
    def schema(self) -> str:
        return functions.schema(self.tools)

    def parse(self, text: str) -> str | None:
        return self.canonical(text)

    def canonical(self, text: str) -> str | None:
        return functions.canonical(text, self.tools) if functions.is_calls(text) else _text(text)

    def correct(self, predicted: Sequence[str], gold: Sequence[str]) -> list[bool]:
        return [self._same(p, g) for p, g in zip(predicted, gold, strict=True)]

    def similarity(self, predicted: str, gold: str) -> float:
        """F1 of the calls that both make; of the words, where neither calls anything."""
        said, wanted = (Counter(functions.calls(text)) for text in (predicted, gold))
        if not said and not wanted:
            return _words_f1(predicted, gold)
        return 2 * (said & wanted).total() / (said.total() + wanted.total())

    def _same(self, predicted: str, gold: str) -> bool:
        said, wanted = (Counter(functions.calls(text)) for text in (predicted, gold))
        return said == wanted and (bool(wanted) or predicted.strip() == gold.strip())


def make(
    kind: str, prompt: PromptTemplate, answers: tuple[str, ...], max_tokens: int, schema: str, tools: str = ""
) -> Task:
    """A task by its kind: classify, generate, extract or tools."""
    if kind == "classify":
        return Classify(answers, prompt)
    if kind == "tools":
        return Tools(prompt, max_tokens, tools)
    return Extract(prompt, max_tokens, schema) if kind == "extract" else Generate(prompt, max_tokens)


def fields(answer: str) -> dict[str, str]:
    """The fields of an answer in its one written form, each value in its own; none of an empty answer."""
    return {name: json.dumps(value, ensure_ascii=False) for name, value in json.loads(answer or "{}").items()}


def _text(text: str) -> str | None:
    """Without the white space around it; None for nothing, and for half a surrogate pair, which some APIs send."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return None
    return text.strip() or None


def _words_f1(predicted: str, gold: str) -> float:
    """F1 of the words that both have, case aside (as for SQuAD, Rajpurkar et al. 2016)."""
    said, wanted = (Counter(text.casefold().split()) for text in (predicted, gold))
    common = sum((said & wanted).values())
    return 2 * common / (said.total() + wanted.total()) if common else float(said == wanted)


def _folded(text: str) -> str:
    return text.strip().casefold()


def _bare(text: str) -> str:
    """Without the marks that models put around a word."""
    return _folded(text).strip("\"'`*.").strip()


def answer_text(prompt: str, answer: str) -> str:
    """The answer as it continues a plain prompt: a space stands between, unless the prompt has one."""
    return answer if not prompt or prompt[-1].isspace() else " " + answer
