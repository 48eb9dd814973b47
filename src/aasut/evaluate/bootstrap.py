"""The BCa bootstrap over whole groups: bounds and p-values for any statistic of the groups' totals.

Items of one group are not independent, so whole groups are drawn. The interval is BCa (Efron 1987,
Journal of the American Statistical Association 82, 171-185; DiCiccio & Efron 1996, Statistical
Science 11, 189-228), with the acceleration from the jackknife over groups. As a bootstrap is too
narrow where groups are few, its levels are taken at sqrt(G / (G - 1)) * t_{G-1} in place of normal
quantiles (Hesterberg 2015, The American Statistician 69, 371-386).

No bootstrap knows of what was never seen: where nothing varies it has no width at all, and hardly
any where one item differs. So a bound is never nearer to the estimate than what a sample without any
variation allows. If a share s of the items were of a kind not seen, m independent items would all
miss it with probability (1 - s)^m; so at confidence 1 - alpha s is at most 1 - alpha^(1/m) (Clopper &
Pearson 1934; Hanley & Lippman-Hand 1983, JAMA 249, 1743-1745), and these items may have the lowest
score there is. m is the effective sample size (see metrics.py): items over design effect, and where
nothing varies as if a group's items were all alike. It takes over where about three items differ or fewer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from aasut.errors import DataError
from aasut.evaluate.metrics import Counts, Floats, design_effect

RESAMPLES = 10_000
BLOCK = 2**16  # group numbers drawn at once: few enough for the processor's cache


@dataclass(frozen=True)
class Sample:
    """What groups add up to, and the statistic that is taken of the sum.

    totals: [groups, columns]; statistic: [k, columns] -> [k], of k sums. The statistic lies between
    `lowest` and `highest`, and is the mean over `parts` (the classes of a macro mean, else one), of
    which the least known is seen in `units` independent items.
    """

    totals: Floats
    statistic: Callable[[Floats], Floats]
    units: float
    parts: int = 1
    lowest: float = -1.0
    highest: float = 1.0


@dataclass(frozen=True)
class Bootstrap:
    """A statistic's estimate, its sorted replicates [resamples], and BCa's two corrections."""

    estimate: float
    replicates: Floats
    bias: float
    acceleration: float
    groups: int
    units: float
    parts: int
    lowest: float
    highest: float

    def lower(self, confidence: float) -> float:
        """One-sided lower bound at `confidence`."""
        from scipy.special import stdtrit

        found = self.endpoint(self._widening * float(stdtrit(self.groups - 1, 1 - confidence)))
        unseen = (1.0 - float((1 - confidence) ** (1 / self.units))) / self.parts
        return min(found, self.estimate - (self.estimate - self.lowest) * unseen)

    def upper(self, confidence: float) -> float:
        """One-sided upper bound at `confidence`."""
        return -self._mirrored.lower(confidence)

    def interval(self, confidence: float) -> tuple[float, float]:
        """Two-sided interval at `confidence`, with equal tails."""
        each = 1 - (1 - confidence) / 2
        return self.lower(each), self.upper(each)

    def p_at_most(self, value: float) -> float:
        """One-sided p of the hypothesis that the truth is `value` or less: the bounds' own inverse.

        It is under alpha where `lower(1 - alpha)` is above `value`. At least 1 / (resamples + 1).
        """
        from scipy.special import ndtri, stdtr

        share = self._share_up_to(value)
        found = share
        if 0 < share < 1:
            away = float(ndtri(share)) - self.bias
            turn = 1 + self.acceleration * away
            z = away / turn - self.bias if turn > 0 else math.copysign(math.inf, away)
            found = float(stdtr(self.groups - 1, z / self._widening))
        room = self.estimate - self.lowest
        unseen = self.parts * (self.estimate - value) / room if room > 0 else 0.0
        floor = float((1 - min(max(unseen, 0.0), 1.0)) ** self.units)
        return max(found, min(floor, 0.5), 1 / (len(self.replicates) + 1))

    def p_at_least(self, value: float) -> float:
        """One-sided p of the hypothesis that the truth is `value` or more."""
        return self._mirrored.p_at_most(-value)

    def p_equal(self, value: float) -> float:
        """Two-sided p of the hypothesis that the truth is `value`."""
        return min(1.0, 2 * min(self.p_at_most(value), self.p_at_least(value)))

    def endpoint(self, z: float) -> float:
        """BCa's endpoint for a normal quantile: the replicates' quantile at Phi(z0 + (z0 + z) / (1 - a (z0 + z)))."""
        from scipy.special import ndtr

        shifted = self.bias + z
        turn = 1 - self.acceleration * shifted
        place = self.bias + shifted / turn if turn > 0 else math.copysign(math.inf, shifted)
        return float(np.quantile(self.replicates, ndtr(place)))

    @property
    def _widening(self) -> float:
        return math.sqrt(self.groups / (self.groups - 1))

    @cached_property
    def _mirrored(self) -> Bootstrap:
        """The same of the statistic with its sign turned."""
        turned = -self.replicates[::-1]
        return replace(
            self,
            estimate=-self.estimate, replicates=turned, bias=-self.bias, acceleration=-self.acceleration,
            lowest=-self.highest, highest=-self.lowest,
        )  # fmt: skip

    def _share_up_to(self, value: float) -> float:
        """The level whose quantile of the replicates is `value`, as `endpoint` interpolates."""
        place = int(np.searchsorted(self.replicates, value, side="right"))
        if place in (0, len(self.replicates)):
            return float(place > 0)
        below, above = self.replicates[place - 1 : place + 1]
        return float(place - 1 + (value - below) / (above - below)) / (len(self.replicates) - 1)


def bca(sample: Sample, *, seed: int, resamples: int = RESAMPLES) -> Bootstrap:
    """Draw as many groups as there are, with replacement, `resamples` times. Raises DataError under two groups."""
    from scipy.special import ndtri

    totals = sample.totals
    if len(totals) < 2:
        raise DataError(
            f"{len(totals)} group is too few for an error bar.", "Add human-labelled examples of other groups."
        )
    whole = totals.sum(axis=0)
    estimate = float(sample.statistic(whole[None])[0])
    replicates = np.sort(_replicates(sample, resamples, seed))
    below, above = float(np.mean(replicates < estimate)), float(np.mean(replicates > estimate))
    share = float(np.clip((1 + below - above) / 2, 0.5 / resamples, 1 - 0.5 / resamples))
    return Bootstrap(
        estimate, replicates, float(ndtri(share)), acceleration(sample.statistic(whole - totals)), len(totals),
        sample.units, sample.parts, sample.lowest, sample.highest,
    )  # fmt: skip


def acceleration(left_out: Floats) -> float:
    """A sixth of the skewness of the jackknife's influences; left_out: the statistic without each group, [groups]."""
    influence = left_out.mean() - left_out
    spread = float(influence @ influence)
    return float((influence**3).sum()) / (6 * spread**1.5) if spread > 1e-24 else 0.0


