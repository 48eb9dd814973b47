"""Does an answer rest on its span? By its quotes, its numbers and its words.

A quote must stand in the span, word for word; every number of the answer too, whatever way it is written; and a share
of its words, those aside that so many chunks of the language have that they tell nothing. Of calls, each text among the
arguments must stand in the request or in the span, or be one of the values that the functions list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from aasut import tools as functions
from aasut import words
from aasut.synthesize.item import Item
from aasut.synthesize.sources import Source

EVIDENCE, NUMBER = "the evidence is not in the span", "a number is not in the span"
WORDS, ARGUMENT = "the answer is not in the span", "an argument is in neither the request nor the span"
_COUNTED = re.compile(r"^\s*(?:[-*•]\s*)?[0-9०-९]{1,2}[.)]\s", re.MULTILINE)  # items of a list
_LEFT_OUT = re.compile(r"\.{3,}|…|\[\.\.\.\]")


def fault(
    item: Item, source: Source, least: float, common: Callable[[str], bool], tools: Sequence[Any] = ()
) -> tuple[str, str]:
    """Why an item does not rest on its span, and what is missing there; ("", "") where it does.

    least: share of the words; common: tells words that say nothing; tools: functions that may be called.
    """
    support = source.support
    for quote in item.evidence:
        if not quoted(quote, support):
            return EVIDENCE, quote
    for place, answer in enumerate(item.answers):
        if item.kind == "calls" and functions.is_calls(answer):
            request = item.questions[place] if place < len(item.questions) else ""
            if missing := unfounded_argument(answer, f"{request}\n{support}", tools):
                return ARGUMENT, missing
            continue
        if missing := unfounded_number(answer, support):
            return NUMBER, missing
        share, lost = founded(answer, support, common)
        if share < least:
            return WORDS, f"{share:.2f}: {' '.join(lost)}"
    return "", ""


def quoted(quote: str, text: str) -> bool:
    """Does a quote stand in a text, word for word? Where it leaves something out, each part must."""
    whole = f" {' '.join(words.words(text))} "
    parts = [" ".join(words.words(part)) for part in _LEFT_OUT.split(quote)]
    return all(f" {part} " in whole for part in parts if part) if any(parts) else True


def unfounded_number(answer: str, text: str) -> str:
    """The first number of an answer that a text has not; those that count a list aside. "" where there is none."""
    held = set(words.numbers(text))
    return next((number for number in words.numbers(_COUNTED.sub("", answer)) if number not in held), "")


def founded(answer: str, text: str, common: Callable[[str], bool]) -> tuple[float, list[str]]:
    """(share of an answer's words that a text has, common ones aside; the others). 1 where all are common."""
    held = set(words.words(text))
    said = [word for word in words.words(answer) if not common(word)]
    lost = [word for word in said if word not in held]
    return (1 - len(lost) / len(said) if said else 1.0), lost


def unfounded_argument(calls: str, text: str, tools: Sequence[Any]) -> str:
    """The first text among the arguments of calls that stands neither in a text nor in the functions' lists."""
    listed = set(_listed([tool["function"].get("parameters") or {} for tool in tools]))
    for _, given in functions.calls(calls):
        for value in _texts(json.loads(given)):
            if value not in listed and not quoted(value, text):
                return value
    return ""


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def _listed(schema: Any) -> Iterator[str]:
    """Texts that a schema names as values."""
    if isinstance(schema, dict):
        for key, inner in schema.items():
            if key in ("enum", "const", "default"):
                yield from _texts(inner)
            else:
                yield from _listed(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _listed(inner)
