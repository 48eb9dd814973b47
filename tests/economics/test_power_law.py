from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import least_squares

from aasut.economics import power_law


def directly(x, y, weights, start):
    """All unknowns at once, by scipy: constant, scales at the middle of x, exponents."""
    terms = len(x)
    middle = [np.exp(np.log(values).mean()) for values in x]

    def apart(v):
        model = v[0] + sum(v[1 + i] * (x[i] / middle[i]) ** -v[1 + terms + i] for i in range(terms))
        return weights * (model - y)

    low = [0.0] * (1 + terms) + [power_law.EXPONENTS[0]] * terms
    high = [np.inf] * (1 + terms) + [power_law.EXPONENTS[1]] * terms
    return least_squares(apart, start, bounds=(low, high), xtol=1e-15, ftol=1e-15, gtol=1e-15, max_nfev=20_000)


def test_one_term_is_recovered_exactly() -> None:
    x = np.array([10.0, 30, 100, 300, 1000])
    found = power_law.fit([x], 0.1 + 2 * x**-0.7, np.ones(5))
    assert found.constant == pytest.approx(0.1, abs=1e-8)
    assert found.scales[0] == pytest.approx(2, rel=1e-7)
    assert found.exponents[0] == pytest.approx(0.7, rel=1e-7)
    assert found.at(50.0) == pytest.approx(0.1 + 2 * 50**-0.7, abs=1e-8)


@pytest.mark.parametrize("seed", range(4))
def test_it_finds_what_a_search_of_all_unknowns_finds(seed: int) -> None:
    random = np.random.default_rng(seed)
    n, d = (np.tile(np.geomspace(1e7, 1e9, 4), 4), np.repeat(np.geomspace(1e8, 1e10, 4), 4))
    y = (1.7 + 400 * n**-0.34 + 410 * d**-0.28) * np.exp(0.01 * random.standard_normal(16))
    found = power_law.fit([n, d], y, 1 / y)
    middle = [np.exp(np.log(v).mean()) for v in (n, d)]
    scales = [s * m**-e for s, m, e in zip(found.scales, middle, found.exponents, strict=True)]
    others = [directly([n, d], y, 1 / y, [1.5, *start]) for start in ((0.5, 0.5, 0.3, 0.3), (1.0, 0.2, 0.6, 0.2))]
    best = min(others, key=lambda one: one.cost)
    assert found.cost == pytest.approx(best.cost, rel=1e-8)
    assert [found.constant, *scales, *found.exponents] == pytest.approx(list(best.x), rel=1e-5)


def test_no_coefficient_is_negative() -> None:
    x = np.array([10.0, 30, 100, 300, 1000])
    rising = power_law.fit([x], 0.1 + 0.01 * np.log(x), np.ones(5))
    assert rising.scales == (0.0,)
    assert rising.constant == pytest.approx((0.1 + 0.01 * np.log(x)).mean())
    steep = power_law.fit([x], np.maximum(x**-0.5 - 0.02, 0), np.ones(5))
    assert steep.constant >= 0


def test_a_search_near_the_answer_ends_at_it() -> None:
    x = np.array([10.0, 30, 100, 300, 1000])
    y = 0.1 + 2 * x**-0.7 + np.array([0.01, -0.01, 0.005, 0.0, -0.004])
    whole, near = power_law.fit([x], y, np.ones(5)), power_law.fit([x], y, np.ones(5), [0.6])
    assert near.cost == pytest.approx(whole.cost, rel=1e-9)
