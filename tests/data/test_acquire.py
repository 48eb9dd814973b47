"""What is drawn: exact probabilities, another region for every draw, more where a model is unsure."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from aasut.data import acquire

RNG = np.random.default_rng(1)


@pytest.mark.parametrize(("rows", "count"), [(50, 10), (50, 50), (7, 1), (400, 390)])
def test_probabilities_add_up_and_go_by_score(rows: int, count: int) -> None:
    scores = RNG.exponential(size=rows) ** 3
    pi = acquire.inclusion(scores, count)
    assert pi.sum() == pytest.approx(count, abs=1e-9)
    assert pi.max() <= 1
    free = pi < 1
    soft = np.exp(-np.argsort(np.argsort(-scores)) / count)
    size = acquire.MIX / rows + (1 - acquire.MIX) * soft / soft.sum()
    assert np.allclose(np.ptp(pi[free] / size[free]) if free.any() else 0.0, 0.0, atol=1e-9 * count * rows)
    assert set(np.flatnonzero(~free)) <= set(np.argsort(-scores)[: (~free).sum()])  # the highest scores alone are sure
    assert pi.min() >= acquire.MIX * count / rows - 1e-12  # so that no weight is over 1 / MIX times the mean


def test_without_any_score_all_rows_are_alike() -> None:
    assert np.allclose(acquire.inclusion(np.zeros(8), 3), 3 / 8)


def test_systematic_sampling_meets_every_probability() -> None:
    """Between the points at which a row enters or leaves, the sample is one and the same: the integral is exact."""
    pi = acquire.inclusion(RNG.exponential(size=40), 11)
    breaks = np.unique(np.concatenate([[0.0, 1.0], np.cumsum(pi) % 1]))
    drawn = np.zeros(40)
    for low, high in pairwise(breaks):
        sample = acquire.systematic(pi, (low + high) / 2)
        assert len(set(sample.tolist())) == 11
        drawn[sample] += high - low
    assert np.abs(drawn - pi).max() < 1e-9


def test_a_row_is_drawn_as_often_as_its_probability_says() -> None:
    """Both arms, over many seeds; the chosen arm's probability is given the random arm's draw."""
    vectors, scores = RNG.normal(size=(24, 3)), np.arange(24.0)
    draws, times, expected, arms = 700, np.zeros(24), np.zeros(24), Counter[str]()
    for seed in range(draws):
        picked = acquire.pick(vectors, scores, 10, 0.4, (seed, 1))
        assert len({one.row for one in picked}) == 10
        arms.update(one.arm for one in picked)
        at_random = [one.row for one in picked if one.arm == "random"]
        rest = np.setdiff1d(np.arange(24), at_random)
        expected[at_random] += 1
        expected[rest] += acquire.inclusion(scores[rest], 6)
        times[[one.row for one in picked]] += 1
        assert all(one.probability == 4 / 24 for one in picked if one.arm == "random")
    assert arms == {"random": 4 * draws, "chosen": 6 * draws}
    assert np.abs(times - expected).max() / draws < 4 * 0.5 / np.sqrt(draws)


def test_every_draw_falls_into_another_region() -> None:
    """Eight clouds of equal size: eight draws without a score take one of each, which chance would in 1 of 400."""
    centres = np.array([[x, y, z] for x in (0, 9) for y in (0, 7) for z in (0, 5)], float)
    vectors = np.repeat(centres, 25, axis=0) + RNG.normal(scale=0.3, size=(200, 3))
    shuffled = RNG.permutation(200)
    for seed in range(20):
        picked = acquire.pick(vectors[shuffled], None, 8, 0.0, (seed,))
        assert {shuffled[one.row] // 25 for one in picked} == set(range(8))
        assert all(one.probability == pytest.approx(8 / 200) for one in picked)


def test_the_rows_that_a_model_is_most_unsure_of_are_asked_and_now_and_then_another() -> None:
    vectors, scores = RNG.normal(size=(1000, 4)), np.arange(1000.0) ** 3
    picked = [one.row for one in acquire.pick(vectors, scores, 100, 0.0, (3,))]
    pi = acquire.inclusion(scores, 100)
    assert np.mean(np.array(picked) >= 800) == pytest.approx(pi[800:].sum() / 100, abs=0.11)
    assert pi[800:].sum() > 80
    assert 0 < pi[0] == pytest.approx(acquire.MIX * 100 / 1000, rel=0.3)


def test_the_same_seed_draws_the_same_and_a_budget_over_the_pool_takes_it_all() -> None:
    vectors = RNG.normal(size=(30, 2))
    assert acquire.pick(vectors, None, 9, 0.2, (7, 2)) == acquire.pick(vectors, None, 9, 0.2, (7, 2))
    assert acquire.pick(vectors, None, 9, 0.2, (7, 2)) != acquire.pick(vectors, None, 9, 0.2, (7, 3))
    everything = acquire.pick(vectors, None, 99, 0.2, (7,))
    assert sorted(one.row for one in everything) == list(range(30))
    assert {one.probability for one in everything if one.arm == "chosen"} == {1.0}


@pytest.mark.parametrize(("share", "random"), [(0.0, 0), (1.0, 10), (0.25, 3)])
def test_the_random_arm_has_its_share(share: float, random: int) -> None:
    picked = acquire.pick(RNG.normal(size=(40, 2)), None, 10, share, (1,))
    assert sum(one.arm == "random" for one in picked) == random
    assert len(picked) == 10


def test_one_row_and_rows_that_are_all_alike() -> None:
    assert [one.row for one in acquire.pick(np.zeros((1, 1)), None, 3, 0.2, (1,))] == [0]
    assert len({one.row for one in acquire.pick(np.zeros((50, 2)), None, 20, 0.1, (1,))}) == 20


def test_texts_that_share_words_are_near() -> None:
    texts = [f"{word} {number}" for word in ("camera lens broken", "late parcel delivery") for number in range(20)]
    vectors = acquire.embed(texts)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
    near = vectors @ vectors.T
    assert near[:20, :20].min() > near[:20, 20:].max()
    assert acquire.embed(["one", "zwei"]).shape[0] == 2
    assert acquire.embed(["", ""]).shape[0] == 2


def test_uncertainty_is_what_the_likeliest_answer_leaves() -> None:
    assert np.allclose(acquire.uncertainty(np.array([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0]])), [0.3, 0.0])
