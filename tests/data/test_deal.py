"""Dealing: shares are met, test comes first, and a hash's deal never changes."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from aasut.data import deal, split
from aasut.errors import DataError

WEIGHTS = {"test": 32.0, "calibrate": 10.0, "tune": 8.0, "pool": 50.0}


@pytest.mark.parametrize("count", range(1, 12))
def test_few_groups_reach_test_first(count: int) -> None:
    dealt = deal.part({f"g{i}": 3 for i in range(count)}, WEIGHTS, random.Random(1))
    assert len(dealt) == count
    assert set(split.SPLITS[: min(count, 4)]) <= set(dealt.values())


def test_a_hash_meets_the_weights_on_average() -> None:
    weights = {"test": 32.0, "calibrate": 10.0, "tune": 8.0, "pool": 0.0}
    dealt = Counter(deal.by_hash(f"g{i}", weights, 7) for i in range(5000))
    assert set(dealt) == {"test", "calibrate", "tune"}
    assert dealt["test"] / 5000 == pytest.approx(0.64, abs=0.02)
    assert dealt["calibrate"] / 5000 == pytest.approx(0.20, abs=0.02)


def test_a_hash_depends_on_seed_and_group_alone() -> None:
    names = [f"g{i}" for i in range(300)]
    one = {name: deal.by_hash(name, WEIGHTS, 7) for name in names}
    assert {name: deal.by_hash(name, WEIGHTS, 7) for name in reversed(names)} == one
    assert {name: deal.by_hash(name, WEIGHTS, 8) for name in names} != one
    # Fixed for ever: another deal would move rows that were in test.
    assert [one[f"g{i}"] for i in range(8)] == FIXED


FIXED = ["pool", "pool", "pool", "pool", "pool", "test", "test", "test"]


def test_no_weight_at_all_is_refused() -> None:
    nothing = dict.fromkeys(WEIGHTS, 0.0)
    for dealing in (lambda: deal.part({"g": 1}, nothing, random.Random(1)), lambda: deal.by_hash("g", nothing, 1)):
        with pytest.raises(DataError, match="no split a weight"):
            dealing()
    assert deal.part({}, nothing, random.Random(1)) == {}
