"""Student and teacher on several metrics, each against the same margin, adjusted together by Holm's procedure.

Accuracy and exact match, which are right or wrong, have Tango's interval at the effective sample size, as the
verdict does (paired.py). All else has the BCa bootstrap over groups (bootstrap.py).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aasut.evaluate import bootstrap, holm, paired, scores
from aasut.evaluate.bootstrap import Sample
from aasut.evaluate.metrics import Floats, group_index
from aasut.evaluate.verdict import Answers


@dataclass(frozen=True, slots=True)
class Compared:
    """Student minus teacher on one metric, -1 to 1, with a two-sided interval and one-sided bounds.

    `p_value` is one-sided, of the hypothesis that the student is worse by the margin or more;
    `p_equal` is two-sided, of no difference.
    """

    name: str
    student: float
    teacher: float
    difference: float
    interval: tuple[float, float]
    lower_bound: float
    upper_bound: float
    p_value: float
    p_equal: float
    method: str


def table(
    answers: Answers, names: Sequence[str], margin: float, confidence: float, seed: int, extra: Sequence[Compared] = ()
) -> list[dict[str, Any]]:
    """Student against teacher by each of the metrics, and what was compared elsewhere, adjusted together.

    `non_inferior`: is the student's loss under the margin, with at most a chance of 1 - confidence
    that this is wrong anywhere in the table? Raises DataError where a metric cannot be scored.
    """
    found = [*(compare(answers, name, margin, confidence, seed) for name in names), *extra]
    adjusted = holm.adjusted([one.p_value for one in found])
    equal = holm.adjusted([one.p_equal for one in found])
    return [
        {
            "name": one.name,
            "student": one.student,
            "teacher": one.teacher,
            "difference": one.difference,
            "ci": list(one.interval),
            "lower_bound": one.lower_bound,
            "upper_bound": one.upper_bound,
            "p_value": one.p_value,
            "p_holm": p,
            "non_inferior": p <= 1 - confidence,
            "p_equal": one.p_equal,
            "p_equal_holm": q,
            "method": one.method,
        }
        for one, p, q in zip(found, adjusted, equal, strict=True)
    ]


def compare(answers: Answers, name: str, margin: float, confidence: float, seed: int) -> Compared:
    """Student against teacher by one metric."""
    if name in ("accuracy", "exact"):
        return _right_or_wrong(answers, name, margin, confidence)
    if name == "macro_f1":
        index = group_index(answers.groups, len(answers.examples))
        place = {answer: i for i, answer in enumerate(answers.task.answers)}
        gold, student_said, teacher_said = (
            np.array([place[answer] for answer in said], dtype=np.int64)
            for said in (answers.gold, answers.predicted["student"], answers.predicted["teacher"])
        )
        sample = bootstrap.of_macro_f1(gold, student_said, teacher_said, index)
        whole = sample.totals.sum(axis=0)[None]
        one, other = (float(bootstrap.macro_f1_of(whole, side)[0]) for side in (0, 1))
        return _resampled(name, one, other, sample, margin, confidence, seed)
    student, teacher = (
        scores.of_items(name, answers.task, answers.predicted[model], answers.gold) for model in ("student", "teacher")
    )
    return of_items(name, student, teacher, answers.groups, margin, confidence, seed)


def of_items(
    name: str,
    student: Floats,
    teacher: Floats,
    groups: Sequence[Hashable],
    margin: float,
    confidence: float,
    seed: int,
) -> Compared:
    """Student against teacher by scores of n items from elsewhere, each [n] and 0 to 1.

    For a judge's preference: 1 and 0 where the student wins, 0 and 1 where the teacher does, .5 and
    .5 for a tie. Raises DataError under two items or groups.
    """
    sample = bootstrap.of_mean(student - teacher, group_index(groups, len(student)))
    return _resampled(name, float(student.mean()), float(teacher.mean()), sample, margin, confidence, seed)


def _right_or_wrong(answers: Answers, name: str, margin: float, confidence: float) -> Compared:
    student, teacher = answers.correct("student"), answers.correct("teacher")
    found = paired.verdict(student, teacher, answers.groups, margin, confidence)
    pair = found.paired
    return Compared(
        name, float(np.mean(student)), float(np.mean(teacher)), pair.difference, (pair.lower, pair.upper),
        found.lower_bound, found.upper_bound, paired.p_at_most(pair, -margin), paired.p_equal(pair),
        f"Tango's score at the effective size, {pair.groups:,} groups",
    )  # fmt: skip


def _resampled(
    name: str, student: float, teacher: float, sample: Sample, margin: float, confidence: float, seed: int
) -> Compared:
    found = bootstrap.bca(sample, seed=seed)
    return Compared(
        name, student, teacher, found.estimate, found.interval(confidence), found.lower(confidence),
        found.upper(confidence), found.p_at_most(-margin), found.p_equal(0.0),
        f"BCa bootstrap of {found.groups:,} groups",
    )  # fmt: skip
