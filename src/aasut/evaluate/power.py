"""How many human answers a verdict wants, what margin a given number can show, and how surely.

Nam's (1997, Biometrics 53, 1422-1430) formulas for Tango's bound: with a margin m, a true
difference d and a share q of discordant items, n items decide with the probability

    Phi((sqrt(n) (m + d) - z s_0) / s_1),    s_1^2 = q - d^2,

s_0^2 the variance that Tango's score takes at a difference of -m. For a small margin both are near
q, which gives the rule (z + z_.8)^2 q / m^2, 1,546 for 10 % and 2 points; where q is not far above m
the rule promises too much (63 % in place of 80 % for 4 % and 5 points).
"""

from __future__ import annotations

import math
from statistics import NormalDist

from aasut.evaluate import tango

POWER = 0.8  # chance that the suggested number of examples decides
NORMAL = NormalDist()


def examples_needed(
    margin: float,
    confidence: float = 0.95,
    discordance: float = 0.1,
    design_effect: float = 1.0,
    difference: float = 0.0,
) -> int:
    """Test examples for a verdict of non-inferiority with 80 % power, if `difference` is student minus teacher.

    discordance: share of examples that one of the two alone has right; all shares 0 to 1. The
    difference must be above -margin, and no larger than the discordance.
    """
    return math.ceil(design_effect * _wanted(margin, confidence, discordance, difference) - 1e-9)


def margin_shown(
    examples: int, confidence: float = 0.95, discordance: float = 0.1, design_effect: float = 1.0
) -> float:
    """The smallest margin that so many examples can be expected to show: the inverse of `examples_needed`."""
    from scipy.optimize import brentq

    effective = examples / design_effect

    def excess(margin: float) -> float:
        return math.sqrt(_wanted(margin, confidence, discordance, 0.0)) - math.sqrt(effective)

    return float(brentq(excess, 1e-6, 1.0, xtol=1e-12)) if excess(1.0) < 0 else 1.0


def power_of(
    examples: int,
    margin: float,
    confidence: float = 0.95,
    discordance: float = 0.1,
    design_effect: float = 1.0,
    difference: float = 0.0,
) -> float:
    """Chance of a verdict of non-inferiority with so many examples; see `examples_needed`."""
    null, true = _spreads(margin, discordance, difference)
    excess = math.sqrt(examples / design_effect) * (margin + difference) - NORMAL.inv_cdf(confidence) * null
    return NORMAL.cdf(excess / true) if true > 0 else float(excess > 0)


def _wanted(margin: float, confidence: float, discordance: float, difference: float) -> float:
    """Independent examples, which need not be whole."""
    null, true = _spreads(margin, discordance, difference)
    return ((NORMAL.inv_cdf(confidence) * null + NORMAL.inv_cdf(POWER) * true) / (margin + difference)) ** 2


def _spreads(margin: float, discordance: float, difference: float) -> tuple[float, float]:
    """Standard deviation of an item's difference, as Tango's score at -margin takes it and as it is."""
    only_a, only_b = (discordance + difference) / 2, (discordance - difference) / 2
    null = tango.null_variance(only_a, only_b, 1.0, -margin)
    return math.sqrt(null), math.sqrt(max(discordance - difference**2, 0.0))
