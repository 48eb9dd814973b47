from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import betainc
from scipy.stats import beta

from aasut.errors import DataError
from aasut.evaluate import certify
from aasut.evaluate.certify import EVERYTHING, Target

SELECTIVE, SYSTEM = Target("selective", 0.05, 0.95), Target("system", 0.05, 0.95)


def population(n: int, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=n)
    return scores, rng.random(n) < 1 / (1 + np.exp(2.5 + 1.6 * scores))


def test_the_least_number_without_an_error() -> None:
    assert SELECTIVE.least == 59
    assert Target("selective", 0.01, 0.95).least == 299
    assert Target("selective", 0.5, 0.5).least == 1


@pytest.mark.parametrize("name", ["risk", "confidence"])
@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, math.nan])
def test_a_promise_that_cannot_be_is_refused(name: str, value: float) -> None:
    with pytest.raises(DataError, match=f"A {name} of"):
        Target("selective", **({"risk": 0.05, "confidence": 0.95} | {name: value}))


def test_thresholds_go_from_strict_to_loose() -> None:
    scores = np.arange(200) / 200
    thresholds = certify.ladder(scores)
    assert (np.diff(thresholds) < 0).all()
    shares = [(scores >= threshold).mean() for threshold in thresholds]
    assert shares == pytest.approx(np.arange(1, 51) / 50, abs=0.01)
    assert thresholds[-1] == EVERYTHING
    with pytest.raises(DataError, match="no score"):
        certify.ladder(np.array([]))


def test_each_p_value_is_the_binomial_tail() -> None:
    scores, bad = population(400)
    target = Target("selective", 0.08, 0.95)
    walked = certify.walk(scores, bad, certify.ladder(scores)[10:], target)
    assert len(walked.steps) > 3
    for step in walked.steps:
        accept = scores >= step.threshold
        assert (step.accepted, step.wrong, step.n) == (accept.sum(), (accept & bad).sum(), 400)
        # P(Binomial(n, p) <= k) as a regularised incomplete beta function
        assert step.p_value == pytest.approx(betainc(step.accepted - step.wrong, step.wrong + 1, 0.92), abs=1e-12)


def test_the_walk_ends_at_the_first_failure() -> None:
    scores = np.repeat(np.array([3.0, 2.0, 1.0]), 200)
    bad = np.zeros(600, bool)
    bad[200:230] = True  # between 2 and 3: 30 of 400 is too many; all 600 with 30 bad would not pass either
    bad[230:] = False
    walked = certify.walk(scores, bad, np.array([3.0, 2.0, 1.0]), Target("selective", 0.065, 0.95))
    assert [step.p_value <= 0.05 for step in walked.steps] == [True, False]
    assert walked.passed == walked.steps[0]
    # The loosest would have passed: that a later test passes does not bring it back.
    assert certify.walk(scores, bad, np.array([1.0]), Target("selective", 0.075, 0.95)).passed is not None


def test_nothing_is_certified_where_the_first_test_fails() -> None:
    walked = certify.walk(np.ones(58), np.zeros(58, bool), np.array([0.5]), SELECTIVE)
    assert walked.passed is None
    assert len(walked.steps) == 1
    assert certify.walk(np.ones(59), np.zeros(59, bool), np.array([0.5]), SELECTIVE).passed is not None
    assert certify.walk(np.ones(59), np.zeros(59, bool), np.array([2.0]), SELECTIVE).steps[0].p_value == 1.0


def test_the_systems_risk_counts_all_requests() -> None:
    scores, bad = np.arange(100.0), np.zeros(100, bool)
    bad[95:] = True  # the surest five are bad: selectively hopeless, of all requests few
    thresholds = np.array([90.0, 0.0])
    assert certify.walk(scores, bad, thresholds, Target("selective", 0.12, 0.95)).passed is None
    steps = certify.walk(scores, bad, thresholds, Target("system", 0.12, 0.95)).steps
    assert [step.p_value for step in steps] == pytest.approx([beta.sf(0.12, 6, 95)] * 2)


