from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import least_squares, lsq_linear

from aasut.economics.curves import Curves, Prior, Problem

PRIOR = Prior()
SIZE, WEIGHTS = np.array([50.0, 100, 200, 400]), np.array([8000.0, 9000, 9500, 12000])


def curve(limit: float, chance: float, half: float, exponent: float) -> Curves:
    return Curves(*(np.array([value]) for value in (limit, chance, half, exponent)))


def directly(
    error: np.ndarray, chance: float, moved: tuple[float, float, float] = (0, 0, 0)
) -> tuple[float, list[float]]:
    """(least sum of squares, [limit, half, exponent]) by scipy over all three unknowns at once, from many starts."""

    def apart(v: np.ndarray) -> np.ndarray:
        limit, half, exponent = v[0], math.exp(v[1]), math.exp(v[2])
        model = limit + (chance - limit) / (1 + (SIZE / half) ** exponent)
        priors = [
            (limit / chance - PRIOR.limit[0]) / PRIOR.limit[1] - moved[0],
            math.log(half / SIZE[-1] / PRIOR.half[0]) / math.log(PRIOR.half[1]) - moved[1],
            math.log(exponent / PRIOR.exponent[0]) / math.log(PRIOR.exponent[1]) - moved[2],
        ]
        return np.concatenate([np.sqrt(WEIGHTS) * (model - error), priors])

    starts = [[0.5 * chance, math.log(h), math.log(b)] for h in (5, 40, 400, 4000) for b in (0.3, 1.0)]
    bounds = ([0, -20, -5], [chance, 20, 5])
    found = min(
        (least_squares(apart, s, bounds=bounds, xtol=1e-15, ftol=1e-15, gtol=1e-15) for s in starts),
        key=lambda one: one.cost,
    )
    return 2 * found.cost, [found.x[0], math.exp(found.x[1]), math.exp(found.x[2])]


@pytest.mark.parametrize(
    "error", [[0.35, 0.3, 0.24, 0.2], [0.41, 0.39, 0.4, 0.37], [0.2, 0.15, 0.13, 0.12], [0.1, 0.2, 0.3, 0.38]]
)
def test_the_fit_is_the_one_that_scipy_finds_over_all_unknowns(error: list[float]) -> None:
    found = Problem(SIZE, WEIGHTS).exactly(np.array(error), 0.4)
    least, best = directly(np.array(error), 0.4)
    _, squares = Problem(SIZE, WEIGHTS).projected(np.array(error), 0.4, np.zeros(3), found.half, found.exponent)
    assert squares[0] == pytest.approx(least, rel=1e-8)
    assert [found.limit[0], found.half[0], found.exponent[0]] == pytest.approx(best, rel=1e-4)


def test_the_inner_problem_is_bounded_linear_least_squares() -> None:
    random = np.random.default_rng(3)
    half, exponent = np.array([3.0, 80.0, 900.0]), np.array([0.3, 0.8, 2.0])
    for _ in range(30):
        error, chance, moved = random.uniform(0, 0.6, 4), random.uniform(0.2, 0.6), random.standard_normal(3)
        limit, _ = Problem(SIZE, WEIGHTS).projected(error, chance, moved, half, exponent)
        for i in range(3):
            left = 1 / (1 + (SIZE / half[i]) ** exponent[i])
            width = PRIOR.limit[1] * chance
            matrix = np.append(np.sqrt(WEIGHTS) * (1 - left), 1 / width)[:, None]
            wanted = np.append(np.sqrt(WEIGHTS) * (error - chance * left), PRIOR.limit[0] / PRIOR.limit[1] + moved[0])
            best = lsq_linear(matrix, wanted, (0, chance), tol=1e-14).x[0]
            assert limit[i] == pytest.approx(best, abs=1e-8)


def test_rows_on_the_grid_are_near_the_best_ones() -> None:
    """Within half a unit of a sum of squares in which every deviation counts one."""
    random = np.random.default_rng(5)
    true = curve(0.1, 0.4, 150.0, 0.7)
    error = np.array([1 - true.accuracy(n)[0] for n in SIZE]) + random.standard_normal((6, 4)) / np.sqrt(WEIGHTS)
    moved = random.standard_normal((3, 6))
    found = Problem(SIZE, WEIGHTS).on_grid(error, np.full(6, 0.4), moved)
    for i in range(6):
        least, _ = directly(error[i], 0.4, tuple(moved[:, i]))
        args = (error[i], 0.4, moved[:, i], found.half[i : i + 1], found.exponent[i : i + 1])
        assert Problem(SIZE, WEIGHTS).projected(*args)[1][0] <= least + 0.5


def test_many_answers_give_the_inverse_power_law_and_none_give_chance() -> None:
    found = curve(0.05, 0.4, 60.0, 0.5)
    scale = (0.4 - 0.05) * 60**0.5
    for n in (1e8, 1e9):
        assert 1 - found.accuracy(n)[0] - 0.05 == pytest.approx(scale * n**-0.5, rel=2e-3)
    assert found.accuracy(1e-12)[0] == pytest.approx(0.6, abs=1e-5)
    assert found.accuracy(60)[0] == pytest.approx(1 - 0.05 - 0.35 / 2)


def test_answers_for_an_accuracy_are_the_inverse() -> None:
    found = curve(0.05, 0.4, 60.0, 0.5)
    for accuracy in (0.7, 0.9, 0.94):
        assert found.accuracy(found.examples(accuracy)[0])[0] == pytest.approx(accuracy)
    assert found.examples(0.6)[0] == pytest.approx(0, abs=1e-9)
    assert found.examples(0.3)[0] == 0
    assert math.isinf(found.examples(0.96)[0])
