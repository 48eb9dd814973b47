"""What more answers of the teacher are worth: accuracy against their number, from students of small subsets.

error(n) = E + A n^-b, an inverse power law (Cortes, Jackel, Solla, Vapnik & Denker 1993, NeurIPS 6, 327-334; for
labelled examples Figueroa, Zeng-Treitler, Kandula & Ngo 2012, BMC Medical Informatics and Decision Making 12:8),
E, A >= 0, b > 0: accuracy never falls with n and is at most 1. It is fitted by variable projection: at a given b the
best E and A are a least-squares problem, and b alone is searched.

Three sizes say little of an exponent, so b has a prior: log-normal about .4, one deviation a factor of two either
way, from n^-.07 to n^-.35 of deep networks (Hestness et al. 2017, arXiv:1712.00409) to the n^-.5 to n^-1 of
theory. Intervals come from refitting, each time to
- a bootstrap of the human answers by whole groups (Davison & Hinkley 1997, Bootstrap Methods, chapters 2 and 3.8);
- other subsets, whose noise is drawn at the variance that repeats of a size show;
- another centre of the prior (randomise, then optimise: Bardsley et al. 2014, SIAM Journal on Scientific Computing
  36, A1895-A1910).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aasut.errors import DataError
from aasut.evaluate.metrics import accuracy, group_index, quantile, wilson
from aasut.evaluate.subsets import Trial

Floats = NDArray[np.float64]

EXPONENT, FACTOR = 0.4, 2.0  # the prior of b: its median, and what one deviation multiplies it by
LOWEST, HIGHEST, GRID = 0.02, 3.0, 64  # where b is searched
SMALLEST = 3  # distinct sizes
DRAWS = 2000
PRIOR_FREEDOM = 4.0  # degrees of freedom that the noise guessed from disagreements counts for
PSEUDO = 2  # answers taken to be right, and as many to be wrong, whatever the size (Agresti & Coull 1998)


@dataclass(frozen=True, slots=True)
class Range:
    """A figure with a two-sided interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Curves:
    """error(n) = floor + scale (n / middle)^-exponent, one or many: arrays of one shape."""

    middle: float
    floor: Floats
    scale: Floats
    exponent: Floats

    def accuracy(self, examples: float) -> Floats:
        return 1 - self.floor - self.scale * (examples / self.middle) ** -self.exponent

    def examples(self, accuracy: float) -> Floats:
        """Answers at which the accuracy is reached, infinite where it never is."""
        room = 1 - accuracy - self.floor
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            found = self.middle * (self.scale / np.maximum(room, 0.0)) ** (1 / self.exponent)
        return np.where(room > 0, found, np.inf)


@dataclass(frozen=True)
class LearningCurve:
    """A fitted curve. `best` is the likeliest one, `drawn` the refitted ones that intervals come from.

    noise: deviation of one student's accuracy at the sizes' geometric mean, as drawn, [draws]; it falls as
    n^-1/2. sizes: the sizes measured, each with its mean accuracy and interval. effect: design effect.
    """

    best: Curves
    drawn: Curves
    noise: Floats
    sizes: dict[int, Range]
    confidence: float
    effect: float
    seed: int

    @property
    def largest(self) -> int:
        """The most answers that a student was measured with."""
        return max(self.sizes)

    def accuracy(self, examples: float) -> Range:
        """Accuracy, on all inputs like the human-answered ones, of one student of so many answers."""
        return self._range(self._best(examples), self._seen(examples))

    def measured(self, examples: float, items: float) -> Range:
        """The same as it is then measured on so many fresh human answers."""
        expected = self._seen(examples)
        chance = np.clip(expected, 0.0, 1.0)
        share = self._random(2).binomial(max(1, round(items / self.effect)), chance) / max(
            1, round(items / self.effect)
        )
        return self._range(self._best(examples), expected - chance + share)

    def gain(self, more: float, examples: float | None = None) -> Range:
        """What `more` answers add to the accuracy on average, on top of `examples` (the most measured)."""
        start = self.largest if examples is None else examples
        drawn = self.drawn.accuracy(start + more) - self.drawn.accuracy(start)
        return self._range(self._best(start + more) - self._best(start), drawn)

    def needed(self, accuracy: float) -> Range:
        """Answers for that accuracy on average; infinite where no number is enough."""
        return self._range(float(self.best.examples(accuracy)[0]), self.drawn.examples(accuracy))

    def _best(self, examples: float) -> float:
        return float(self.best.accuracy(examples)[0])

    def _seen(self, examples: float) -> Floats:
        noise = self._random(1).standard_normal(len(self.noise)) * self.noise
        drawn = self.drawn.accuracy(examples) + noise * math.sqrt(self.best.middle / examples)
        return np.asarray(drawn, dtype=np.float64)

    def _random(self, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, stream])

    def _range(self, value: float, drawn: Floats) -> Range:
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(drawn, [tail, 1 - tail], method="inverted_cdf")
        return Range(value, min(value, float(low)), max(value, float(high)))


