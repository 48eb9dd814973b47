"""Mean of real-valued scores whose items share groups, with the clustered standard error.

The variance is Liang & Zeger's (1986, Biometrika 73, 13-22) with the correction G / (G - 1) for few
groups (CR1), and the interval takes t with G - 1 degrees of freedom.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from aasut.errors import DataError
from aasut.evaluate.metrics import Floats, group_index


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean of n items in so many groups, in the items' unit, with a two-sided interval at `confidence`."""

    value: float
    standard_error: float
    lower: float
    upper: float
    confidence: float
    n: int
    groups: int


def mean(values: Sequence[float] | Floats, groups: Sequence[Hashable], confidence: float = 0.95) -> Mean:
    """Mean of the values, one an item.

    Raises DataError under two items or groups, or where all groups' sums agree with the mean (so
    also where all values are equal): nothing is seen then of how far it may be off.
    """
    from scipy.stats import t

    found = np.asarray(values, dtype=np.float64)
    index = group_index(groups, len(found))
    n, number = len(found), int(index.max()) + 1
    value = float(found.mean())
    sums = np.bincount(index, weights=found - value)
    squares = float(sums @ sums)
    if squares <= 1e-24 * max(1.0, float(found @ found)):
        raise DataError(
            f"All {number} groups have the same mean, {value:g}, so that no error bar can be had.",
            "Give more human-labelled examples.",
        )
    error = float(np.sqrt(number / (number - 1) * squares)) / n
    half = float(t.ppf(1 - (1 - confidence) / 2, number - 1)) * error
    return Mean(value, error, value - half, value + half, confidence, n, number)


def difference(
    a: Sequence[float] | Floats,
    b: Sequence[float] | Floats,
    groups: Sequence[Hashable],
    confidence: float = 0.95,
) -> Mean:
    """Mean of a minus mean of b on the same items. Raises what `mean` raises."""
    if len(a) != len(b):
        raise DataError(f"{len(a)} scores are paired with {len(b)}.", "Compare two models on the same items.")
    return mean(np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64), groups, confidence)
