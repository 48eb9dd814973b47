"""A ratio of two sums over independent documents, with its standard error: bits per byte, or loss after over before.

R = Σ a / Σ b has the residuals e = a - R b, and the variance G/(G-1) · Σ e² / (Σ b)², linearised (Cochran 1977,
Sampling Techniques, 3rd ed., section 2.11, without the finite population correction). The interval takes t with G - 1
degrees of freedom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from aasut.errors import DataError
from aasut.evaluate.metrics import Floats


@dataclass(frozen=True, slots=True)
class Ratio:
    """Σ a / Σ b over so many documents, with a two-sided interval at `confidence`."""

    value: float
    standard_error: float
    lower: float
    upper: float
    confidence: float
    documents: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def ratio(above: Sequence[float] | Floats, below: Sequence[float] | Floats, confidence: float = 0.95) -> Ratio:
    """Of a and b, one of each a document. Raises DataError under two documents, or where b sums to nothing."""
    from scipy.stats import t

    a, b = np.asarray(above, np.float64), np.asarray(below, np.float64)
    if len(a) != len(b):
        raise DataError(f"{len(a)} documents are held against {len(b)}.", "Measure both on the same ones.")
    count, total = len(a), float(b.sum())
    if count < 2 or total <= 0:
        raise DataError(
            f"{count} held-out document(s) with text are too few for an error bar.", "Hold out two documents or more."
        )
    value = float(a.sum()) / total
    residuals = a - value * b
    error = float(np.sqrt(count / (count - 1) * (residuals @ residuals))) / total
    half = float(t.ppf(1 - (1 - confidence) / 2, count - 1)) * error
    return Ratio(value, error, value - half, value + half, confidence, count)