def _replicates(sample: Sample, resamples: int, seed: int) -> Floats:
    """The statistic of each resample, [resamples]."""
    draw = np.random.default_rng(seed)
    groups = len(sample.totals)
    rows = max(1, BLOCK // groups)
    found = []
    for start in range(0, resamples, rows):
        k = min(rows, resamples - start)
        drawn = draw.integers(0, groups, (k, groups)) + groups * np.arange(k)[:, None]
        times = np.bincount(drawn.ravel(), minlength=k * groups).reshape(k, groups)
        found.append(sample.statistic(times.astype(np.float64) @ sample.totals))
    return np.concatenate(found)


def of_mean(values: Floats, index: Counts, *, lowest: float = -1.0, highest: float = 1.0) -> Sample:
    """The mean of n items' values, all from `lowest` to `highest`; values: [n]; index: [n], group numbers from 0."""
    sizes = np.bincount(index).astype(np.float64)
    totals = np.column_stack([np.bincount(index, weights=values), sizes])
    return Sample(totals, lambda sums: sums[:, 0] / sums[:, 1], _units(values, index), 1, lowest, highest)


def of_macro_f1(gold: Counts, a: Counts, b: Counts, index: Counts) -> Sample:
    """Macro-F1 of a minus that of b; gold, a, b: [n], numbers of answers; index: [n], group numbers from 0.

    F1 of an answer is 2 hits / (times given + times held), and the mean is over the answers that
    occur, as in metrics.macro_f1; in a resample where an answer does not occur it has no part.
    """
    answers = int(max(gold.max(), a.max(), b.max())) + 1
    groups = int(index.max()) + 1

    def counted(which: Counts, answer: Counts) -> Floats:
        flat = np.bincount(index[which] * answers + answer[which], minlength=groups * answers)
        return flat.reshape(groups, answers).astype(np.float64)

    every = np.arange(len(gold))
    held = counted(every, gold)
    columns = [part for said in (a, b) for part in (counted(np.flatnonzero(said == gold), gold), counted(every, said))]

    totals = np.hstack([held, *columns])
    won = (a == gold).astype(np.float64) - (b == gold)
    units = [_units(won[gold == answer], index[gold == answer]) for answer in np.unique(gold)]
    return Sample(totals, lambda sums: macro_f1_of(sums, 0) - macro_f1_of(sums, 1), min(units), len(units))


def macro_f1_of(sums: Floats, side: int) -> Floats:
    """Macro-F1 of a (side 0) or b (side 1) from sums of `of_macro_f1`'s totals, [k, 5 x answers] -> [k]."""
    held, *rest = np.split(sums, 5, axis=1)
    hits, given = rest[2 * side : 2 * side + 2]
    total = held + given
    mean: Floats = (2 * hits / np.maximum(total, 1)).sum(axis=1) / np.maximum((total > 0).sum(axis=1), 1)
    return mean


def _units(values: Floats, index: Counts) -> float:
    """Effective sample size of these items: their number over the design effect, 1 for a single group."""
    _, index = np.unique(index, return_inverse=True)
    return len(values) / design_effect(values, index) if index.max() else 1.0
