"""Dawid & Skene's EM against a slow one written out, known parameters found again, and one vote a family."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from aasut.data.dawid_skene import consensus, hard, one_vote_a_family
from aasut.errors import DataError

CONFUSION = np.array(
    [
        [[0.9, 0.07, 0.03], [0.1, 0.8, 0.1], [0.05, 0.15, 0.8]],
        [[0.7, 0.2, 0.1], [0.1, 0.85, 0.05], [0.1, 0.1, 0.8]],
        [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.02, 0.08, 0.9]],
        [[0.6, 0.2, 0.2], [0.2, 0.6, 0.2], [0.2, 0.2, 0.6]],
    ]
)
SHARES = np.array([0.5, 0.3, 0.2])


def simulated(items: int, missing: float, seed: int = 0) -> tuple[Any, list[list[int | None]]]:
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, items, p=SHARES)
    return truth, [
        [None if rng.random() < missing else int(rng.choice(3, p=matrix[t])) for matrix in CONFUSION] for t in truth
    ]


def slow(votes: list[list[int | None]], classes: int, steps: int) -> tuple[Any, Any, Any]:
    """The paper's equations 2.3 to 2.5, item by item."""
    posteriors = []
    for row in votes:
        cast = [v for v in row if v is not None]
        posteriors.append([cast.count(c) / len(cast) for c in range(classes)])
    for _ in range(steps):
        prevalence = [sum(p[c] for p in posteriors) / len(votes) for c in range(classes)]
        confusion = []
        for rater in range(len(votes[0])):
            rows = []
            for c in range(classes):
                counts = [0.0] * classes
                for row, p in zip(votes, posteriors, strict=True):
                    if row[rater] is not None:
                        counts[row[rater]] += p[c]
                rows.append([count / sum(counts) for count in counts])
            confusion.append(rows)
        posteriors = []
        for row in votes:
            joint = [
                prevalence[c] * math.prod(confusion[r][c][v] for r, v in enumerate(row) if v is not None)
                for c in range(classes)
            ]
            posteriors.append([value / sum(joint) for value in joint])
    return posteriors, confusion, prevalence


def test_agrees_with_an_em_written_out() -> None:
    _, votes = simulated(150, 0.2)
    votes = [row for row in votes if any(v is not None for v in row)]
    found = consensus(hard(votes, 3), "abcd")
    posteriors, confusion, prevalence = slow(votes, 3, found.steps)
    assert found.posteriors == pytest.approx(np.array(posteriors), abs=1e-8)
    assert found.confusion == pytest.approx(np.array(confusion), abs=1e-8)
    assert found.prevalence == pytest.approx(np.array(prevalence), abs=1e-8)
    assert found.families == ("a", "b", "c", "d")


def test_finds_what_the_votes_were_drawn_from() -> None:
    truth, votes = simulated(4000, 0.1, seed=1)
    found = consensus(hard(votes, 3), "abcd")
    assert found.prevalence == pytest.approx(SHARES, abs=0.04)
    assert found.confusion == pytest.approx(CONFUSION, abs=0.08)
    right = (found.posteriors.argmax(axis=1) == truth).mean()
    majority = (np.nansum(hard(votes, 3), axis=1).argmax(axis=1) == truth).mean()
    assert right > majority + 0.01
    again = consensus(hard(votes, 3), "abcd")
    assert (again.posteriors == found.posteriors).all()


def test_a_family_has_one_vote() -> None:
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 2, 1500)
    good = [np.where(rng.random(1500) < 0.9, truth, 1 - truth) for _ in range(3)]
    bad = np.where(rng.random(1500) < 0.6, truth, 1 - truth)  # one model, asked four times
    votes = hard([[*map(int, row)] for row in np.stack([*good, bad, bad, bad, bad], axis=1)], 2)
    as_one = consensus(votes, ["x", "y", "z", "w", "w", "w", "w"])
    single = consensus(votes[:, :4], "xyzw")
    assert as_one.posteriors == pytest.approx(single.posteriors, abs=1e-12)
    assert (as_one.posteriors.argmax(axis=1) == truth).mean() > 0.94
    assert (consensus(votes, "1234567").posteriors.argmax(axis=1) == truth).mean() < 0.7


def test_members_that_do_not_vote_do_not_count() -> None:
    votes = np.array([[[1, 0], [0.5, 0.5], [np.nan, np.nan]], [[np.nan] * 2, [np.nan] * 2, [0, 1]]])
    merged, names = one_vote_a_family(votes, ["b", "b", "a"])
    assert names == ("b", "a")
    assert merged[0, 0].tolist() == [0.75, 0.25]
    assert np.isnan(merged[0, 1]).all()
    assert np.isnan(merged[1, 0]).all()
    assert merged[1, 1].tolist() == [0, 1]


def test_an_item_without_votes_gets_the_prevalence() -> None:
    _, votes = simulated(300, 0.0)
    found = consensus(hard([*votes, [None] * 4], 3), "abcd")
    assert found.posteriors[-1] == pytest.approx(found.prevalence, abs=1e-9)
    assert found.posteriors[:-1] == pytest.approx(consensus(hard(votes, 3), "abcd").posteriors, abs=1e-9)


def test_refuses_fewer_than_three_families() -> None:
    _, votes = simulated(50, 0.0)
    with pytest.raises(DataError, match="Votes of 2 model families"):
        consensus(hard(votes, 3), ["a", "a", "b", "b"])
    silent = [[row[0], row[1], None, None] for row in votes]
    with pytest.raises(DataError, match="Votes of 2 model families"):
        consensus(hard(silent, 3), "abcd")
    with pytest.raises(DataError, match="3 families for votes"):
        consensus(hard(votes, 3), "abc")
