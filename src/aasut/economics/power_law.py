"""Least squares for sums of power terms with coefficients that are not negative, by variable projection.

A model that is linear in some parameters is fitted by solving for these at given values of the others, and
searching the others alone (Golub & Pereyra 1973, SIAM Journal on Numerical Analysis 10, 413-432): y = c_0 + sum_i
c_i x_i^-e_i is linear in c, so that only the exponents e are searched.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

EXPONENTS = (0.02, 3.0)  # searched: beyond them a term is flat, or gone after the first point
GRID = 16  # exponents tried along each axis before the best ones are refined
EXACT, ROUGH = 1e-15, 1e-9  # relative change of cost and exponents at which the search ends
STARTS = 4  # of the best ones, since a sum of power terms may have several valleys


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """y = constant + sum_i scales[i] * x_i^-exponents[i]; `cost` is half the weighted sum of squares left."""

    constant: float
    scales: tuple[float, ...]
    exponents: tuple[float, ...]
    cost: float

    def at(self, *x: float) -> float:
        """y at x, one number a term."""
        terms = zip(self.scales, x, self.exponents, strict=True)
        return float(self.constant + sum(scale * value**-exponent for scale, value, exponent in terms))


def fit(x: Sequence[Floats], y: Floats, weights: Floats, near: Sequence[float] = ()) -> PowerLaw:
    """Least of sum_j (weights_j (y_j - model_j))^2 over constant, scales >= 0 and exponents within EXPONENTS.

    x: [points] above 0, one array a term; y, weights: [points], the weights as they multiply residuals.
    near: exponents to start from, for a fit to data that hardly differ; without them all are tried.
    """
    from scipy.optimize import least_squares, nnls

    middle = [float(np.exp(np.log(values).mean())) for values in x]

    def projected(exponents: Sequence[float]) -> tuple[Floats, Floats]:
        """(coefficients that are best at these exponents, weighted residuals)."""
        terms = [(values / m) ** -e for values, m, e in zip(x, middle, exponents, strict=True)]
        columns = np.column_stack([np.ones_like(y), *terms]) * weights[:, None]
        coefficients = nnls(columns, weights * y)[0]
        return coefficients, columns @ coefficients - weights * y

    def refined(start: Sequence[float], close: float) -> Any:
        return least_squares(
            lambda e: projected(e)[1], start, jac="3-point", bounds=EXPONENTS, xtol=close, ftol=close, gtol=close
        )

    if near:
        found = [refined(near, ROUGH)]
    else:
        tried = list(itertools.product(np.geomspace(*EXPONENTS, GRID), repeat=len(x)))
        costs = [float(left @ left) for left in (projected(one)[1] for one in tried)]
        found = [refined(tried[i], EXACT) for i in np.argsort(costs)[:STARTS]]
    best = min(found, key=lambda one: float(one.cost))
    exponents = tuple(float(e) for e in best.x)
    constant, *scales = projected(exponents)[0]
    raised = tuple(float(c * m**e) for c, m, e in zip(scales, middle, exponents, strict=True))
    return PowerLaw(float(constant), raised, exponents, float(best.cost))
