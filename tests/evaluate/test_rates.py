"""A judged share put right: Rogan & Gladen's value, Lang & Reiczigel's interval, its coverage, and refusals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from aasut.errors import DataError
from aasut.evaluate import rates


def of(successes: int, n: int) -> rates.Rate:
    return rates.rate([True] * successes + [False] * (n - successes), range(n))


def published(x: int, n: int, tp: int, positives: int, tn: int, negatives: int) -> tuple[float, float]:
    """The interval in counts, as Lang & Reiczigel's section 2.3 has it."""
    z = stats.norm.ppf(0.975)
    p, se, sp = (x + z * z / 2) / (n + z * z), (tp + 1) / (positives + 2), (tn + 1) / (negatives + 2)
    share = (p + sp - 1) / (se + sp - 1)
    a, b = se * (1 - se) / (positives + 2), sp * (1 - sp) / (negatives + 2)
    centre = share + 2 * z * z * (share * a - (1 - share) * b)
    error = math.sqrt((p * (1 - p) / (n + z * z) + share**2 * a + (1 - share) ** 2 * b) / (se + sp - 1) ** 2)
    return max(centre - z * error, 0.0), min(centre + z * error, 1.0)


@pytest.mark.parametrize(
    "counts", [(259, 4910, 178, 181, 744, 758), (700, 1000, 85, 100, 40, 50), (120, 200, 60, 70, 25, 30)]
)
def test_agrees_with_the_published_formulas(counts: tuple[int, ...]) -> None:
    x, n, tp, positives, tn, negatives = counts
    found = rates.correct(of(x, n), of(tp, positives), of(tn, negatives))
    q, se, sp = x / n, tp / positives, tn / negatives
    assert found.value == pytest.approx((q + sp - 1) / (se + sp - 1), abs=1e-12)
    assert (found.lower, found.upper) == pytest.approx(published(*counts), abs=1e-8)
    wilson = stats.binomtest(x, n).proportion_ci(method="wilson")
    assert found.raw.as_list() == pytest.approx([q, wilson.low, wilson.high], abs=1e-10)


def draw(rng: Any, n: int, share: float, sensitivity: float, specificity: float) -> Any:
    truth = rng.random(n) < share
    return truth, np.where(truth, rng.random(n) < sensitivity, rng.random(n) > specificity)


@pytest.mark.parametrize(("share", "sensitivity", "specificity"), [(0.8, 0.9, 0.8), (0.9, 0.85, 0.8)])
def test_covers_the_truth_where_the_raw_share_does_not(share: float, sensitivity: float, specificity: float) -> None:
    rng, covered, raw_covered = np.random.default_rng(8), 0, 0
    for _ in range(300):
        truth, said = draw(rng, 150, share, sensitivity, specificity)
        _, more = draw(rng, 1000, share, sensitivity, specificity)
        found = rates.correct(rates.rate(more, range(1000)), *rates.errors(truth, said, range(150)))
        covered += found.lower <= share <= found.upper
        raw_covered += found.raw.lower <= share <= found.raw.upper
    assert covered / 300 >= 0.93 - 0.015
    assert raw_covered / 300 < 0.5


def test_groups_widen() -> None:
    rng = np.random.default_rng(1)
    said = rng.random(100) < 0.7
    alone = rates.rate(np.repeat(said, 4).tolist(), range(400))
    grouped = rates.rate(np.repeat(said, 4).tolist(), np.repeat(np.arange(100), 4).tolist())
    assert grouped.effective == pytest.approx(100, rel=0.02)
    assert grouped.upper - grouped.lower > 1.9 * (alone.upper - alone.lower)


def test_a_judge_that_never_erred_keeps_an_error_bar() -> None:
    found = rates.correct(of(900, 1000), of(100, 100), of(12, 12))
    assert found.value == pytest.approx(0.9)
    assert found.upper - found.lower > 0.05
    assert found.specificity.lower < 0.8


def test_a_judge_no_better_than_chance_is_refused_or_says_nothing() -> None:
    with pytest.raises(DataError, match="no better than chance"):
        rates.correct(of(50, 100), of(60, 100), of(40, 100))
    doubtful = rates.correct(of(50, 100), of(60, 100), of(6, 12))
    assert (doubtful.lower, doubtful.upper) == (0, 1)


def test_needs_right_and_wrong_answers() -> None:
    with pytest.raises(DataError, match="Humans call 1 of 20 answers wrong"):
        rates.errors([True] * 19 + [False], [True] * 20, range(20))
    with pytest.raises(DataError, match="Humans call 0 of 20 answers right"):
        rates.errors([False] * 20, [True] * 20, range(20))
    sensitivity, specificity = rates.errors([True] * 4 + [False] * 4, [True, True, True, False] * 2, range(8))
    assert (sensitivity.value, specificity.value) == (0.75, 0.25)
