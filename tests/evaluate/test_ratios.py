"""Ratios of sums: against least squares, and the interval's coverage."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm

from aasut.errors import DataError
from aasut.evaluate.ratios import ratio

RNG = np.random.default_rng(1)


def test_value_and_error_are_those_of_weighted_least_squares() -> None:
    """Bits per byte of each document, weighted by bytes, on a constant: the same ratio, and its robust error (HC0)."""
    size = RNG.integers(20, 4000, 40).astype(float)
    cost = size * RNG.normal(1.2, 0.3, 40)
    found = ratio(cost, size, 0.9)
    theirs = sm.WLS(cost / size, np.ones(40), weights=size).fit(cov_type="HC0")
    assert found.value == pytest.approx(float(theirs.params[0]))
    assert found.standard_error == pytest.approx(float(theirs.bse[0]) * np.sqrt(40 / 39))
    assert found.upper - found.value == pytest.approx(found.value - found.lower)
    assert found.documents == 40


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    draw, held = np.random.default_rng(3), 0
    for _ in range(2000):
        size = draw.gamma(2.0, 500.0, 30)
        after = size * draw.normal(1.1, 0.2, 30)
        found = ratio(after, size)
        held += found.lower <= 1.1 <= found.upper
    assert 0.925 < held / 2000 < 0.965


def test_a_common_factor_has_no_error() -> None:
    before = RNG.gamma(2.0, 500.0, 9)
    found = ratio(0.8 * before, before)
    assert (found.value, found.standard_error) == (pytest.approx(0.8), pytest.approx(0.0, abs=1e-12))


@pytest.mark.parametrize(("above", "below"), [([1.0], [2.0]), ([1.0, 2.0], [0.0, 0.0]), ([1.0, 2.0], [1.0])])
def test_what_has_no_error_bar_is_refused(above: list[float], below: list[float]) -> None:
    with pytest.raises(DataError) as caught:
        ratio(above, below)
    assert caught.value.remedy
