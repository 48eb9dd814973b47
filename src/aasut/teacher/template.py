"""Answers of rules that take words from the question, so that a scripted teacher can write about any text."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence

from aasut.comparison import compared

_BETTER = re.compile(r"\{\{better ([^{}]+)\}\}")
_FIELD = re.compile(r"\{\{(sentence|word) ([1-9]\d?)\}\}")
_SENTENCE_END = re.compile(r"(?<=[.!?।])\s+|\n+")


def fill(answer: str, question: str) -> str:
    """The answer with `{{sentence N}}` and `{{word N}}` replaced by the Nth longest of the question.

    `{{better WORDS}}` is A or B, whichever of the two answers that the question compares has these words more often,
    case aside; tie where both do, and where it compares none. Of sentences and words, equally long ones count in their
    order; "" where there are not so many. In an answer that begins as JSON they are escaped as texts of JSON are.
    """
    answer = _BETTER.sub(lambda match: _better(match[1], question), answer)
    if not _FIELD.search(answer):
        return answer
    written = re.match(r"\s*(?:\[|\{(?!\{))", answer) is not None
    found = {"sentence": _longest(sentences(question)), "word": _longest(words(question))}

    def taken(match: re.Match[str]) -> str:
        place = int(match[2]) - 1
        text = found[match[1]][place] if place < len(found[match[1]]) else ""
        return json.dumps(text, ensure_ascii=False)[1:-1] if written else text

    return _FIELD.sub(taken, answer)


def sentences(text: str) -> list[str]:
    """A text's sentences and lines, without white space around."""
    return [part.strip() for part in _SENTENCE_END.split(text) if part.strip()]


def words(text: str) -> list[str]:
    """A text's words: letters with their signs, and digits."""
    marked = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in text)
    return marked.split()


def _better(wanted: str, question: str) -> str:
    """Which of the answers that the question compares has the wanted words more often."""
    counts = [text.casefold().count(wanted.casefold()) for text in compared(question) or ("", "")]
    return "tie" if counts[0] == counts[1] else "A" if counts[0] > counts[1] else "B"


def _longest(texts: Sequence[str]) -> list[str]:
    return sorted(dict.fromkeys(texts), key=len, reverse=True)
