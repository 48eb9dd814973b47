"""How many human answers a verdict wants, and what margin a given number of them can show."""

from __future__ import annotations

import math
from statistics import NormalDist

from aasut.evaluate.paired import POWER


def examples_needed(
    margin: float, confidence: float = 0.95, discordance: float = 0.1, design_effect: float = 1.0
) -> int:
    """Test examples for a verdict of non-inferiority with 80 % power, if student and teacher are equally accurate.

    (z_confidence + z_.8)^2 * discordance * design effect / margin^2, and never under what Tango's
    bound asks with no discordance at all, design effect * z_confidence^2 (1 - margin) / margin.
    discordance: share of examples that one of the two alone has right; all shares 0 to 1.
    """
    z = NormalDist().inv_cdf(confidence)
    wanted = (z + NormalDist().inv_cdf(POWER)) ** 2 * discordance / margin**2
    return math.ceil(design_effect * max(wanted, z**2 * (1 - margin) / margin))


def margin_shown(
    examples: int, confidence: float = 0.95, discordance: float = 0.1, design_effect: float = 1.0
) -> float:
    """The smallest margin that so many examples can be expected to show: the inverse of `examples_needed`."""
    z = NormalDist().inv_cdf(confidence)
    effective = examples / design_effect
    return max(math.sqrt((z + NormalDist().inv_cdf(POWER)) ** 2 * discordance / effective), z**2 / (effective + z**2))
