"""The learning curve and its fit: error(n) = E + (C - E) / (1 + (n / H)^b).

From many answers on this is the inverse power law E + A n^-b, with A = (C - E) H^b (Cortes, Jackel, Solla, Vapnik &
Denker 1993, NeurIPS 6, 327-334; for labelled examples Figueroa, Zeng-Treitler, Kandula & Ngo 2012, BMC Medical
Informatics and Decision Making 12:8). With few answers students are no better than chance, which a power law does
not know, so that it foretells too little: this curve begins at C, the error of always giving the commonest answer,
which is known. Morgan, Mercer & Flodin (1975, PNAS 72, 4327-4331) have it for nutrients; of the curves that Mohr,
Viering, Loog & van Rijn (2022, LCDB, ECML PKDD) extrapolated it is among the best. 0 <= E <= C and b > 0: accuracy
never falls with n and is at most 1.

It is fitted by variable projection: at a given H and b the best E is a least-squares problem, so that these two alone
are searched. Some sizes say little of three unknowns, so each has a prior (see Prior).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Prior:
    """What is taken for likely before anything is measured: a median, and what one deviation adds or multiplies by.

    `limit` is E as a share of C; `half` is H as a share of the most answers at hand, as students are planned
    for once they have learned something; `exponent` is b, which theory has between .5 and 1 and deep networks
    show at .07 to .35 (Hestness et al. 2017, arXiv:1712.00409).
    """

    limit: tuple[float, float] = (0.5, 0.2)
    half: tuple[float, float] = (0.3, 4.0)
    exponent: tuple[float, float] = (0.6, 2.0)


PRIOR = Prior()
HALVES = np.geomspace(1e-3, 100, 40)  # H as a share of the most answers, where it is searched
EXPONENTS = np.geomspace(0.1, 3.0, 24)  # where b is searched


@dataclass(frozen=True)
class Curves:
    """error(n) = limit + (chance - limit) / (1 + (n / half)^exponent), one or many: arrays of one shape."""

    limit: Floats
    chance: Floats
    half: Floats
    exponent: Floats

    def accuracy(self, examples: float) -> Floats:
        return 1 - self.limit - (self.chance - self.limit) / (1 + (examples / self.half) ** self.exponent)

    def examples(self, accuracy: float) -> Floats:
        """Answers at which the accuracy is reached, infinite where it never is."""
        room = np.maximum(1 - accuracy - self.limit, 0.0)
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            times = np.maximum((self.chance - self.limit) / room - 1, 0.0)
            found = self.half * times ** (1 / self.exponent)
        return np.where(room > 0, found, np.inf)


@dataclass(frozen=True)
class Problem:
    """Least squares over limit, half and exponent: the weighted errors at the sizes, and the priors' deviations.

    size, weights: [sizes]; the weights are those of squares.
    """

    size: Floats
    weights: Floats

    def on_grid(self, error: Floats, chance: Floats, moved: Floats) -> Curves:
        """The best curve on the grid of halves and exponents for each row.

        error: [rows, sizes]; chance: [rows]; moved: by how many deviations the priors' centres of limit, log half
        and log exponent are moved, [3, rows].
        """
        half, exponent = (v.ravel() for v in np.meshgrid(self.size[-1] * HALVES, EXPONENTS))
        found = [self._best(*row, half, exponent) for row in zip(error, chance, moved.T, strict=True)]
        limit, at = (np.array(values) for values in zip(*found, strict=True))
        return Curves(limit, chance, half[at.astype(int)], exponent[at.astype(int)])

    def _best(self, error: Floats, chance: float, moved: Floats, half: Floats, exponent: Floats) -> tuple[float, int]:
        limit, squares = self.projected(error, chance, moved, half, exponent)
        at = int(squares.argmin())
        return float(limit[at]), at

    def exactly(self, error: Floats, chance: float) -> Curves:
        """The best curve, refined from the best one on the grid; error: [sizes]."""
        from scipy.optimize import minimize

        start = self.on_grid(error[None], np.array([chance]), np.zeros((3, 1)))

        def squares(x: Floats) -> float:
            return float(self.projected(error, chance, np.zeros(3), np.exp(x[:1]), np.exp(x[1:]))[1][0])

        first = np.log([start.half[0], start.exponent[0]])
        found = minimize(
            squares, first, method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-13, "maxiter": 4000}
        )
        half, exponent = np.exp(found.x[:1]), np.exp(found.x[1:])
        limit, _ = self.projected(error, chance, np.zeros(3), half, exponent)
        return Curves(limit, np.array([chance]), half, exponent)

    def projected(
        self, error: Floats, chance: float, moved: Floats, half: Floats, exponent: Floats
    ) -> tuple[Floats, Floats]:
        """(best limit from 0 to chance, sum of squares) at each half and exponent [candidates]."""
        centre, width = (PRIOR.limit[0] + PRIOR.limit[1] * moved[0]) * chance, PRIOR.limit[1] * chance
        left = 1 / (1 + (self.size / half[:, None]) ** exponent[:, None])  # [candidates, sizes] of what can be learned
        had = 1 - left
        apart = error - chance * left
        limit = ((apart * had) @ self.weights + centre / width**2) / ((had * had) @ self.weights + 1 / width**2)
        limit = np.clip(limit, 0.0, chance)
        squares = (apart - limit[:, None] * had) ** 2 @ self.weights + ((limit - centre) / width) ** 2
        for value, (median, factor), by in (
            (half / self.size[-1], PRIOR.half, moved[1]),
            (exponent, PRIOR.exponent, moved[2]),
        ):
            squares = squares + (np.log(value / median) / math.log(factor) - by) ** 2
        return limit, squares
