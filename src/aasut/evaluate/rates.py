"""The true share behind a judge's verdicts, from how often the judge errs on human-labelled examples.

Rogan & Gladen (1978, American Journal of Epidemiology 107, 71-76): with sensitivity Se (right answers
called right) and specificity Sp (wrong ones called wrong), a judged share q stands for the true share

    (q + Sp - 1) / (Se + Sp - 1).

The interval is Lang & Reiczigel's (2014, Preventive Veterinary Medicine 113, 13-22), which carries the
uncertainty of all three rates. Where items come in groups, each rate has its effective sample size
(see metrics.py).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aasut.errors import DataError
from aasut.evaluate.metrics import design_effect, group_index, quantile, wilson


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of n items, 0 to 1, with Wilson's interval at the `effective` sample size."""

    value: float
    lower: float
    upper: float
    n: int
    effective: float
    z: float

    def as_list(self) -> list[float]:
        return [self.value, self.lower, self.upper]


@dataclass(frozen=True, slots=True)
class Corrected:
    """A judged share put right, 0 to 1."""

    value: float
    lower: float
    upper: float
    confidence: float
    raw: Rate
    sensitivity: Rate
    specificity: Rate

    def as_dict(self) -> dict[str, Any]:
        return {
            "corrected": [self.value, self.lower, self.upper],
            "raw": self.raw.value,
            "sensitivity": self.sensitivity.as_list(),
            "specificity": self.specificity.as_list(),
            "confidence": self.confidence,
            "unlabelled": self.raw.n,
        }


def rate(verdicts: Sequence[bool], groups: Sequence[Hashable], confidence: float = 0.95) -> Rate:
    """Share of true verdicts. Raises DataError where there are under two items or groups."""
    values = np.asarray(verdicts, dtype=np.float64)
    index = group_index(groups, len(values))
    effective = len(values) / design_effect(values, index)
    z = quantile(1 - (1 - confidence) / 2, len(values), int(index.max()) + 1)
    value = float(values.mean())
    lower, upper = wilson(value, effective, z)
    return Rate(value, min(lower, value), max(upper, value), len(values), effective, z)


def errors(
    truth: Sequence[bool], verdicts: Sequence[bool], groups: Sequence[Hashable], confidence: float = 0.95
) -> tuple[Rate, Rate]:
    """(sensitivity, specificity) of verdicts on items whose truth is known.

    Raises DataError where fewer than two items are right, or fewer than two wrong: one of the rates cannot be had.
    """
    found = []
    for wanted, name in ((True, "right"), (False, "wrong")):
        kept = [i for i, right in enumerate(truth) if bool(right) == wanted]
        if len(kept) < 2 or len({groups[i] for i in kept}) < 2:
            raise DataError(
                f"Humans call {len(kept)} of {len(truth)} answers {name}: too few to know what the judge says of such.",
                "Give more human-labelled examples.",
            )
        found.append(rate([bool(verdicts[i]) == wanted for i in kept], [groups[i] for i in kept], confidence))
    return found[0], found[1]


def correct(raw: Rate, sensitivity: Rate, specificity: Rate, confidence: float = 0.95) -> Corrected:
    """The true share. Where the judge might be no better than chance at this confidence, the interval is 0 to 1.

    Raises DataError where sensitivity + specificity is at most 1: such a judge says nothing.
    """
    better = sensitivity.value + specificity.value - 1
    if better <= 0:
        raise DataError(
            f"The judge is no better than chance: sensitivity {sensitivity.value:.2f} and specificity "
            f"{specificity.value:.2f} add up to 1 or less.",
            "Mend the rubric, or take another judge.",
        )
    value = min(1.0, max(0.0, (raw.value + specificity.value - 1) / better))
    spread = np.hypot(sensitivity.value - sensitivity.lower, specificity.value - specificity.lower)
    if better - float(spread) <= 0:  # Newcombe's (1998, Statistics in Medicine 17, 873-890) bound of a sum of shares
        return Corrected(value, 0.0, 1.0, confidence, raw, sensitivity, specificity)
    lower, upper = _lang_reiczigel(raw, sensitivity, specificity)
    return Corrected(value, min(lower, value), max(upper, value), confidence, raw, sensitivity, specificity)


def _lang_reiczigel(raw: Rate, sensitivity: Rate, specificity: Rate) -> tuple[float, float]:
    """Wald's interval after adding z^2/2 of each outcome to `raw`, 1 to the others, with their shift of its centre."""
    z = max(raw.z, sensitivity.z, specificity.z)
    n, n_se, n_sp = raw.effective + z**2, sensitivity.effective + 2, specificity.effective + 2
    q = (raw.effective * raw.value + z**2 / 2) / n
    se = (sensitivity.effective * sensitivity.value + 1) / n_se
    sp = (specificity.effective * specificity.value + 1) / n_sp
    better = se + sp - 1
    if better <= 0:
        return 0.0, 1.0
    share = (q + sp - 1) / better
    of_se, of_sp = se * (1 - se) / n_se, sp * (1 - sp) / n_sp
    shift = 2 * z**2 * (share * of_se - (1 - share) * of_sp)
    half = z * float(np.sqrt(q * (1 - q) / n + share**2 * of_se + (1 - share) ** 2 * of_sp)) / better
    return max(0.0, share + shift - half), min(1.0, share + shift + half)
