from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import bdtr

from aasut.evaluate import audits
from aasut.evaluate.certify import Target
from aasut.evaluate.verdict import Answers
from aasut.prompts import PromptTemplate
from aasut.tasks import Generate
from aasut.types import Example

WISH = Target("selective", 0.05, 0.9)


def answers(student: list[str], teacher: list[str], groups: int | None = None) -> Answers:
    task = Generate(PromptTemplate.of("{text}"), 8)
    count = len(student)
    examples = [Example(str(i), {"text": "t"}, f"g{i % (groups or count)}", "a") for i in range(count)]
    return Answers(task, examples, {"student": student, "teacher": teacher}, {})


def expected(found: Answers, scores: Any = None, target: Target = WISH, against: str = "human") -> Any:
    scores = np.ones(len(found.examples)) if scores is None else np.array(scores)
    return audits.expected(found, scores, 0.5, target, against, 1)


def test_agreement_with_the_teacher_is_watched_as_promised() -> None:
    assert expected(answers(["a"], ["b"]), against="teacher") == {"risk": 0.05, "confidence": 0.9}
    system = Target("system", 0.05, 0.9)
    assert expected(answers(["a"] * 20, ["a"] * 20), target=system, against="teacher")["accepted"] == 20


def test_the_share_that_differs_is_bounded_at_half_the_level() -> None:
    found = expected(answers(["a"] * 100, ["a"] * 93 + ["b"] * 7))
    assert (found["accepted"], found["differed"]) == (100, 7)
    assert bdtr(7, 100, found["risk"]) == pytest.approx(0.05)  # Clopper and Pearson's definition
    assert found["confidence"] == pytest.approx(0.95)


def test_only_accepted_answers_that_can_be_compared_count() -> None:
    found = expected(answers(["a", "a", "", "a", "a"], ["a", "", "a", "b", "b"]), scores=[1, 1, 1, 0.5, 0.4])
    assert (found["accepted"], found["differed"]) == (2, 1)


def test_rows_of_one_group_count_once() -> None:
    found = expected(answers(["a"] * 90, ["a"] * 90, groups=30))
    assert (found["accepted"], found["differed"]) == (30, 0)


@pytest.mark.parametrize("scores", [[0.1, 0.2], [0.9, 0.1]])
def test_nothing_to_compare_cannot_be_watched(scores: list[float]) -> None:
    assert expected(answers(["a", "a"], ["b", "b"]), scores=scores) is None


def test_the_bound_holds_as_often_as_it_says() -> None:
    counts = np.random.default_rng(0).binomial(60, 0.1, size=2000)
    held = np.mean([audits.upper_bound(int(count), 60, 0.9) >= 0.1 for count in counts])
    assert held >= 0.9 - 3 * np.sqrt(0.09 / 2000)
