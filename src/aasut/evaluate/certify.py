"""Which answers a student may give by itself, with a promise on how many of them are wrong.

Learn then test (Angelopoulos, Bates, Candès, Jordan & Lei 2021, arXiv 2110.01052) with fixed-sequence
testing: thresholds are laid down, strict to loose, before a calibration answer is seen. At each one the
hypothesis that the risk is above its target is tested by the exact binomial tail; the walk goes on while
tests pass and ends at the first that fails, so that all of them share one level. Pure; opens nothing.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from aasut.data.deal import share_of
from aasut.errors import DataError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Kind = Literal["selective", "system"]

STEPS = 50  # thresholds, at even shares of what is answered
EVERYTHING = -1e9  # a threshold under every score
POWER = 0.8  # chance of a certificate with as many answers as `more_gold` says
LEAST_SEEN = 10  # accepted items under which nothing is said about what more would show
MOST_BAD = 100_000  # bad ones from which so many answers would be wanted that nobody gives them


@dataclass(frozen=True, slots=True)
class Target:
    """What is promised: with `confidence`, the risk is at most `risk`; both above 0 and below 1.

    `selective`: the share of wrong answers among those that the student gives by itself. `system`: the
    share of all requests that the student answers by itself and wrongly where the teacher would have
    been right, so that student and teacher together err at most that much more than the teacher alone.
    """

    kind: Kind
    risk: float
    confidence: float

    def __post_init__(self) -> None:
        for name in ("risk", "confidence"):
            if not 0 < getattr(self, name) < 1:
                raise DataError(
                    f"A {name} of {getattr(self, name):g} cannot be promised.", "Give a number above 0 and below 1."
                )

    @property
    def level(self) -> float:
        """Chance that the promise is broken: 1 - confidence."""
        return 1.0 - self.confidence

    @property
    def least(self) -> int:
        """Answers, none of them wrong, from which a test can pass: ln(level) / ln(1 - risk), rounded up."""
        return math.ceil(math.log(self.level) / math.log1p(-self.risk) - 1e-12)


@dataclass(frozen=True, slots=True)
class Step:
    """A test: of `n` calibration items `accepted` have a score of at least `threshold`, `wrong` of these are bad."""

    threshold: float
    accepted: int
    wrong: int
    n: int
    p_value: float


@dataclass(frozen=True, slots=True)
class Walk:
    """The tests in order, those after the first that failed left out; `passed` is the last that passed, if any."""

    target: Target
    steps: tuple[Step, ...]
    passed: Step | None


def ladder(unlabelled: Floats, steps: int = STEPS) -> Floats:
    """Thresholds, strict to loose [steps]: shares 1/steps, 2/steps, … of `unlabelled` scores [n] are at least them.

    The last is EVERYTHING.
    """
    if len(unlabelled) < 1:
        raise DataError("There is no score to lay thresholds by.", "Give data.split.tune a weight.")
    shares = np.arange(1, steps + 1) / steps
    found: Floats = np.quantile(unlabelled, 1 - shares, method="inverted_cdf").astype(np.float64)
    found[-1] = EVERYTHING
    return found


def start(
    thresholds: Floats, unlabelled: Floats, scores: Floats, bad: Bools, target: Target, calibration_items: int
) -> int:
    """The threshold from which the walk starts: the one whose test is likeliest to pass, by labelled rows of `tune`.

    thresholds [T], unlabelled [n] as in `ladder`; scores, bad [m] of rows with human answers that are not
    used for calibration. The chance that an answer is bad is taken as a logistic function of its score,
    with a ridge; of the surest few it tells least, so that the first test accepts enough to bear one bad
    answer, or a third of the items. Where `bad` is all one value, or there are no rows, the walk starts where
    about 3 ln(1/level)/risk calibration items are accepted, or at the least number that can pass.
    """
    accepted = (unlabelled[None] >= thresholds[:, None]).mean(axis=1)
    expected = np.floor(calibration_items * accepted + 0.5).astype(np.int64)
    if target.kind == "selective":
        least = max(target.least, min(_fewest_trials(1, target), calibration_items // 3))
        possible = expected >= min(least, int(expected[-1]))
    else:
        possible = np.ones(len(thresholds), dtype=bool)
    if len(bad) < 2 or bad.all() or not bad.any():
        wanted = 3 * math.log(1 / target.level) / target.risk if target.kind == "selective" else 0
        enough = np.flatnonzero(possible & (expected >= min(wanted, calibration_items / 2)))
        return int(enough[0]) if len(enough) else len(thresholds) - 1
    chance = _chance_of_bad(scores, bad, unlabelled)
    order = np.argsort(-unlabelled, kind="stable")
    rows = np.maximum(np.floor(accepted * len(unlabelled) + 0.5).astype(np.int64), 1)
    total = np.cumsum(chance[order])[rows - 1]
    if target.kind == "selective":
        passing = _pass_chance(expected, total / rows, target)
    else:
        trials = np.full(len(thresholds), calibration_items)
        passing = _pass_chance(trials, total / len(unlabelled), target)
    return int(np.where(possible, passing, -1.0).argmax())


def walk(scores: Floats, bad: Bools, thresholds: Floats, target: Target) -> Walk:
    """Test the thresholds, strict to loose, until one fails.

    scores, bad [n]: calibration items that are independent draws of what will be asked (see
    `one_a_group`); `bad` is what the target's kind counts. p is P(Binomial(trials, risk) <= bad ones), where
    trials are the accepted items for `selective` and all items for `system`; it passes at p <= level.
    """
    from scipy.special import bdtr  # the binomial's distribution function

    order = np.argsort(-scores, kind="stable")
    accepted = np.searchsorted(-scores[order], -thresholds, side="right")
    wrong = np.concatenate([[0], np.cumsum(bad[order])])[accepted]
    trials = accepted if target.kind == "selective" else np.full(len(thresholds), len(scores))
    p_values = np.where(trials > 0, bdtr(wrong, np.maximum(trials, 1), target.risk), 1.0)
    failed = np.flatnonzero(p_values > target.level)
    passed = int(failed[0]) if len(failed) else len(thresholds)
    steps = tuple(
        Step(float(thresholds[i]), int(accepted[i]), int(wrong[i]), len(scores), float(p_values[i]))
        for i in range(min(passed + 1, len(thresholds)))
    )
    return Walk(target, steps, steps[passed - 1] if passed else None)


def one_a_group(ids: Sequence[str], groups: Sequence[Hashable], seed: int) -> list[int]:
    """Places of one item of each group, drawn by hash of id and seed: items of one source count once."""
    chosen: dict[Hashable, tuple[float, int]] = {}
    for place, (name, group) in enumerate(zip(ids, groups, strict=True)):
        drawn = (share_of(f"{seed} calibrate {name}"), place)
        chosen[group] = min(chosen.get(group, drawn), drawn)
    return sorted(place for _, place in chosen.values())


def more_gold(scores: Floats, bad: Bools, thresholds: Floats, target: Target, have: int) -> int | None:
    """About how many independent items beyond `have` would give a certificate, with a chance of 80 %.

    scores, bad [n]: items with human answers. At each threshold the share accepted is taken as seen, and
    the risk as (bad + 1/2) / (trials + 1), or as 0 where none was bad and even that is too much; the fewest
    items over all thresholds are given. None where the risk seen is nowhere under the target.
    """
    fewest: int | None = None
    for threshold in thresholds.tolist():
        accept = scores >= threshold
        count, wrong = int(accept.sum()), int((accept & bad).sum())
        selective = target.kind == "selective"
        if count < LEAST_SEEN:
            continue
        trials = _trials_wanted((wrong + 0.5) / ((count if selective else len(scores)) + 1), target)
        trials = target.least if trials is None and not wrong else trials
        if trials is not None:
            wanted = math.ceil(trials * len(scores) / count) if selective else trials
            fewest = wanted if fewest is None else min(fewest, wanted)
    return None if fewest is None else max(1, fewest - have)


def _chance_of_bad(scores: Floats, bad: Bools, at: Floats) -> Floats:
    """Chance that an answer with each of the scores `at` is bad: a logistic function fitted to scores, bad [m]."""
    from sklearn.linear_model import LogisticRegression

    middle, spread = float(scores.mean()), float(scores.std()) or 1.0
    model = LogisticRegression().fit(((scores - middle) / spread)[:, None], bad)
    return np.asarray(model.predict_proba(((at - middle) / spread)[:, None])[:, 1])


def _most_bad(trials: NDArray[np.int64], target: Target) -> NDArray[np.int64]:
    """The most bad ones of so many trials with which a test passes; -1 where none do."""
    from scipy.special import bdtr
    from scipy.stats import binom

    found = binom.ppf(target.level, trials, target.risk).astype(np.int64)
    return np.asarray(found - (bdtr(found, trials, target.risk) > target.level))


def _pass_chance(trials: NDArray[np.int64], risk: Floats, target: Target) -> Floats:
    """Chance that a test of so many trials passes at these true risks."""
    from scipy.special import bdtr

    most = _most_bad(trials, target)
    return np.where(most >= 0, bdtr(np.maximum(most, 0), np.maximum(trials, 1), risk), 0.0)


def _trials_wanted(risk: float, target: Target) -> int | None:
    """The fewest trials that pass with 80 % chance at a true risk; None where it is not under the target."""
    from scipy.special import bdtr

    if risk >= target.risk:
        return None
    most = 0
    while bdtr(most, _fewest_trials(most, target), risk) < POWER:
        most = most + max(1, most // 20)
        if most > MOST_BAD:
            return None
    return _fewest_trials(most, target)


def _fewest_trials(most: int, target: Target) -> int:
    """The fewest trials with which a test passes although `most` of them are bad."""
    from scipy.special import bdtr

    low, high = most, max(target.least, math.ceil(2 * (most + 1) / target.risk) + target.least)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if bdtr(most, middle, target.risk) <= target.level else (middle, high)
    return high
