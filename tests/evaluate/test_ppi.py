"""PPI++ against figures of ppi-python, Welch's interval and its own coverage; refusals and degenerate outcomes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from aasut.errors import DataError
from aasut.evaluate import ppi

PLACE, PLACE_REST = np.arange(120), np.arange(1000)
HUMAN = np.sin(PLACE) + PLACE / 60
JUDGED = HUMAN + np.cos(3 * PLACE) / 2
REST = np.sin(PLACE_REST * 0.7) + PLACE_REST / 500
# ppi_mean_pointestimate and the standard error in ppi_mean_ci of ppi-python 0.2.3, by lambda
PUBLISHED = {
    0.0: (0.9906647011154139, 0.08156216979609353),
    0.35: (0.9933829453207368, 0.055244563442204436),
    1.0: (0.9984311131306224, 0.043573200777952084),
}


def fixed(weight: float, y: Any = HUMAN, f: Any = JUDGED, rest: Any = REST, *, binary: bool = False) -> Any:
    """Value, lower, upper at a fixed lambda, items independent."""
    zeros = np.zeros(len(y), np.int64), np.zeros(len(rest), np.int64)
    own = np.arange(len(y)), np.arange(len(rest))
    return ppi.with_weights(y, f, rest, np.full(len(y), weight), zeros, own, binary, 0.95)


@pytest.mark.parametrize("weight", PUBLISHED)
def test_agrees_with_ppi_python_at_a_fixed_weight(weight: float) -> None:
    value, error = PUBLISHED[weight]
    labelled, imputed = (HUMAN - weight * JUDGED).var() / 120, weight**2 * REST.var() / 1000
    assert error == pytest.approx(np.sqrt(labelled + imputed), abs=1e-12)  # ppi-python divides by n, not n - 1
    found, lower, upper = fixed(weight)
    assert found == pytest.approx(value, abs=1e-12)
    assert (lower + upper) / 2 == pytest.approx(value, abs=1e-12)
    parts = labelled * 120 / 119, imputed * 1000 / 999
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 119 + parts[1] ** 2 / 999)
    assert upper - lower == pytest.approx(2 * stats.t.ppf(0.975, freedom) * np.sqrt(sum(parts)), abs=1e-12)


def test_at_weight_one_it_is_welchs_interval_of_two_means() -> None:
    welch = stats.ttest_ind(HUMAN - JUDGED, -REST, equal_var=False).confidence_interval(0.95)
    assert fixed(1.0)[1:] == pytest.approx((welch.low, welch.high), abs=1e-10)


def test_the_classical_interval_is_students() -> None:
    found = ppi.estimate(HUMAN, JUDGED, REST)
    student = stats.t.interval(0.95, 119, HUMAN.mean(), stats.sem(HUMAN))
    assert found.classical == pytest.approx((HUMAN.mean(), *student), abs=1e-12)
    assert found.upper - found.lower < student[1] - student[0]
    assert 0 < found.weight < 1


def test_a_binary_interval_is_of_the_items_with_half_an_imaginary_one_of_each_pair() -> None:
    y, f, rest = draw(np.random.default_rng(3), 150, 900, 0.9, 0.9, 0.8)
    value, lower, upper = fixed(0.6, y, f, rest, binary=True)
    twice = np.concatenate([np.repeat(y, 2), [0, 1, 0, 1]]) - 0.6 * np.concatenate([np.repeat(f, 2), [0, 0, 1, 1]])
    centre = twice.mean() + 0.6 * rest.mean()
    labelled = ((y - 0.6 * f).var(ddof=0) * 150 * 150 / 149 + extra(y, f)) / 152**2
    imputed = 0.36 * rest.var(ddof=1) / 900
    freedom = (labelled + imputed) ** 2 / (labelled**2 / 149 + imputed**2 / 899)
    half = stats.t.ppf(0.975, freedom) * np.sqrt(labelled + imputed)
    assert value == pytest.approx(0.6 * rest.mean() + (y - 0.6 * f).mean(), abs=1e-12)
    assert (lower, upper) == pytest.approx((centre - half, centre + half), abs=1e-12)


def extra(y: Any, f: Any) -> float:
    """Squares that the imaginary items add around the new mean."""
    residual, corners = y - 0.6 * f, np.array([0, 1, -0.6, 0.4])
    mean = (residual.sum() + corners.sum() / 2) / 152
    return float(((residual - mean) ** 2).sum() + ((corners - mean) ** 2).sum() / 2 - 150 * residual.var())


def draw(rng: Any, n: int, more: int, share: float, sensitivity: float, specificity: float) -> Any:
    y = rng.random(n + more) < share
    f = np.where(y, rng.random(n + more) < sensitivity, rng.random(n + more) > specificity)
    return y[:n].astype(float), f[:n].astype(float), f[n:].astype(float)


@pytest.mark.parametrize(("n", "share"), [(100, 0.95), (200, 0.95), (100, 0.1)])
def test_covers_skewed_outcomes_and_beats_the_human_labels_alone(n: int, share: float) -> None:
    rng, covered, narrower, values = np.random.default_rng(5), 0, [], []
    for _ in range(250):
        found = ppi.estimate(*draw(rng, n, 2000, share, 0.97, 0.9))
        covered += found.lower <= share <= found.upper
        narrower.append((found.upper - found.lower) / (found.classical[2] - found.classical[1]))
        values.append(found.value)
    assert covered / 250 >= 0.93 - 0.014  # a Monte-Carlo error
    assert np.mean(narrower) < 0.9
    assert np.mean(values) == pytest.approx(share, abs=4 * np.std(values) / 250**0.5)


def test_a_useless_judge_is_not_used() -> None:
    rng = np.random.default_rng(0)
    found = ppi.estimate(*draw(rng, 300, 3000, 0.8, 0.5, 0.5))
    assert found.weight < 0.1
    assert found.upper - found.lower < 1.05 * (found.classical[2] - found.classical[1])
    wrong = ppi.estimate(*draw(rng, 300, 3000, 0.8, 0.05, 0.05))
    assert wrong.weight == 0  # no negative weights


def test_an_items_weight_does_not_depend_on_its_own_fold() -> None:
    y, f, _ = draw(np.random.default_rng(1), 120, 10, 0.7, 0.9, 0.9)
    one, own = np.zeros(120, np.int64), np.arange(120)
    before = ppi.cross_fitted(y, f, np.array([1000]), one, own)
    y[7] = 1 - y[7]
    after = ppi.cross_fitted(y, f, np.array([1000]), one, own)
    assert after[7] == before[7]
    assert len(set(before)) == ppi.FOLDS
    changed = np.flatnonzero(after != before)
    assert 7 not in changed
    assert len(changed) == 96


def test_outcomes_that_do_not_vary_keep_an_error_bar_or_are_refused() -> None:
    ones = np.ones(100)
    for rest in (np.ones(500), np.repeat([0.0, 1.0], 250)):
        found = ppi.estimate(ones, ones, rest)
        assert found.value == 1
        assert found.lower == pytest.approx(stats.binomtest(100, 100).proportion_ci(method="wilson").low, abs=1e-12)
        assert found.classical == (1, found.lower, 1)
        assert found.upper == 1
        assert found.weight == 0
    y, f, rest = draw(np.random.default_rng(2), 100, 100_000, 0.9, 1, 1)  # a judge that never erred on 100
    found = ppi.estimate(y, f, rest)
    assert found.upper - found.lower > 0.03
    with pytest.raises(DataError, match="All 120 human outcomes are equal"):
        ppi.estimate(np.full(120, 0.5), JUDGED, REST)
    with pytest.raises(DataError, match="All 120 differences"):
        ppi.estimate(HUMAN, HUMAN, REST)


def test_groups_widen_and_may_not_be_on_both_sides() -> None:
    y, f, rest = draw(np.random.default_rng(4), 60, 500, 0.8, 0.9, 0.9)
    thrice, groups = np.repeat(y, 3), (np.repeat(np.arange(60), 3), np.arange(1000, 1500))
    alone = ppi.estimate(thrice, np.repeat(f, 3), rest)
    clustered = ppi.estimate(thrice, np.repeat(f, 3), rest, groups=groups)
    assert clustered.classical[2] - clustered.classical[1] > 1.6 * (alone.classical[2] - alone.classical[1])
    assert clustered.upper - clustered.lower > 1.3 * (alone.upper - alone.lower)
    with pytest.raises(DataError, match="Group 99 has labelled and unlabelled"):
        ppi.estimate(y[:1].repeat(100), y[:1].repeat(100), rest, groups=(np.arange(100), np.arange(99, 599)))


def test_strata_weigh_by_their_share_of_the_unlabelled() -> None:
    rng = np.random.default_rng(6)
    covered, plain_covered, ratio = 0, 0, []
    for _ in range(120):  # half the labels are of the rare, bad stratum
        strata = np.repeat([0, 1], 100), (rng.random(3000) < 0.1).astype(int)
        every = np.concatenate(strata)
        y = (rng.random(3200) < np.where(every, 0.4, 0.9)).astype(float)
        f = np.where(rng.random(3200) < 0.9, y, 1 - y)
        found = ppi.estimate(y[:200], f[:200], f[200:], strata=strata)
        plain = ppi.estimate(y[:200], f[:200], f[200:])
        covered += found.lower <= 0.85 <= found.upper
        plain_covered += plain.classical[1] <= 0.85 <= plain.classical[2]
        ratio.append((found.upper - found.lower) / (plain.classical[2] - plain.classical[1]))
    assert covered / 120 >= 0.93 - 0.02
    assert plain_covered < 12
    assert np.mean(ratio) < 0.8
    with pytest.raises(DataError, match="Stratum 1 has 100 human labels and 0 unlabelled"):
        ppi.estimate(y[:200], f[:200], f[200:], strata=(strata[0], np.zeros(3000)))
    with pytest.raises(DataError, match="Stratum 5 has 19 human labels"):
        ppi.estimate(y[:200], f[:200], f[200:], strata=(np.repeat([0, 5], [181, 19]), np.repeat([0, 5], 1500)))


def test_refuses_few_labels_and_bad_input() -> None:
    with pytest.raises(DataError, match="99 human labels are too few"):
        ppi.estimate(HUMAN[:99], JUDGED[:99], REST)
    with pytest.raises(DataError, match="120 human labels have 119"):
        ppi.estimate(HUMAN, JUDGED[1:], REST)
    with pytest.raises(DataError, match="1 unlabelled"):
        ppi.estimate(HUMAN, JUDGED, REST[:1])
    with pytest.raises(DataError, match="not a number"):
        ppi.estimate(HUMAN, JUDGED, np.array([np.nan, 1, 2]))
