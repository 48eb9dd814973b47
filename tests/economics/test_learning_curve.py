from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from aasut.economics import learning_curve
from aasut.errors import DataError
from aasut.evaluate.subsets import Trial

PARTS = ((8, 8), (4, 4), (2, 2), (1, 1))  # 1/8 of the answers 8 times, and so on: as for linear students
ITEMS = [str(i) for i in range(250)]
CHANCE = [i < 150 for i in range(250)]


def truth(n: float) -> float:
    return 1 - 0.08 - (0.4 - 0.08) / (1 + (n / 60) ** 0.6)


def students(random: np.random.Generator, whole: int = 400, parts=PARTS, items: int = 250, alike: float = 0.8):
    """(trials, a student of n answers judged on fresh items) in a world whose curve is `truth`.

    An item is right where its ease, shared by all students, luck and the student's level together are above 0;
    a student's level wavers with its subset.
    """
    ease = random.standard_normal(items)

    def right(n: float, ease: np.ndarray) -> np.ndarray:
        level = norm.ppf(truth(n)) + 0.05 * math.sqrt(100 / n) * random.standard_normal()
        luck = random.standard_normal(len(ease))
        return alike * ease + math.sqrt(1 - alike**2) * luck + level > 0

    trials = [Trial(whole // of, right(whole // of, ease).tolist()) for of, times in parts for _ in range(times)]
    return trials, lambda n, count: right(n, random.standard_normal(count))


def fitted(seed: int = 0, draws: int = 300, **more):
    trials, _ = students(np.random.default_rng(seed), **more)
    return learning_curve.fit(trials, CHANCE, ITEMS, draws=draws), trials


def test_noise_is_pooled_from_repeats() -> None:
    """Many repeats: the pooled variance at spread 1 is that of one-way analysis of variance, weighted by spread."""
    random = np.random.default_rng(0)
    right = random.random((80, 400)) < 0.8
    place = np.repeat([0, 1], 40)
    noise, freedom = learning_curve._noise(right.astype(float), place, np.array([0.5, 2.0]))
    means = right.mean(axis=1)
    pooled = (0.5 * means[:40].var(ddof=1) * 39 + 2.0 * means[40:].var(ddof=1) * 39) / 78
    assert freedom == 78 + learning_curve.PRIOR_FREEDOM
    assert noise == pytest.approx(pooled, rel=0.1)


def test_noise_is_drawn_at_its_size_and_as_uncertain_as_its_degrees_of_freedom() -> None:
    """A scaled inverse chi-square has the mean noise * f / (f - 2)."""
    found, trials = fitted(1, draws=2000)
    right = np.array([trial.correct for trial in trials], dtype=float)
    place = np.array([list(found.sizes).index(trial.examples) for trial in trials])
    noise, freedom = learning_curve._noise(right, place, np.array(list(found.sizes)) / found.middle)
    assert np.mean(found.noise**2) == pytest.approx(noise * freedom / (freedom - 2), rel=0.1)
    at = found._seen(found.middle) - found.drawn.accuracy(found.middle)
    assert np.std(at) == pytest.approx(np.sqrt(np.mean(found.noise**2)), rel=0.1)


def test_accuracy_never_falls_and_is_at_most_one() -> None:
    for seed in range(6):
        found, _ = fitted(seed, draws=100)
        for curve in (found.best, found.drawn):
            values = np.array([curve.accuracy(n) for n in np.geomspace(10, 1e7, 30)])
            assert (np.diff(values, axis=0) >= -1e-12).all()
            assert (values <= 1).all()
        assert found.gain(500).low >= 0


def test_what_is_needed_is_where_the_curve_gets_there() -> None:
    found, _ = fitted()
    needed = found.needed(0.85).value
    assert found.accuracy(needed).value == pytest.approx(0.85)
    assert found.needed(0.5).value == 0
    assert math.isinf(found.needed(1.0).value) or found.best.limit[0] == 0
    assert found.needed(0.85).low <= needed <= found.needed(0.85).high


@pytest.mark.parametrize("parts", [PARTS, ((8, 2), (4, 1), (2, 1), (1, 1))], ids=["repeats", "hardly any"])
def test_intervals_hold_what_then_happens(parts) -> None:
    """4 times the answers, 40 worlds: at least 85 % of the 95 % intervals hold, of points measured and of gains."""
    random, held, gained, errors = np.random.default_rng(1), [], [], []
    for _ in range(40):
        trials, ask = students(random, parts=parts)
        found = learning_curve.fit(trials, CHANCE, ITEMS, draws=200)
        seen = float(ask(1600, 1000).mean())
        predicted, gain = found.measured(1600, 1000), found.gain(1200)
        held.append(predicted.low <= seen <= predicted.high)
        gained.append(gain.low <= truth(1600) - truth(400) <= gain.high)
        errors.append(abs(predicted.value - seen))
    assert np.mean(held) >= 0.85
    assert np.mean(gained) >= 0.85
    assert np.mean(errors) < 0.04


def test_items_of_one_group_count_as_one() -> None:
    """Each item four times over, in one group: the interval stays about as wide as with each once."""
    trials, _ = students(np.random.default_rng(2))
    once = learning_curve.fit(trials, CHANCE, ITEMS, draws=1000).accuracy(400)
    fourfold = [Trial(t.examples, [c for c in t.correct for _ in range(4)]) for t in trials]
    four = [c for c in CHANCE for _ in range(4)]
    groups = [g for g in ITEMS for _ in range(4)]
    clustered = learning_curve.fit(fourfold, four, groups, draws=1000).accuracy(400)
    apart = learning_curve.fit(fourfold, four, [str(i) for i in range(1000)], draws=1000).accuracy(400)
    width = once.high - once.low
    assert clustered.high - clustered.low == pytest.approx(width, rel=0.15)
    assert apart.high - apart.low < 0.75 * width


def test_students_that_are_all_right_still_have_intervals() -> None:
    trials = [Trial(n, [True] * 40) for n in (25, 50, 100, 200)]
    found = learning_curve.fit(trials, [i < 20 for i in range(40)], ITEMS[:40], draws=500)
    now = found.accuracy(200)
    assert 0.97 < now.value <= 1
    assert now.low < now.value - 0.005
    assert found.gain(200).high > 0
    assert found.sizes[200].low < 0.95


def test_a_fit_is_repeatable_and_follows_its_seed() -> None:
    trials, _ = students(np.random.default_rng(2))
    one, two, other = (learning_curve.fit(trials, CHANCE, ITEMS, draws=200, seed=s).accuracy(900) for s in (1, 1, 2))
    assert one == two
    assert one != other


def test_too_little_is_refused() -> None:
    two = [Trial(10, [True, False]), Trial(20, [True, True])]
    with pytest.raises(DataError, match="3 numbers of answers at least, and there are 2"):
        learning_curve.fit(two, [True, False], ["a", "b"])
    with pytest.raises(DataError, match="too few for an error bar"):
        learning_curve.fit([Trial(n, [True]) for n in (1, 2, 3)], [True], ["a"])
    with pytest.raises(DataError, match="of one group"):
        learning_curve.fit([Trial(n, [True, False]) for n in (1, 2, 3)], [True, False], ["a", "a"])
