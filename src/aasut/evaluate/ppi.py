"""A mean from few human labels and many judged ones: prediction-powered inference (PPI++).

Angelopoulos, Duchi & Zrnic (2023), "PPI++: efficient prediction-powered inference", arXiv 2311.01453:

    theta = lambda * mean_N(f) + mean_n(Y - lambda f),    SE^2 = lambda^2 Var_N(f) / N + Var_n(Y - lambda f) / n

Y: the n human outcomes; f: what the judge says of an item. It is unbiased however wrong the judge
is; a good judge only makes it narrower. Four things here differ from the plain recipe:

- lambda = Cov(Y, f) / ((1 + n/N) Var(f)), clipped to [0, 1], is cross-fitted: an item's lambda comes
  from the labelled items of the other folds alone, so that choosing it biases nothing.
- The quantile is Student's t at Satterthwaite's degrees of freedom.
- Where outcomes are 0 or 1, half an imaginary item of each of the four pairs of outcome and
  judgement goes into the interval (not into the estimate), as Agresti & Min (2005, Biometrics 61,
  515-523) have it for paired proportions: "the judge never erred on 100" keeps an error bar. Where all
  are right, or all wrong, Wilson's interval stands (see metrics.py). Other outcomes that do not vary
  are refused.
- Strata: Fisch et al. (2024), "Stratified prediction-powered inference", arXiv 2406.04291, each
  stratum with its own lambda, its weight the share of the unlabelled items, whose own error counts.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aasut.errors import DataError
from aasut.evaluate.metrics import Counts, Floats, accuracy, design_effect, group_index

LEAST = 100  # human labels; under this the intervals cover too little
LEAST_OF_STRATUM = 20
FOLDS = 5
IMAGINARY = 0.5  # items of each pair of outcome and judgement

Pair = tuple[Sequence[Hashable], Sequence[Hashable]]  # of the labelled items, of the unlabelled ones


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its two-sided interval; `classical` is (value, lower, upper) of the human labels alone.

    `n` human labels, `unlabelled` items judged alone, `weight`: lambda, 0 (the judge is not used) to 1.
    """

    value: float
    lower: float
    upper: float
    confidence: float
    n: int
    unlabelled: int
    weight: float
    classical: tuple[float, float, float]

    def as_dict(self) -> dict[str, Any]:
        return {
            "value": self.value,
            "ci": [self.lower, self.upper],
            "confidence": self.confidence,
            "classical": list(self.classical),
            "n": self.n,
            "unlabelled": self.unlabelled,
            "weight": self.weight,
        }


def estimate(
    human: Sequence[float],
    judged: Sequence[float],
    judged_unlabelled: Sequence[float],
    *,
    confidence: float = 0.95,
    strata: Pair | None = None,
    groups: Pair | None = None,
) -> Estimate:
    """The mean human outcome over the population that both sets of items were drawn from.

    human, judged: [n], outcome and judgement of the same items; judged_unlabelled: [N]. `strata` and
    `groups` hold one entry an item, for the labelled and for the unlabelled items; items of one group
    are not independent, and no group may be in both. The labelled items must be a random draw, within
    a stratum where strata are given. Raises DataError under 100 human labels, under 20 of them or
    two unlabelled items in a stratum, and where outcomes other than 0 and 1 do not vary.
    """
    y, f, rest = (np.asarray(values, dtype=np.float64) for values in (human, judged, judged_unlabelled))
    _check(y, f, rest)
    cluster, cluster_rest = _groups(groups, len(y), len(rest))
    stratum, stratum_rest = _strata(strata, len(y), len(rest))
    binary = bool(np.isin(y, (0, 1)).all() and all(((v >= 0) & (v <= 1)).all() for v in (f, rest)))
    if not binary and (np.ptp(y) == 0 or np.ptp(y - f) == 0):
        what = "human outcomes" if np.ptp(y) == 0 else "differences of human outcome and judgement"
        raise DataError(f"All {len(y)} {what} are equal: no error bar can be had.", "Label more varied examples.")
    weights = cross_fitted(y, f, np.bincount(stratum_rest), stratum, cluster)
    powered = with_weights(y, f, rest, weights, (stratum, stratum_rest), (cluster, cluster_rest), binary, confidence)
    one = (np.zeros_like(stratum), np.zeros_like(stratum_rest)) if strata is None else (stratum, stratum_rest)
    alone = with_weights(y, f, rest, np.zeros_like(y), one, (cluster, cluster_rest), binary, confidence)
    if np.ptp(y) == 0:  # no judgement can help; the interval is that of an accuracy
        right = accuracy([bool(v) for v in y], cluster.tolist(), confidence)
        powered = alone = (right.value, min(right.lower, right.value), max(right.upper, right.value))
    shares = np.bincount(stratum_rest) / len(rest)
    weight = float(shares @ [weights[stratum == h].mean() for h in range(len(shares))])
    return Estimate(*powered, confidence, len(y), len(rest), weight, alone)


def cross_fitted(y: Floats, f: Floats, unlabelled: Counts, stratum: Counts, cluster: Counts) -> Floats:
    """Lambda of each labelled item, [n], from the items of its stratum in other folds; folds hold whole groups.

    unlabelled: items of each stratum.
    """
    clusters = int(cluster.max()) + 1
    fold = (np.random.default_rng(0).permutation(clusters) % FOLDS)[cluster]
    found = np.zeros_like(y)
    for h in range(int(stratum.max()) + 1):
        ratio = 1 + int((stratum == h).sum()) / int(unlabelled[h])
        for k in range(FOLDS):
            fit = (stratum == h) & (fold != k)
            found[(stratum == h) & (fold == k)] = best_weight(y[fit], f[fit], ratio)
    return found


