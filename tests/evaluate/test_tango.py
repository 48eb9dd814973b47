"""Tango's score and interval against the quartic of Yang, Sun & Hardin, and a published example."""

from __future__ import annotations

import pytest
from quartic import quartic
from scipy.stats import norm
from statsmodels.stats.contingency_tables import mcnemar

from aasut.evaluate import tango


@pytest.mark.parametrize(
    ("b", "c", "n", "z"),
    [
        (40, 20, 160, 1.96),
        (1, 7, 21, 1.96),
        (6, 16, 161, 1.96),
        (53, 61, 946, 1.645),
        (0.5, 3.25, 80.5, 1.7),
        (9, 4, 13, 1),
    ],
)
def test_tango_equals_the_closed_form(b: float, c: float, n: float, z: float) -> None:
    lower, upper = tango.lower(b, c, n, z), -tango.lower(c, b, n, z)
    roots = quartic(b, c, n, z)
    assert lower == pytest.approx(roots[0], abs=1e-8)
    assert upper == pytest.approx(roots[-1], abs=1e-8)
    assert lower < (b - c) / n < upper


def test_tango_where_one_side_is_empty() -> None:
    z = 1.96
    assert tango.lower(0, 0, 50, z) == pytest.approx(-(z**2) / (50 + z**2), abs=1e-10)
    assert tango.lower(0, 30, 30, z) == -1
    assert tango.lower(30, 0, 30, z) == pytest.approx((30 - z**2) / (30 + z**2), abs=1e-10)
    assert tango.lower(8, 0, 30, z) == pytest.approx(quartic(8, 0, 30, z)[0], abs=1e-8)


def test_published_example() -> None:
    # Airway reactivity before and after transplantation (Bentur 2009): 1 and 7 discordant of 21; Tango's 95 %
    # interval as in Fagerland, Lydersen & Laake (2014), Statistics in Medicine 33.
    z = norm.ppf(0.975)
    assert tango.lower(1, 7, 21, z) == pytest.approx(-0.517, abs=5e-4)
    assert -tango.lower(7, 1, 21, z) == pytest.approx(-0.026, abs=5e-4)


def test_mcnemar_is_exact() -> None:
    assert tango.mcnemar(0, 0) == 1.0
    assert tango.mcnemar(1, 7) == pytest.approx(2 * 9 / 256)
    assert tango.mcnemar(5, 5) == 1.0
    assert tango.mcnemar(9, 21) == pytest.approx(mcnemar([[50, 9], [21, 20]], exact=True).pvalue, abs=1e-8)


def test_the_score_is_what_the_bound_solves_for() -> None:
    for z in (0.5, 1.645, 2.6):
        assert tango.score(30, 41, 300, tango.lower(30, 41, 300, z)) == pytest.approx(z, abs=1e-8)
    assert tango.score(30, 41, 300, (30 - 41) / 300) == pytest.approx(0, abs=1e-12)
    theirs = mcnemar([[0, 30], [41, 0]], exact=False, correction=False).statistic
    assert tango.score(30, 41, 300, 0) == pytest.approx(-(theirs**0.5), abs=1e-8)
    assert tango.score(0, 0, 50, 0) == 0
    assert tango.score(50, 0, 50, 1) == 0
