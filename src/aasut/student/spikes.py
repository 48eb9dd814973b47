"""Steps that would spoil a training: a loss or gradient that is no number, or far out of the range of late."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

WINDOW = 64  # steps that say what is usual
LEAST = 16  # fewer say nothing
DEVIATIONS = 20  # median absolute deviations over the median
LOSS_FACTOR, LOSS_NATS = 1.5, 0.5  # a loss must also be this many times the window's largest, and this far off
NORM_FACTOR = 4.0  # a gradient's norm, this many times the largest; small batches of hard examples stay below


def found(loss: float, norm: float, losses: Sequence[float], norms: Sequence[float], clip: float) -> str:
    """What is wrong with a step, "" for nothing: `losses` and `norms` are those of the steps before that were taken.

    A gradient that is not even clipped, of norm `clip` at most, is no spike.
    """
    if not (math.isfinite(loss) and math.isfinite(norm)):
        return "is no number"
    before, lengths = losses[-WINDOW:], norms[-WINDOW:]
    if len(before) < LEAST:
        return ""
    if _far(loss, before) and loss > LOSS_FACTOR * max(before) and loss > median(before) + LOSS_NATS:
        return f"jumped to {loss:.3g} from about {median(before):.2g}"
    if _far(norm, lengths) and norm > NORM_FACTOR * max(lengths) and norm > clip:
        return f"has a gradient of norm {norm:.3g} where about {median(lengths):.2g} is usual"
    return ""


def _far(value: float, before: Sequence[float]) -> bool:
    middle = median(before)
    return value > middle + DEVIATIONS * median(abs(other - middle) for other in before)
