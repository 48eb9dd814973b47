"""Agreement of two people: known values, other implementations, and intervals that never vanish."""

from __future__ import annotations

import random

import pytest
from sklearn.metrics import cohen_kappa_score

from aasut.evaluate.agreement import Pair, agreement


def pairs_of(first: list[str], second: list[str], who: tuple[str, str] = ("ann", "bob")) -> list[Pair]:
    return [((who[0], a), (who[1], b)) for a, b in zip(first, second, strict=True)]


def test_kappa_is_what_others_compute_whoever_comes_first() -> None:
    draw = random.Random(1)
    first = draw.choices("abc", [5, 3, 1], k=200)
    second = [a if draw.random() < 0.8 else draw.choice("abc") for a in first]
    pairs = pairs_of(first, second)
    mixed = [pair if draw.random() < 0.5 else (pair[1], pair[0]) for pair in pairs]
    for given in (pairs, mixed):
        found = agreement(given, list(range(200)), labels=True)
        assert found is not None
        assert found.measure == "kappa"
        assert found.value == pytest.approx(cohen_kappa_score(first, second))
        assert found.lower is not None
        assert found.upper is not None
        assert found.lower < found.value < found.upper <= 1
    assert agreement(pairs, [i // 4 for i in range(200)], labels=True) != agreement(pairs, range(200), labels=True)


def test_alpha_where_the_pairs_change() -> None:
    # Krippendorff, Computing Krippendorff's alpha-reliability (2011), example A: two observers, binary data, 0.095.
    first, second = "0100000000", "1110010100"
    pairs = pairs_of(list(first), list(second))
    pairs[3] = (("ann", first[3]), ("eve", second[3]))
    found = agreement(pairs, range(10), labels=True)
    assert found is not None
    assert found.measure == "alpha"
    assert found.value == pytest.approx(0.095, abs=5e-4)


def test_free_text_has_its_share_of_equal_answers() -> None:
    found = agreement(pairs_of(["x y", "z"], ["x y", "w"]), ["g", "h"], labels=False)
    assert found is not None
    assert (found.measure, found.value, found.exact, found.items) == ("exact", 0.5, 0.5, 2)


def test_full_agreement_has_an_interval_and_one_answer_alone_no_kappa() -> None:
    found = agreement(pairs_of(["a", "b"] * 10, ["a", "b"] * 10), range(20), labels=True)
    assert found is not None
    assert (found.value, found.upper) == (1.0, 1.0)
    assert found.lower is not None
    assert 0.5 < found.lower < 0.9
    alike = agreement(pairs_of(["a"] * 9, ["a"] * 9), range(9), labels=True)
    assert alike is not None
    assert (alike.value, alike.exact) == (None, 1.0)


def test_too_few_for_an_interval() -> None:
    assert agreement([], [], labels=True) is None
    one = agreement(pairs_of(["a"], ["b"]), ["g"], labels=True)
    assert one is not None
    assert (one.value, one.lower, one.upper, one.items) == (0.0, None, None, 1)
    one_group = agreement(pairs_of(["a", "b"], ["b", "b"]), ["g", "g"], labels=True)
    assert one_group is not None
    assert one_group.lower is None