def fit(
    trials: Sequence[Trial], groups: Sequence[Hashable], confidence: float = 0.95, draws: int = DRAWS, seed: int = 0
) -> LearningCurve:
    """Fit the curve to students of several sizes, all judged on the same human answers.

    groups: of the human answers, one entry each. Raises DataError under 3 distinct sizes, and where there
    are under two human answers or groups.
    """
    sizes = sorted({trial.examples for trial in trials})
    if len(sizes) < SMALLEST:
        raise DataError(
            f"A learning curve needs students of {SMALLEST} numbers of answers at least, and there are {len(sizes)}.",
            "Give more inputs, in more groups, so that smaller parts of them can be learned from.",
        )
    index = group_index(groups, len(trials[0].correct))
    right = np.array([trial.correct for trial in trials], dtype=np.float64)
    if right.shape[1] < 2 or sizes[0] < 1:
        raise DataError("A student of no answers has no place on a learning curve.", "Leave it out.")
    place = np.array([sizes.index(trial.examples) for trial in trials])
    repeats = np.bincount(place).astype(np.float64)
    size = np.array(sizes, dtype=np.float64)
    middle = float(np.exp(np.log(size).mean()))
    spread = size / middle  # a student's variance is noise / spread
    noise, freedom = _noise(right, place, spread)
    random = np.random.default_rng([seed, 0])
    mean = _means(right.mean(axis=1)[:, None], place, repeats)  # [1, sizes]
    shifted = _means(_resampled(right, index, draws, random), place, repeats)
    variance = noise * freedom / random.chisquare(freedom, draws)
    shifted += random.standard_normal(shifted.shape) * np.sqrt(variance[:, None] / (spread * repeats))
    weights = spread * repeats / noise
    centre = math.log(EXPONENT) + math.log(FACTOR) * random.standard_normal(draws)
    return LearningCurve(
        _projected(spread, 1 - mean, weights, np.array([math.log(EXPONENT)]), middle, zooms=6),
        _projected(spread, np.clip(1 - shifted, 0.0, None), weights, centre, middle, zooms=1),
        np.sqrt(variance),
        {n: _interval(right[place == i], groups, confidence) for i, n in enumerate(sizes)},
        confidence,
        accuracy([bool(c) for c in right[place.argmax()]], groups).design_effect,
        seed,
    )


def _noise(right: Floats, place: NDArray[np.int64], spread: Floats) -> tuple[float, float]:
    """(variance of one student's accuracy at spread 1, its degrees of freedom).

    From repeats of a size; and from how often students of neighbouring sizes disagree, as if items were
    independent: (discordance - difference^2) / n for the difference of two students, half of it for one.
    """
    means, items = right.mean(axis=1), right.shape[1]
    squares, freedom = 0.0, 0.0
    for i, at in enumerate(spread):
        same = means[place == i]
        squares += float(((same - same.mean()) ** 2).sum()) * at
        freedom += len(same) - 1
    guesses = []
    for i in range(len(spread) - 1):
        for a in right[place == i]:
            for b in right[place == i + 1]:
                apart = float((a != b).mean()) - float((a - b).mean()) ** 2 + 1 / items
                guesses.append(apart / items / (1 / spread[i] + 1 / spread[i + 1]))
    pooled = (squares + PRIOR_FREEDOM * float(np.mean(guesses))) / (freedom + PRIOR_FREEDOM)
    return pooled, freedom + PRIOR_FREEDOM


