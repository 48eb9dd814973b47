"""The paired verdict: what it counts, its error rate, and its sentences."""

from __future__ import annotations

import json

import numpy as np
import pytest
from quartic import quartic
from scipy.stats import norm

from aasut.errors import DataError
from aasut.evaluate import paired


def sides(both: int, only_a: int, only_b: int, none: int) -> tuple[list[bool], list[bool]]:
    a = [True] * (both + only_a) + [False] * (only_b + none)
    b = [True] * both + [False] * only_a + [True] * only_b + [False] * none
    return a, b


def test_compare_counts_and_signs() -> None:
    a, b = sides(800, 50, 20, 130)
    found = paired.compare(a, b, range(1000))
    assert (found.difference, found.discordance, found.only_a, found.only_b) == (0.03, 0.07, 50, 20)
    z = norm.ppf(0.975)
    roots = quartic(50, 20, 1000, z)
    assert (found.lower, found.upper) == pytest.approx((roots[0], roots[-1]), abs=1e-8)
    assert found.better
    back = paired.compare(b, a, range(1000))
    assert (back.lower, back.upper) == pytest.approx((-found.upper, -found.lower), abs=1e-10)
    assert not back.better
    assert json.loads(json.dumps(found.as_dict()))["ci"] == [found.lower, found.upper]