@pytest.mark.parametrize("kind", ["selective", "system"])
def test_the_promise_holds(kind: str) -> None:
    """Of 150 draws at 90 % confidence about 15 may break it: 27 is more than three standard errors above."""
    target = Target(kind, 0.08, 0.9)  # type: ignore[arg-type]
    scores, bad = population(20_000)
    rng, broken, given = np.random.default_rng(1), 0, 0
    for _ in range(150):
        tune, pool, drawn = (rng.integers(0, len(scores), n) for n in (100, 200, 250))
        thresholds = certify.ladder(scores[pool])
        begin = certify.start(thresholds, scores[pool], scores[tune], bad[tune], target, 250)
        passed = certify.walk(scores[drawn], bad[drawn], thresholds[begin:], target).passed
        if passed is not None:
            given += 1
            accept = scores >= passed.threshold
            broken += (bad[accept].mean() if kind == "selective" else (bad & accept).mean()) > target.risk
    assert given > 75
    assert broken <= 27


def test_the_start_is_where_tune_says_a_test_is_likeliest_to_pass() -> None:
    scores, bad = population(5000)
    thresholds = certify.ladder(scores)
    begin = certify.start(thresholds, scores, scores, bad, SELECTIVE, 500)
    rng = np.random.default_rng(5)
    passes = np.zeros(len(thresholds))
    for _ in range(100):
        drawn = rng.integers(0, len(scores), 500)
        passes += [
            certify.walk(scores[drawn], bad[drawn], np.array([t]), SELECTIVE).passed is not None for t in thresholds
        ]
    assert passes[begin] >= passes.max() - 12


def test_the_start_without_anything_to_fit() -> None:
    unlabelled = np.arange(1000) / 1000
    thresholds = certify.ladder(unlabelled)
    never = np.zeros(50, bool)
    begin = certify.start(thresholds, unlabelled, unlabelled[:50], never, SELECTIVE, 1000)
    assert (unlabelled >= thresholds[begin]).sum() == pytest.approx(3 * math.log(20) / 0.05, abs=20)
    assert certify.start(thresholds, unlabelled, unlabelled[:0], never[:0], SELECTIVE, 40) == len(thresholds) - 1
    begin = certify.start(thresholds, unlabelled, unlabelled[:50], never, SELECTIVE, 200)
    assert 200 * (unlabelled >= thresholds[begin]).mean() >= SELECTIVE.least
    assert certify.start(thresholds, unlabelled, unlabelled[:0], never[:0], SYSTEM, 100) == 0


def test_items_of_a_group_count_once() -> None:
    ids = [f"r{i}" for i in range(30)]
    groups = [f"g{i // 3}" for i in range(30)]
    chosen = certify.one_a_group(ids, groups, seed=7)
    assert len(chosen) == 10
    assert len({groups[i] for i in chosen}) == 10
    assert chosen == certify.one_a_group(ids, groups, seed=7) != certify.one_a_group(ids, groups, seed=8)
    turned = certify.one_a_group(ids[::-1], groups[::-1], seed=7)
    assert {ids[::-1][i] for i in turned} == {ids[i] for i in chosen}
    assert {place % 3 for seed in range(9) for place in certify.one_a_group(ids, groups, seed)} == {0, 1, 2}


def test_how_many_more_answers_would_do() -> None:
    scores, bad = population(100_000)
    few = slice(0, 100)
    more = certify.more_gold(scores, bad, certify.ladder(scores), SELECTIVE, have=100)
    assert more is not None
    # That many do give a certificate in about 80 % of draws, at the threshold that is best for them.
    rng = np.random.default_rng(2)
    thresholds = certify.ladder(scores)

    def share(threshold: float) -> float:
        given = 0
        for _ in range(200):
            drawn = rng.integers(0, len(scores), 100 + more)
            given += certify.walk(scores[drawn], bad[drawn], np.array([threshold]), SELECTIVE).passed is not None
        return given / 200

    assert max(share(t) for t in thresholds[::3]) == pytest.approx(0.8, abs=0.1)
    assert certify.more_gold(scores[few], np.ones(100, bool), thresholds, SELECTIVE, have=100) is None
    assert certify.more_gold(np.ones(2000), np.zeros(2000, bool), np.array([0.5]), SELECTIVE, have=20) == 39
    strict = Target("selective", 0.001, 0.95)  # none of 20 bad says nothing against it: at least 2,995 are wanted
    assert certify.more_gold(np.ones(20), np.zeros(20, bool), np.array([0.5]), strict, have=20) == 2995 - 20
