"""How models differ in bits per byte on the same documents: of one set of texts, and on the mean over sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aasut.errors import DataError
from aasut.evaluate.field import FEWEST, by_document
from aasut.evaluate.ratios import Ratio, ratio

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aasut.evaluate.bits import Bits
    from aasut.student.corpus import Passage


@dataclass(frozen=True)
class Costs:
    """Of the documents of a set: `bytes` [documents], and the bits of each under each model."""

    bytes: NDArray[np.float64]
    bits: Mapping[str, NDArray[np.float64]]

    @classmethod
    def of(cls, name: str, passages: Sequence[Passage], measured: Mapping[str, Bits]) -> Costs:
        """From what the passages of the set `name` cost. Raises DataError where it has fewer than two documents."""
        size = by_document(passages, next(iter(measured.values())).bytes)
        if len(size) < FEWEST:
            raise DataError(
                f"{len(size)} document of {name} in tune is too few to compare on.", "Raise split.tune, or add some."
            )
        return cls(size, {model: by_document(passages, of.bits) for model, of in measured.items()})

    def per_byte(self, model: str, confidence: float) -> Ratio:
        return ratio(self.bits[model], self.bytes, confidence)

    def more(self, model: str, than: str, confidence: float) -> Ratio:
        """Bits per byte that a model costs more than another, by document."""
        return ratio(self.bits[model] - self.bits[than], self.bytes, confidence)


def mean(ratios: Sequence[Ratio]) -> Ratio:
    """Of independent sets, each with the same weight; t has the degrees of freedom of Welch and Satterthwaite."""
    from scipy.stats import t

    variances = np.array([one.standard_error**2 for one in ratios])
    free = np.array([one.documents - 1 for one in ratios])
    error = float(np.sqrt(variances.sum())) / len(ratios)
    value, confidence = float(np.mean([one.value for one in ratios])), ratios[0].confidence
    freedom = float(variances.sum() ** 2 / (variances**2 / free).sum()) if error else float(free.sum())
    half = float(t.ppf(1 - (1 - confidence) / 2, freedom)) * error
    return Ratio(value, error, value - half, value + half, confidence, sum(one.documents for one in ratios))