def _resampled(right: Floats, index: NDArray[np.int64], draws: int, random: np.random.Generator) -> Floats:
    """Accuracies of the trials on human answers drawn anew by whole groups, [trials, draws].

    A few answers that all trials have right, and as many that all have wrong, are drawn from too, so that
    what was never seen to vary has an interval all the same; they move no centre.
    """
    trials, items = right.shape
    number = int(index.max()) + 1
    hits = np.zeros((trials, number + 2 * PSEUDO))
    for row, sums in zip(right, hits, strict=True):
        sums[:number] = np.bincount(index, weights=row, minlength=number)
    hits[:, number : number + PSEUDO] = 1.0
    counts = np.concatenate([np.bincount(index, minlength=number), np.ones(2 * PSEUDO)])
    total = len(counts)
    drawn = random.multinomial(total, np.full(total, 1 / total), size=draws).T.astype(np.float64)
    centre = hits.sum(axis=1) / counts.sum()
    wider = quantile(0.975, items, number) / quantile(0.975, items, items) * math.sqrt(number / (number - 1))
    means: Floats = right.mean(axis=1)[:, None] + wider * ((hits @ drawn) / (counts @ drawn) - centre[:, None])
    return means


def _means(values: Floats, place: NDArray[np.int64], repeats: Floats) -> Floats:
    """Means over the repeats of each size: [trials, draws] to [draws, sizes]."""
    sums = np.zeros((len(repeats), values.shape[1]))
    np.add.at(sums, place, values)
    return np.asarray((sums / repeats[:, None]).T, dtype=np.float64)


def _projected(spread: Floats, error: Floats, weights: Floats, centre: Floats, middle: float, zooms: int) -> Curves:
    """The best curve for each row of `error` [rows, sizes], its exponent's prior about `centre` [rows], in logs."""
    rows = np.arange(len(error))
    tried = np.broadcast_to(np.geomspace(LOWEST, HIGHEST, GRID), (len(error), GRID))
    for _ in range(zooms + 1):
        floor, scale, squares = _solved(spread, error, weights, tried)
        squares = squares + ((np.log(tried) - centre[:, None]) / math.log(FACTOR)) ** 2
        best = squares.argmin(axis=1)
        found = Curves(middle, floor[rows, best], scale[rows, best], tried[rows, best])
        low, high = tried[rows, np.maximum(best - 1, 0)], tried[rows, np.minimum(best + 1, tried.shape[1] - 1)]
        tried = np.linspace(low, high, 17, axis=1)
    return found


def _solved(spread: Floats, error: Floats, weights: Floats, exponents: Floats) -> tuple[Floats, Floats, Floats]:
    """(floor, scale, weighted sum of squares) at each exponent, floor and scale >= 0, all [rows, exponents].

    Non-negative least squares in two unknowns: both free where both come out so, else the better of the
    two with one of them at 0.
    """
    x = spread ** -exponents[..., None]  # [rows, exponents, sizes]
    y = error[:, None, :]
    one, sx, sxx = weights.sum(), x @ weights, (x * x) @ weights
    sy, sxy, syy = y @ weights, (x * y) @ weights, (y * y) @ weights
    determinant = np.maximum(one * sxx - sx * sx, 1e-300)
    floor, scale = (sxx * sy - sx * sxy) / determinant, (one * sxy - sx * sy) / determinant
    through, flat = np.maximum(sxy / sxx, 0.0), np.maximum(sy / one, 0.0) + 0.0 * sx
    better = through * sxy >= flat * sy  # what each takes off the sum of squares
    free = (floor >= 0) & (scale >= 0)
    floor = np.where(free, floor, np.where(better, 0.0, flat))
    scale = np.where(free, scale, np.where(better, through, 0.0))
    left = syy - 2 * (floor * sy + scale * sxy) + floor**2 * one + 2 * floor * scale * sx + scale**2 * sxx
    return floor, scale, left


def _interval(right: Floats, groups: Sequence[Hashable], confidence: float) -> Range:
    """Mean accuracy over the repeats of a size, with Wilson's interval at their mean design effect."""
    found = [accuracy([bool(c) for c in row], groups, confidence) for row in right]
    mean, effect = float(right.mean()), float(np.mean([one.design_effect for one in found]))
    z = quantile(1 - (1 - confidence) / 2, found[0].n, found[0].groups)
    return Range(mean, *wilson(mean, found[0].n / effect, z))