def test_groups_widen_the_interval() -> None:
    a, b = sides(800, 50, 20, 130)
    groups = [i // 10 for i in range(1000)]  # discordant items share groups
    apart, together = paired.compare(a, b, range(1000)), paired.compare(a, b, groups)
    assert apart.design_effect == 1.0
    assert together.design_effect == pytest.approx(10, rel=0.05)
    assert together.upper - together.lower > 2.5 * (apart.upper - apart.lower)


def test_an_item_seen_twice_counts_once() -> None:
    a, b = sides(400, 40, 10, 50)
    once, twice = paired.compare(a, b, range(500)), paired.compare(a * 2, b * 2, [*range(500), *range(500)])
    assert (twice.lower, twice.upper) == pytest.approx((once.lower, once.upper), abs=2e-4)
    single, double = (
        paired.verdict(a, b, range(500), 0.03),
        paired.verdict(a * 2, b * 2, [*range(500), *range(500)], 0.03),
    )
    assert double.lower_bound == pytest.approx(single.lower_bound, abs=2e-4)
    assert double.upper_bound == pytest.approx(single.upper_bound, abs=2e-4)


def test_verdicts() -> None:
    near = paired.verdict(*sides(850, 30, 32, 88), range(1000), 0.03)
    assert near.result == "non_inferior"
    assert near.more_examples_needed == 0
    far = paired.verdict(*sides(800, 10, 90, 100), range(1000), 0.03)
    assert far.result == "inferior"
    assert far.upper_bound < -0.03
    assert far.more_examples_needed == 0
    unsure = paired.verdict(*sides(80, 5, 6, 9), range(100), 0.03)
    assert unsure.result == "undecided"
    assert unsure.lower_bound < -0.03 < unsure.upper_bound
    beyond = paired.verdict(*sides(80, 4, 8, 8), range(100), 0.03)
    assert (beyond.result, beyond.more_examples_needed) == ("undecided", None)


def test_bounds_are_one_sided() -> None:
    found = paired.verdict(*sides(850, 30, 32, 88), range(1000), 0.03, 0.95)
    assert found.lower_bound == pytest.approx(quartic(30, 32, 1000, norm.ppf(0.95))[0], abs=1e-8)
    assert found.paired.lower < found.lower_bound < found.upper_bound < found.paired.upper


def test_more_examples_by_hand_and_in_use() -> None:
    # 10 % discordance, no difference, margin 2 points.
    found = paired.verdict(*sides(80, 5, 5, 10), range(100), 0.02)
    assert found.more_examples_needed == 1578 - 100
    # Twice the effect, twice the items.
    a, b = sides(80, 5, 5, 10)
    doubled = paired.verdict(a * 2, b * 2, [*range(100), *range(100)], 0.02)
    assert doubled.more_examples_needed == pytest.approx(2 * 1578 - 200, rel=0.03)
    enough = 1577
    decided = paired.verdict(*sides(enough - 160, 79, 79, 2), range(enough), 0.02)
    assert decided.result == "non_inferior"


def test_no_discordance_has_width_and_says_how_many_would_do() -> None:
    few = paired.verdict([True] * 40, [True] * 40, range(40), 0.03)
    assert few.result == "undecided"
    assert few.lower_bound < -0.03
    assert few.more_examples_needed is not None
    n = 40 + few.more_examples_needed
    assert paired.verdict([True] * n, [True] * n, range(n), 0.03).result == "non_inferior"
    assert paired.verdict([True] * (n - 2), [True] * (n - 2), range(n - 2), 0.03).result == "undecided"


@pytest.mark.parametrize(
    ("a", "b", "groups"),
    [([True], [True], ["g"]), ([True] * 9, [False] * 9, ["g"] * 9), ([True] * 3, [True] * 2, list("abc"))],
)
def test_too_little_to_say(a: list[bool], b: list[bool], groups: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        paired.verdict(a, b, groups, 0.03)
    assert caught.value.remedy


def draw(rng: np.random.Generator, groups: int, size: int) -> tuple[list[bool], list[bool]]:
    """Student and teacher whose true difference is exactly -3 points, with 15 % discordance in whole groups' moods."""
    mood = rng.random(groups) < 0.5  # half the groups have all the discordance
    losing = np.where(mood, 0.18, 0.0)[:, None]
    winning = np.where(mood, 0.12, 0.0)[:, None]
    chance = rng.random((groups, size))
    difference = np.where(chance < losing, -1, np.where(chance < losing + winning, 1, 0)).ravel()
    teacher = np.where(difference != 0, difference < 0, rng.random(groups * size) < 0.9)
    return (teacher.astype(int) + difference > 0).tolist(), teacher.tolist()


@pytest.mark.parametrize("size", [1, 8])
def test_false_non_inferiority_rate_at_the_margin(size: int) -> None:
    rng = np.random.default_rng(20)
    groups = np.repeat(np.arange(640 // size), size).tolist()
    tries = 1200
    wrong = sum(
        paired.verdict(*draw(rng, 640 // size, size), groups, 0.03).result == "non_inferior" for _ in range(tries)
    )
    assert 0.03 <= wrong / tries <= 0.075  # .05, give or take four standard errors


def test_false_non_inferiority_rate_where_groups_sway_the_difference() -> None:
    rng = np.random.default_rng(21)
    groups = np.repeat(np.arange(80), 8)
    wrong = naive = 0
    tries = 800
    for _ in range(tries):
        lean = rng.choice([0.0, 0.15], 80)[groups]  # chance that the student alone is right; mean .075
        chance = rng.random(640)
        difference = np.where(chance < lean, 1, np.where(chance < 0.18, -1, 0))
        student, teacher = (difference > 0).tolist(), (difference < 0).tolist()
        wrong += paired.verdict(student, teacher, groups.tolist(), 0.03).result == "non_inferior"
        naive += paired.verdict(student, teacher, range(640), 0.03).result == "non_inferior"
    assert 0.025 <= wrong / tries <= 0.08
    assert naive / tries > wrong / tries


@pytest.mark.parametrize("groups", [range(1000), [i // 25 for i in range(1000)]])
def test_p_values_are_the_bounds_turned_round(groups: list[int]) -> None:
    for confidence in (0.6, 0.9, 0.99):
        found = paired.verdict(*sides(850, 30, 42, 78), groups, 0.03, confidence)
        at_lower = paired.p_at_most(found.paired, found.lower_bound)
        assert at_lower == pytest.approx(1 - confidence, abs=1e-8)
        assert 1 - paired.p_at_most(found.paired, found.upper_bound) == pytest.approx(1 - confidence, abs=1e-8)
        assert (paired.p_at_most(found.paired, -0.03) < 1 - confidence) == (found.result == "non_inferior")
    pair = paired.compare(*sides(850, 30, 42, 78), range(1000))
    assert paired.p_equal(pair) == pytest.approx(2 * norm.sf(12 / 72**0.5), abs=1e-8)  # McNemar's, as n is large
    same = paired.compare(*sides(900, 0, 0, 100), range(1000))
    assert paired.p_equal(same) == 1
    assert paired.p_at_most(same, -0.5) < 1e-12
    assert paired.p_at_most(same, 0.5) > 1 - 1e-12


def test_sentences_say_what_was_found() -> None:
    good = paired.verdict_sentence(paired.verdict(*sides(850, 30, 32, 88), range(1000), 0.03))
    assert good.startswith("The student may replace the teacher.")
    assert "0.2 points less accurate, with 95 % confidence at most 1.5 points less; the margin is 3.0 points" in good
    better = paired.verdict_sentence(paired.verdict(*sides(850, 80, 10, 60), range(1000), 0.03))
    assert "7.0 points more accurate, with 95 % confidence at least" in better
    bad = paired.verdict_sentence(paired.verdict(*sides(800, 10, 90, 100), range(1000), 0.03))
    assert bad.startswith("The student is not good enough.")
    unsure = paired.verdict(*sides(80, 5, 6, 9), range(100), 0.03)
    assert f"About {unsure.more_examples_needed:,} more human answers" in paired.verdict_sentence(unsure)
    beyond = paired.verdict(*sides(80, 4, 8, 8), range(100), 0.03)
    assert "cannot be promised" in paired.verdict_sentence(beyond)


def test_recommendation() -> None:
    good = paired.verdict(*sides(850, 30, 32, 88), range(1000), 0.03)
    bad = paired.verdict(*sides(800, 10, 90, 100), range(1000), 0.03)
    above = paired.compare(*sides(800, 90, 10, 100), range(1000))
    equal = paired.compare(*sides(850, 31, 30, 89), range(1000))
    below = paired.compare(*sides(800, 10, 90, 100), range(1000))
    assert paired.recommend(good, above).use == "student"
    assert paired.recommend(good, None).use == "student"
    linear = paired.recommend(good, equal)
    assert linear.use == "linear"
    assert linear.sentence.startswith("The linear model is as good as the student")
    assert paired.recommend(good, below).sentence.startswith("The linear model is better than the student")
    assert paired.recommend(bad, above).use == "teacher"
    neither = paired.recommend(bad, equal)
    assert neither.use == "teacher"
    assert neither.sentence.startswith("The linear model is as good")


def test_a_student_of_whom_nothing_is_decided_is_not_recommended() -> None:
    """Not to be told from the teacher is not to be as good: a few answers tell hardly anything apart."""
    unsure = paired.verdict(*sides(80, 5, 6, 9), range(100), 0.03)
    alike = paired.verdict(*sides(90, 0, 0, 10), range(100), 0.01)
    assert {unsure.result, alike.result} == {"undecided"}
    assert unsure.paired.mcnemar_p > 0.9
    above = paired.compare(*sides(800, 90, 10, 100), range(1000))
    equal = paired.compare(*sides(850, 31, 30, 89), range(1000))
    for found in (unsure, alike):
        assert paired.verdict_sentence(found).startswith("Not decided.")
        for linear in (None, above, equal):
            said = paired.recommend(found, linear)
            assert said.use == "teacher"
            assert "not shown to be within the margin" in said.sentence
