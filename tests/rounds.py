"""Plays the teacher for one kind of what is written, answer by answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from aasut.synthesize.writing import Made, Writing
from aasut.types import Completion, Request


def said(answer: Any, finish: str = "stop", failure: str = "") -> Completion:
    """A completion of a text, or of JSON."""
    text = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
    return Completion(text, finish_reason=finish, failure=failure)


def play(writing: Writing, *rounds: Sequence[Completion]) -> tuple[Made, list[list[Request]]]:
    """What is made of these answers, and what was asked in each round."""
    asked = [next(writing)]
    for answers in rounds:
        assert len(answers) == len(asked[-1])
        try:
            asked.append(writing.send(list(answers)))
        except StopIteration as end:
            return end.value, asked
    raise AssertionError(f"there is a further round: {asked[-1]}")
