"""Two models on the same items: the difference of their accuracies, and whether one may replace the other.

The interval is Tango's (see tango.py) at the effective sample size (see metrics.py) of the per-item
differences, so that items of one group do not count as independent.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from aasut.errors import DataError
from aasut.evaluate import tango
from aasut.evaluate.metrics import design_effect, group_index, quantile
from aasut.evaluate.power import examples_needed

Result = Literal["non_inferior", "inferior", "undecided"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Accuracy of `a` minus accuracy of `b`, -1 to 1, with a two-sided interval at `confidence`.

    `only_a` and `only_b` count the items that one model alone has right; `discordance` is their
    share. `mcnemar_p` is exact and two-sided, and takes items as independent.
    """

    difference: float
    lower: float
    upper: float
    confidence: float
    n: int
    groups: int
    only_a: int
    only_b: int
    design_effect: float
    mcnemar_p: float

    @property
    def discordance(self) -> float:
        return (self.only_a + self.only_b) / self.n

    @property
    def better(self) -> bool:
        """Is `a` above `b` by more than the interval?"""
        return self.lower > 0

    def as_dict(self) -> dict[str, Any]:
        return {
            "difference": self.difference,
            "ci": [self.lower, self.upper],
            "confidence": self.confidence,
            "better": self.better,
            "n": self.n,
            "groups": self.groups,
            "discordance": self.discordance,
            "design_effect": self.design_effect,
            "mcnemar_p": self.mcnemar_p,
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """Student minus teacher against a margin fixed beforehand.

    `lower_bound` and `upper_bound` are one-sided, each at `paired.confidence`. `more_examples_needed`
    is 0 where the verdict is reached, None where more examples cannot be promised to help.
    """

    result: Result
    margin: float
    lower_bound: float
    upper_bound: float
    more_examples_needed: int | None
    paired: Comparison

    def as_dict(self) -> dict[str, Any]:
        pair = self.paired.as_dict()
        del pair["better"]
        return {
            "result": self.result,
            "margin": self.margin,
            "lower_bound": self.lower_bound,
            "upper_bound": self.upper_bound,
            "more_examples_needed": self.more_examples_needed,
            "sentence": verdict_sentence(self),
            **pair,
        }


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Which model to use, and why, in words."""

    use: Literal["student", "linear", "teacher"]
    sentence: str

    def as_dict(self) -> dict[str, Any]:
        return {"use": self.use, "sentence": self.sentence}


def compare(a: Sequence[bool], b: Sequence[bool], groups: Sequence[Hashable], confidence: float = 0.95) -> Comparison:
    """Accuracy of a minus accuracy of b on the same n items; a, b: is each item right?

    Raises DataError where the lengths differ or there are under two items or groups.
    """
    if len(a) != len(b):
        raise DataError(f"{len(a)} answers are paired with {len(b)}.", "Compare two models on the same items.")
    index = group_index(groups, len(a))
    difference = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    n, number = len(difference), int(index.max()) + 1
    only_a, only_b = int((difference > 0).sum()), int((difference < 0).sum())
    effect = design_effect(difference, index)
    z = quantile(1 - (1 - confidence) / 2, n, number)
    lower = tango.lower(only_a / effect, only_b / effect, n / effect, z)
    upper = -tango.lower(only_b / effect, only_a / effect, n / effect, z)
    return Comparison(
        (only_a - only_b) / n,
        lower,
        upper,
        confidence,
        n,
        number,
        only_a,
        only_b,
        effect,
        tango.mcnemar(only_a, only_b),
    )


def verdict(
    student: Sequence[bool],
    teacher: Sequence[bool],
    groups: Sequence[Hashable],
    margin: float,
    confidence: float = 0.95,
) -> Verdict:
    """Is the student less accurate than the teacher by less than `margin` (0 to 1)?

    `non_inferior` where the one-sided lower bound is above -margin, `inferior` where the one-sided
    upper bound is below it, else `undecided`. Raises what `compare` raises.
    """
    pair = compare(student, teacher, groups, confidence)
    z = quantile(confidence, pair.n, pair.groups)
    a, b, n = (count / pair.design_effect for count in (pair.only_a, pair.only_b, pair.n))
    lower, upper = tango.lower(a, b, n, z), -tango.lower(b, a, n, z)
    result: Result = "undecided"
    if lower > -margin:
        result = "non_inferior"
    elif upper < -margin:
        result = "inferior"
    more = more_examples(pair, margin) if result == "undecided" else 0
    return Verdict(result, margin, lower, upper, more, pair)


def p_at_most(pair: Comparison, value: float) -> float:
    """One-sided p of the hypothesis that the true difference is `value` or less: the one-sided bounds' own inverse."""
    from scipy.optimize import brentq

    a, b, n = (count / pair.design_effect for count in (pair.only_a, pair.only_b, pair.n))
    score = tango.score(a, b, n, value)

    def excess(tail: float) -> float:
        return quantile(tail, pair.n, pair.groups) + abs(score)

    smallest, half = 1e-15, 0.5 - 1e-12  # at .5 the quantile is 0 / 0
    if excess(half) <= 0:
        return 0.5
    tail = smallest if excess(smallest) >= 0 else float(brentq(excess, smallest, half, xtol=1e-16))
    return tail if score >= 0 else 1 - tail


def p_equal(pair: Comparison) -> float:
    """Two-sided p of no difference; McNemar's score test at the effective sample size."""
    below = p_at_most(pair, 0.0)
    return min(1.0, 2 * min(below, 1 - below))


def more_examples(pair: Comparison, margin: float) -> int | None:
    """Further items that an undecided verdict wants, at the observed difference and discordance (see power.py).

    None where the observed difference is at or beyond the margin.
    """
    if margin + pair.difference <= 1e-12:
        return None
    wanted = examples_needed(margin, pair.confidence, pair.discordance, pair.design_effect, pair.difference)
    return max(1, wanted - pair.n)


def points(value: float, *, signed: bool = False) -> str:
    """A share as percentage points: 0.0213 is "2.1 points"."""
    text = f"{value * 100:{'+' if signed else ''}.1f}".replace("-", "\N{MINUS SIGN}")
    return f"{text} point" if text in ("1.0", "+1.0", "\N{MINUS SIGN}1.0") else f"{text} points"


def _more_or_less(value: float) -> str:
    return "as accurate" if abs(value) < 5e-4 else f"{points(abs(value))} {'less' if value < 0 else 'more'} accurate"


def verdict_sentence(found: Verdict) -> str:
    """The verdict in words."""
    pair, margin = found.paired, points(found.margin)
    seen = f"On {pair.n:,} human answers in {pair.groups:,} groups it is {_more_or_less(pair.difference)}"
    bound = f"with {pair.confidence * 100:g} % confidence"
    if found.result == "non_inferior":
        worst = (
            f"at most {points(-found.lower_bound)} less"
            if found.lower_bound < 0
            else f"at least {points(found.lower_bound)} more"
        )
        return f"The student may replace the teacher. {seen}, {bound} {worst}; the margin is {margin}."
    if found.result == "inferior":
        return (
            f"The student is not good enough. {seen}, {bound} at least {points(-found.upper_bound)} less; "
            f"the margin is {margin}."
        )
    ask = (
        f"About {found.more_examples_needed:,} more human answers would decide it."
        if found.more_examples_needed is not None
        else "More human answers cannot be promised to help: the difference seen is not within the margin."
    )
    return (
        f"Not decided. {seen}, {bound} no worse than {points(found.lower_bound, signed=True)} and no better than "
        f"{points(found.upper_bound, signed=True)}; the margin is {margin}. {ask}"
    )


def recommend(found: Verdict, against_linear: Comparison | None) -> Recommendation:
    """Which model to use; `against_linear` is student minus linear model, None for a linear student.

    A linear model that is not clearly worse than the student is the cheaper of two equals. Where
    the student itself is not shown to be within the margin, the teacher stays.
    """
    proven = found.result == "non_inferior"
    shown = "not shown to be within" if found.result == "undecided" else "outside"
    if against_linear is not None and not against_linear.better:
        first = "The linear model is as good as the student, as far as these answers can tell"
        if against_linear.upper < 0:
            first = "The linear model is better than the student"
        seen = (
            f"{first}: student minus linear is {points(against_linear.difference, signed=True)}, "
            f"{against_linear.confidence * 100:g} % interval {points(against_linear.lower, signed=True)} to "
            f"{points(against_linear.upper, signed=True)}."
        )
        if proven:
            return Recommendation("linear", f"{seen} Use the linear model: it is the cheapest thing that works.")
        return Recommendation(
            "teacher",
            f"{seen} There is no reason to prefer the student, and it is {shown} the margin: keep the teacher.",
        )
    if proven:
        return Recommendation("student", "Use the student: it is within the margin of the teacher.")
    return Recommendation("teacher", f"Keep the teacher: the student is {shown} the margin.")
