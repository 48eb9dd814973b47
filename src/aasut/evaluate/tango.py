"""Difference of two paired proportions: Tango's (1998, Statistics in Medicine 17, 891-908) score; McNemar's test."""

from __future__ import annotations

import math


def lower(a: float, b: float, n: float, z: float) -> float:
    """Lower bound of p_a - p_b: the difference at which Tango's score equals z.

    a, b: items that only one side has right, of n; none need be whole. The score falls from
    infinity at -1 to 0 at the estimate; score / sqrt(1 + score^2) is solved for, as it stays finite.
    """
    from scipy.optimize import brentq

    estimate = (a - b) / n
    target = z / math.hypot(1.0, z)

    def excess(difference: float) -> float:
        gap = math.sqrt(n) * (estimate - difference)
        if gap <= 0:
            return -target
        return gap / math.hypot(gap, math.sqrt(null_variance(a, b, n, difference))) - target

    if estimate <= -1:
        return -1.0
    return float(brentq(excess, -1.0, estimate, xtol=1e-14, rtol=1e-14))


def score(a: float, b: float, n: float, difference: float) -> float:
    """Tango's score, standard normal where the true difference is `difference`: (estimate - it) / standard error."""
    gap = math.sqrt(n) * ((a - b) / n - difference)
    spread = math.sqrt(null_variance(a, b, n, difference))
    return gap / spread if spread > 0 else math.copysign(math.inf, gap) if gap else 0.0


def null_variance(a: float, b: float, n: float, difference: float) -> float:
    """Variance of one item's difference, with p_b at its likeliest value given the true difference."""
    first = 2 * n
    second = -a - b + (2 * n - a + b) * difference
    third = -b * difference * (1 - difference)
    likeliest = (math.sqrt(max(second**2 - 4 * first * third, 0.0)) - second) / (2 * first)
    return max(2 * likeliest + difference * (1 - difference), 0.0)


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p of McNemar's test: are the discordant items split evenly?"""
    from scipy.stats import binomtest

    return float(binomtest(only_a, only_a + only_b, 0.5).pvalue) if only_a + only_b else 1.0
