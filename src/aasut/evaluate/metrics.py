"""How good answers are: accuracy with an interval clustered by group, per-class scores, calibration.

Items of one group (snippets of one review) are not independent, so counting them one by one would
give intervals that are too narrow. Survey practice: divide the number of items n by the design
effect, and use an interval for binomial proportions at that effective size. The effective size and
its correction for few groups are Korn & Graubard's (1998, Survey Methodology 24, 193-201), who use
it in the exact interval; Franco, Little, Louis & Slud (2019, Journal of Survey Statistics and
Methodology 7, 334-364) compare intervals at the effective size and recommend Wilson's, used here.
It has width even where all answers are right.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aasut.errors import DataError
from aasut.tasks import fields

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Share of right answers, 0 to 1, with a two-sided interval at `confidence`."""

    value: float
    lower: float
    upper: float
    confidence: float
    n: int
    groups: int
    design_effect: float

    def as_dict(self) -> dict[str, Any]:
        return {
            "accuracy": self.value,
            "ci95": [self.lower, self.upper],
            "confidence": self.confidence,
            "n": self.n,
            "groups": self.groups,
            "design_effect": self.design_effect,
        }


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One answer's scores, 0 to 1; `support` counts the items whose human answer it is."""

    answer: str
    precision: float
    recall: float
    f1: float
    support: int

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Calibration:
    """Expected calibration error and the bins it comes from, {"confidence", "accuracy", "n"} each."""

    error: float
    bins: tuple[dict[str, Any], ...]

    def as_dict(self) -> dict[str, Any]:
        return {"calibration_error": self.error, "reliability": [dict(b) for b in self.bins]}


def accuracy(correct: Sequence[bool], groups: Sequence[Hashable], confidence: float = 0.95) -> Accuracy:
    """Share of right answers over n items, with Wilson's interval at the effective sample size.

    correct, groups: one entry an item. Raises DataError where there are under two items or groups.
    """
    values = np.asarray(correct, dtype=np.float64)
    index = group_index(groups, len(values))
    effect = design_effect(values, index)
    n, number = len(values), int(index.max()) + 1
    z = quantile(1 - (1 - confidence) / 2, n, number)
    lower, upper = wilson(float(values.mean()), n / effect, z)
    return Accuracy(float(values.mean()), lower, upper, confidence, n, number, effect)


def group_index(groups: Sequence[Hashable], n: int) -> Counts:
    """Number of each item's group, 0 to G - 1, [n]. Raises DataError where no error bar can be had."""
    if len(groups) != n:
        raise DataError(f"{n} answers have {len(groups)} groups.", "Give one group for each answer.")
    if n < 2:
        raise DataError(f"{n} human answers are too few for an error bar.", "Give more human-labelled examples.")
    numbers: dict[Hashable, int] = {}
    index = np.array([numbers.setdefault(g, len(numbers)) for g in groups], dtype=np.int64)
    if len(numbers) < 2:
        raise DataError(
            f"All {n} human answers are of one group, {groups[0]!r}, so that no error bar can be had.",
            "Add examples of other groups, or declare a finer group column under data.tables[].group.",
        )
    return index


def design_effect(values: Floats, index: Counts) -> float:
    """Clustered variance of the mean over the variance of as many independent items, at least 1.

    values: [n]; index: [n], group numbers from 0. The clustered variance is
    G/(G-1) * sum_g (sum_{i in g} (x_i - mean))^2 / n^2 (CR1); independent items would give
    sum_i (x_i - mean)^2 / (n (n-1)). Where all values are equal, how alike a group's items are
    cannot be seen, and the largest possible effect is taken (a group's items are all alike):
    sum_g n_g^2 / n.
    """
    n, groups = len(values), int(index.max()) + 1
    residual = values - values.mean()
    squares = float(residual @ residual)
    if squares < 1e-12:
        sizes = np.bincount(index)
        return float((sizes**2).sum() / n)
    sums = np.bincount(index, weights=residual)
    clustered = groups / (groups - 1) * float(sums @ sums) / n**2
    return max(1.0, clustered / (squares / (n * (n - 1))))


