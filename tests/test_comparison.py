"""How two answers are shown, and how a verdict on them is read."""

from __future__ import annotations

import math

import pytest

from aasut.comparison import BETTER, both_orders, compared, sides, verdict
from aasut.types import Completion


def said(text: str) -> Completion:
    return Completion(text)


def test_both_orders_show_the_same_two_answers() -> None:
    one, other = both_orders("Be {brief}.", "Text: x", "first\n\nsaid", "second")
    assert compared(one.messages[-1].content) == ("first\n\nsaid", "second")
    assert compared(other.messages[-1].content) == ("second", "first\n\nsaid")
    assert one.choices == other.choices == BETTER
    assert compared("Answer A: or B?") is None


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [("A", "B", (1, 1)), ("B", "A", (-1, -1)), ("A", "A", (1, -1)), ("tie", " **tie** ", (0, 0)), ("A", "tie", (1, 0))],
)
def test_sides_are_those_of_the_answers_and_not_of_their_places(
    first: str, second: str, found: tuple[int, int]
) -> None:
    assert sides(said(first), said(second)) == found


def test_a_verdict_that_is_none_is_told() -> None:
    assert sides(said("A"), said("both")) == "the verdict is none of A, B, tie"
    assert sides(Completion("", failure="cut"), said("A")) == "cut"


def test_probabilities_are_read_where_there_are_some() -> None:
    likely = Completion("", choice_logprobs=tuple(map(math.log, (0.2, 0.7, 0.1))))
    assert verdict(likely, BETTER) == pytest.approx((0.2, 0.7, 0.1))
    assert sides(likely, said("A")) == (-1, -1)
