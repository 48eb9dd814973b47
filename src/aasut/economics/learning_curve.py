"""What more answers of the teacher are worth: accuracy against their number, from students of small subsets.

The curve is that of curves.py. Intervals come from refitting it, each time to
- a bootstrap of the human answers by whole groups (Davison & Hinkley 1997, Bootstrap Methods, chapters 2 and 3.8);
- other subsets, whose noise is drawn at the variance that repeats of a size show;
- other centres of the priors (randomise, then optimise: Bardsley et al. 2014, SIAM Journal on Scientific Computing
  36, A1895-A1910).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aasut.economics.curves import Curves, Floats, Problem
from aasut.errors import DataError
from aasut.evaluate.metrics import accuracy, group_index, quantile, wilson
from aasut.evaluate.subsets import Trial

SMALLEST = 3  # distinct sizes
DRAWS = 1000
FALL = 1.0  # with which power of n the variance that a subset's choice makes falls
PRIOR_FREEDOM = 4.0  # degrees of freedom that the noise guessed from disagreements counts for
PSEUDO = 2  # answers taken to be right, and as many to be wrong, whatever the size (Agresti & Coull 1998)


@dataclass(frozen=True, slots=True)
class Range:
    """A figure with a two-sided interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class LearningCurve:
    """A fitted curve. `best` is the likeliest one, `drawn` the refitted ones that intervals come from.

    noise: deviation of one student's accuracy at `middle` answers, as drawn, [draws]; it falls with n (see FALL).
    sizes: those measured, each with its mean accuracy and interval. effect: design effect of the human answers.
    """

    best: Curves
    drawn: Curves
    noise: Floats
    middle: float
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
        counted = max(1, round(items / self.effect))
        share = self._random(2).binomial(counted, chance) / counted
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
        drawn = self.drawn.accuracy(examples) + noise * (self.middle / examples) ** (FALL / 2)
        return np.asarray(drawn, dtype=np.float64)

    def _random(self, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, stream])

    def _range(self, value: float, drawn: Floats) -> Range:
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(drawn, [tail, 1 - tail], method="inverted_cdf")
        return Range(value, min(value, float(low)), max(value, float(high)))


def fit(
    trials: Sequence[Trial],
    chance: Sequence[bool],
    groups: Sequence[Hashable],
    confidence: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> LearningCurve:
    """Fit the curve to students of several sizes, all judged on the same human answers.

    chance: is the commonest answer right, one entry a human answer; groups: of the human answers, one entry each.
    Raises DataError under 3 distinct sizes, and where there are under two human answers or groups.
    """
    sizes = sorted({trial.examples for trial in trials})
    if len(sizes) < SMALLEST:
        raise DataError(
            f"A learning curve needs students of {SMALLEST} numbers of answers at least, and there are {len(sizes)}.",
            "Give more inputs, in more groups, so that smaller parts of them can be learned from.",
        )
    index = group_index(groups, len(trials[0].correct))
    right = np.array([trial.correct for trial in trials], dtype=np.float64)
    place = np.array([sizes.index(trial.examples) for trial in trials])
    repeats = np.bincount(place).astype(np.float64)
    size = np.array(sizes, dtype=np.float64)
    middle = float(np.exp(np.log(size).mean()))
    spread = (size / middle) ** FALL  # a student's variance is noise / spread
    noise, freedom = _noise(right, place, spread)
    random = np.random.default_rng([seed, 0])
    drawn = _resampled(np.vstack([right, chance]), index, draws, random)
    variance = noise * freedom / random.chisquare(freedom, draws)
    error = 1 - _means(drawn[:-1], place, repeats)
    error += random.standard_normal(error.shape) * np.sqrt(variance[:, None] / (spread * repeats))
    weights = spread * repeats / noise
    least = 1 / len(chance)  # of an error by chance: all human answers may be one and the same
    problem = Problem(size, weights)
    seen = 1 - _means(right.mean(axis=1)[:, None], place, repeats)[0]
    return LearningCurve(
        problem.exactly(seen, max(1 - float(np.mean(chance)), least)),
        problem.on_grid(error, np.maximum(1 - drawn[-1], least), random.standard_normal((3, draws))),
        np.sqrt(variance),
        middle,
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
    """Accuracies on human answers drawn anew by whole groups, [rows, draws]; right: [rows, human answers].

    A few answers that all rows have right, and as many that all have wrong, are drawn from too, so that
    what was never seen to vary has an interval all the same; they move no centre.
    """
    rows, items = right.shape
    number = int(index.max()) + 1
    hits = np.zeros((rows, number + 2 * PSEUDO))
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


def _interval(right: Floats, groups: Sequence[Hashable], confidence: float) -> Range:
    """Mean accuracy over the repeats of a size, with Wilson's interval at their mean design effect."""
    found = [accuracy([bool(c) for c in row], groups, confidence) for row in right]
    mean, effect = float(right.mean()), float(np.mean([one.design_effect for one in found]))
    z = quantile(1 - (1 - confidence) / 2, found[0].n, found[0].groups)
    return Range(mean, *wilson(mean, found[0].n / effect, z))
