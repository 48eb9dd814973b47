"""Differences of bits per byte: paired by document, and on the mean over sets."""

from __future__ import annotations

import numpy as np
import pytest

from aasut.errors import DataError
from aasut.evaluate.between import Costs, mean
from aasut.evaluate.bits import Bits
from aasut.student.corpus import Passage


def measured(bits: list[float], sizes: list[int]) -> Bits:
    return Bits(np.array(bits), np.array(sizes), np.array(sizes))


def test_passages_of_a_document_count_together_and_the_difference_is_paired() -> None:
    passages = [Passage((name,), "") for name in ("a", "b", "a", "c")]
    sizes = [100, 200, 100, 400]
    first = measured([100, 900, 100, 400], sizes)
    second = measured([90, 880, 90, 360], sizes)  # a tenth of a bit less each byte, whatever a document costs
    costs = Costs.of("words", passages, {"first": first, "second": second})
    assert costs.bytes.tolist() == [200, 200, 400]
    assert costs.bits["first"].tolist() == [200, 900, 400]
    assert costs.per_byte("first", 0.95).value == pytest.approx(1500 / 800)
    assert costs.per_byte("first", 0.95).standard_error > 0.1
    more = costs.more("first", "second", 0.95)
    assert (more.value, more.standard_error) == (pytest.approx(0.1), pytest.approx(0.0, abs=1e-12))
    assert costs.more("second", "first", 0.95).value == pytest.approx(-0.1)


def test_one_document_is_too_few() -> None:
    with pytest.raises(DataError, match="1 document of words in tune is too few to compare on"):
        Costs.of("words", [Passage(("a",), "")], {"first": measured([1], [1])})


def test_the_mean_over_sets_covers_the_truth_about_as_often_as_it_says() -> None:
    draw, held = np.random.default_rng(3), 0
    for _ in range(1000):
        sets = []
        for middle, spread, count in ((1.0, 0.1, 12), (1.4, 0.6, 8), (0.6, 0.2, 20)):
            size = draw.gamma(20.0, 50.0, count)
            sets.append(Costs(size, {"one": size * draw.normal(middle, spread, count)}).per_byte("one", 0.95))
        found = mean(sets)
        held += found.lower <= 1.0 <= found.upper
    assert 0.925 < held / 1000 < 0.97
    assert found.documents == 40


def test_sets_without_any_error_have_a_mean_without() -> None:
    size = np.array([100.0, 300.0])
    found = mean([Costs(size, {"one": k * size}).per_byte("one", 0.95) for k in (1.0, 2.0)])
    assert (found.value, found.lower, found.upper) == (pytest.approx(1.5), pytest.approx(1.5), pytest.approx(1.5))