def best_weight(y: Floats, f: Floats, ratio: float) -> float:
    """Lambda of the least variance, Cov(Y, f) / (ratio * Var(f)), clipped to [0, 1]; ratio: 1 + n/N."""
    if len(y) < 2 or np.ptp(f) == 0:
        return 0.0
    covariance = np.cov(y, f)
    return float(np.clip(covariance[0, 1] / (ratio * covariance[1, 1]), 0, 1))


def with_weights(
    y: Floats,
    f: Floats,
    rest: Floats,
    weights: Floats,
    strata: tuple[Counts, Counts],
    clusters: tuple[Counts, Counts],
    binary: bool,
    confidence: float,
) -> tuple[float, float, float]:
    """Value, lower and upper of the mean with each labelled item's lambda in `weights`, [n].

    strata, clusters: numbers from 0 of the labelled and of the unlabelled items. A clustered variance
    is that of independent items times the design effect of their deviations (see metrics.py).
    """
    from scipy.stats import t

    n, unlabelled, number = len(y), len(rest), int(strata[0].max()) + 1
    share = np.bincount(strata[1], minlength=number) / unlabelled
    mean_weight = _means(weights, strata[0], number)
    residual = y - weights * f
    rectifier, imputed = _means(residual, strata[0], number), mean_weight * _means(rest, strata[1], number)
    values = rectifier + imputed
    value = float(share @ values)
    centre = value
    off, off_rest = residual - rectifier[strata[0]], mean_weight[strata[1]] * rest + rectifier[strata[1]] - value
    effect, effect_rest = design_effect(off, clusters[0]), design_effect(off_rest, clusters[1])
    variance = 0.0
    for h in range(number):
        own = off[strata[0] == h]
        count = len(own)
        squares, held = float(own @ own) * count / (count - 1), float(count)
        if binary:  # imaginary items, as many as are worth one of each pair among independent items
            w = mean_weight[h]
            corners = np.array([0.0, 1.0, -w, 1 - w]) - rectifier[h]
            each = IMAGINARY * effect * count / n
            held = count + 4 * each
            shift = each * float(corners.sum()) / held
            centre += float(share[h]) * shift
            squares += each * float(corners @ corners) - held * shift**2
        variance += float(share[h]) ** 2 * effect * squares / held**2
    variance_rest = effect_rest * float(off_rest.var(ddof=1)) / unlabelled
    total = variance + variance_rest
    groups, groups_rest = (int(c.max()) + 1 for c in clusters)
    freedom = total**2 / (
        variance**2 / max(groups - number, 1) + variance_rest**2 / max(groups_rest - number, 1)
    )  # Satterthwaite (1946, Biometrics Bulletin 2, 110-114)
    half = float(t.ppf(1 - (1 - confidence) / 2, freedom)) * float(np.sqrt(total))
    if not binary:
        return value, centre - half, centre + half
    value, lower, upper = (min(1.0, max(0.0, float(x))) for x in (value, centre - half, centre + half))
    return value, min(lower, value), max(upper, value)


def _means(values: Floats, stratum: Counts, number: int) -> Floats:
    means: Floats = np.bincount(stratum, weights=values, minlength=number) / np.bincount(stratum, minlength=number)
    return means


def _check(y: Floats, f: Floats, rest: Floats) -> None:
    if len(y) != len(f):
        raise DataError(f"{len(y)} human labels have {len(f)} judgements.", "Give one judgement for each label.")
    if len(y) < LEAST:
        raise DataError(
            f"{len(y)} human labels are too few for an interval helped by a judge; it takes {LEAST}.",
            "Label more examples, or use the interval of the human labels alone.",
        )
    if len(rest) < 2:
        raise DataError(f"{len(rest)} unlabelled items were judged; it takes two.", "Judge more unlabelled items.")
    if not all(np.isfinite(values).all() for values in (y, f, rest)):
        raise DataError("An outcome or a judgement is not a number.", "Leave out the items without one.")


def _groups(groups: Pair | None, n: int, unlabelled: int) -> tuple[Counts, Counts]:
    """Numbers of the items' groups; each item its own where there are none."""
    if groups is None:
        return np.arange(n), np.arange(unlabelled)
    if both := set(groups[0]) & set(groups[1]):
        raise DataError(
            f"Group {min(map(str, both))} has labelled and unlabelled items.", "Keep a group's items on one side."
        )
    return group_index(groups[0], n), group_index(groups[1], unlabelled)


def _strata(strata: Pair | None, n: int, unlabelled: int) -> tuple[Counts, Counts]:
    """Numbers of the items' strata. Few labels are refused, not merged: a merged stratum would be biased
    wherever its parts were labelled at different rates."""
    if strata is None:
        return np.zeros(n, dtype=np.int64), np.zeros(unlabelled, dtype=np.int64)
    if (len(strata[0]), len(strata[1])) != (n, unlabelled):
        raise DataError("Strata and items differ in number.", "Give one stratum for each item.")
    place = {name: i for i, name in enumerate(dict.fromkeys((*strata[0], *strata[1])))}
    found, rest = (np.array([place[name] for name in part], dtype=np.int64) for part in strata)
    for name, i in place.items():
        labelled, alone = int((found == i).sum()), int((rest == i).sum())
        if labelled < LEAST_OF_STRATUM or alone < 2:
            raise DataError(
                f"Stratum {name} has {labelled} human labels and {alone} unlabelled items; "
                f"it takes {LEAST_OF_STRATUM} and 2.",
                "Label more of it, or give it one name with another stratum labelled at the same rate.",
            )
    return found, rest