def quantile(probability: float, n: int, groups: int) -> float:
    """Normal quantile, widened for the few degrees of freedom that G groups give.

    z * t_{G-1} / t_{n-1}, the same as Korn & Graubard's (1998) reduction of the effective size by
    (t_{n-1} / t_{G-1})^2; plain z where every item is a group of its own.
    """
    from scipy.special import ndtri, stdtrit

    return float(ndtri(probability) * stdtrit(groups - 1, probability) / stdtrit(n - 1, probability))


def wilson(proportion: float, n: float, z: float) -> tuple[float, float]:
    """Wilson's (1927) score interval of a proportion over n items; n need not be whole."""
    centre = (proportion + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * float(np.sqrt(proportion * (1 - proportion) / n + z**2 / (4 * n**2)))
    return min(max(0.0, centre - half), proportion), max(min(1.0, centre + half), proportion)  # rounding aside


def confusion(gold: Sequence[str], predicted: Sequence[str], answers: Sequence[str]) -> Counts:
    """Counts [answers, answers]: row the human answer, column the prediction.

    Raises DataError on an answer that is not in `answers`.
    """
    place = {answer: i for i, answer in enumerate(answers)}
    strange = sorted({a for a in (*gold, *predicted) if a not in place})
    if strange:
        raise DataError(f"{strange[0]!r} is none of the task's answers.", f"Answers: {', '.join(answers)}.")
    matrix = np.zeros((len(answers), len(answers)), dtype=np.int64)
    for human, model in zip(gold, predicted, strict=True):
        matrix[place[human], place[model]] += 1
    return matrix


def per_class(matrix: Counts, answers: Sequence[str]) -> list[ClassScore]:
    """Precision, recall and F1 of each answer from its confusion matrix; 0 where undefined."""
    hits = np.diag(matrix).astype(np.float64)
    given, held = matrix.sum(axis=0), matrix.sum(axis=1)
    precision = hits / np.maximum(given, 1)
    recall = hits / np.maximum(held, 1)
    f1 = 2 * hits / np.maximum(given + held, 1)
    return [
        ClassScore(answer, float(precision[i]), float(recall[i]), float(f1[i]), int(held[i]))
        for i, answer in enumerate(answers)
    ]


def macro_f1(matrix: Counts) -> float:
    """Mean F1 over the answers that occur, among human answers or predictions."""
    total = matrix.sum(axis=0) + matrix.sum(axis=1)
    if not total.any():
        raise DataError("There are no answers to score.", "Give human-labelled examples.")
    return float((2 * np.diag(matrix)[total > 0] / total[total > 0]).mean())


def field_accuracy(predicted: Sequence[str], gold: Sequence[str]) -> dict[str, float]:
    """Share of the items in which a field equals the human answer's, by field; JSON in its one written form.

    A field that the human answer lacks must be lacking in the prediction too. "", no answer, has no field right.
    """
    pairs = [(fields(p), fields(g)) for p, g in zip(predicted, gold, strict=True) if p]
    names = dict.fromkeys(name for answer in gold for name in fields(answer))
    return {name: sum(said.get(name) == wanted.get(name) for said, wanted in pairs) / len(gold) for name in names}


def calibration(confidence: Sequence[float], correct: Sequence[bool], bins: int = 10) -> Calibration:
    """Expected calibration error over equal-width bins of confidence.

    confidence: probability of each item's answer, 0 to 1, [n]; correct: is it right, [n]. Error: sum
    over bins of n_bin / n times |accuracy - mean confidence| (Guo et al. 2017, "On calibration of
    modern neural networks"). Empty bins are left out.
    """
    stated, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if len(stated) != len(right) or not len(right):
        raise DataError(f"{len(right)} answers have {len(stated)} confidences.", "Give one for each human answer.")
    which = np.minimum((stated * bins).astype(np.int64), bins - 1)
    found = [
        {"confidence": float(stated[m].mean()), "accuracy": float(right[m].mean()), "n": int(m.sum())}
        for m in (which == b for b in range(bins))
        if m.any()
    ]
    error = sum(b["n"] * abs(b["accuracy"] - b["confidence"]) for b in found) / len(right)
    return Calibration(float(error), tuple(found))
