"""Clustered standard errors against statsmodels, and what has no error bar."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm

from aasut.errors import DataError
from aasut.evaluate import clustered, metrics

RNG = np.random.default_rng(1)
GROUPS = RNG.integers(0, 17, 120)
SCORES = RNG.normal(0.4, 0.1, 17)[GROUPS] + RNG.normal(0, 0.1, 120)
OTHERS = SCORES + RNG.normal(0.02, 0.05, 120)


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_a_mean_is_least_squares_on_a_constant(confidence: float) -> None:
    found = clustered.mean(SCORES, GROUPS.tolist(), confidence)
    theirs = sm.OLS(SCORES, np.ones(120)).fit(cov_type="cluster", cov_kwds={"groups": GROUPS}, use_t=True)
    assert found.value == pytest.approx(theirs.params[0], abs=1e-8)
    assert found.standard_error == pytest.approx(theirs.bse[0], abs=1e-8)
    assert [found.lower, found.upper] == pytest.approx(theirs.conf_int(1 - confidence)[0].tolist(), abs=1e-8)
    assert (found.n, found.groups, found.confidence) == (120, len(set(GROUPS.tolist())), confidence)


def test_a_difference_is_paired() -> None:
    found = clustered.difference(SCORES, OTHERS, GROUPS.tolist())
    theirs = sm.OLS(SCORES - OTHERS, np.ones(120)).fit(cov_type="cluster", cov_kwds={"groups": GROUPS}, use_t=True)
    assert found.standard_error == pytest.approx(theirs.bse[0], abs=1e-8)
    assert [found.lower, found.upper] == pytest.approx(theirs.conf_int()[0].tolist(), abs=1e-8)
    assert found.standard_error < clustered.mean(SCORES, GROUPS.tolist()).standard_error


def test_items_of_their_own_give_the_plain_standard_error() -> None:
    found = clustered.mean(SCORES, range(120))
    assert found.standard_error == pytest.approx(SCORES.std(ddof=1) / np.sqrt(120), abs=1e-12)


def test_the_design_effect_is_the_same_variance() -> None:
    right = SCORES > 0.4
    effect = metrics.design_effect(right.astype(float), metrics.group_index(GROUPS.tolist(), 120))
    apart, together = (clustered.mean(right.astype(float), g).standard_error for g in (range(120), GROUPS.tolist()))
    assert effect == pytest.approx((together / apart) ** 2, abs=1e-10)


@pytest.mark.parametrize(
    ("values", "groups"),
    [
        ([0.5], ["a"]),
        ([0.5, 0.6], ["a", "a"]),
        ([0.1] * 30, range(30)),
        ([0.1, 0.3, 0.1, 0.3], ["a", "a", "b", "b"]),
    ],
)
def test_no_error_bar_is_never_one_without_width(values: list[float], groups: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        clustered.mean(values, groups)
    assert caught.value.remedy


def test_scores_are_paired_one_by_one() -> None:
    with pytest.raises(DataError, match="9 scores are paired with 8"):
        clustered.difference([0.1] * 9, [0.2] * 8, range(9))
