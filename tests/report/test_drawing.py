"""What charts share: points thinned out, round numbers on axes."""

from __future__ import annotations

import pytest

from aasut.report.drawing import round_count, thinned


@pytest.mark.parametrize(("number", "most"), [(1, 10), (10, 10), (11, 10), (946, 160), (100_000, 160)])
def test_thinned_keeps_both_ends_and_the_order(number: int, most: int) -> None:
    places = thinned(number, most)
    assert (places[0], places[-1]) == (0, number - 1)
    assert len(places) == min(number, most)
    assert places == sorted(set(places))


def test_round_counts() -> None:
    assert [round_count(v) for v in (5, 1000, 200_000, 5e6, 2e9)] == ["5", "1k", "200k", "5M", "2B"]
