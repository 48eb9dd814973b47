"""What the section about money refuses, and that its defaults ask for nothing."""

from __future__ import annotations

from typing import Any

import pytest

import small_run
from aasut import recipe
from aasut.errors import RecipeError


def economics(**settings: Any) -> recipe.Economics:
    return recipe.parse(small_run.recipe(economics=settings), "recipe.yaml").economics


def test_nothing_is_asked_by_default() -> None:
    found = economics()
    assert (found.machines, found.deferred_share, found.usd_per_human_answer) == ("shared", None, 0.0)
    assert found.requests_per_month is found.usd_per_correct_answer is None
    assert set(found.ranges.model_dump().values()) == {None}


def test_ranges_are_kept_as_declared() -> None:
    found = economics(requests_per_month=1000, ranges={"months": [6, 24], "deferred_share": [0, 0.5]})
    assert found.ranges.model_dump(exclude_none=True) == {"months": [6.0, 24.0], "deferred_share": [0.0, 0.5]}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"machines": "rented"}, "economics.machines: "),
        ({"deferred_share": 1.0}, "economics.deferred_share: "),
        ({"usd_per_human_answer": float("inf")}, "economics.usd_per_human_answer: "),
        ({"usd_per_human_answer": -1}, "economics.usd_per_human_answer: "),
        ({"requests_per_month": 0}, "economics.requests_per_month: "),
        ({"usd_per_correct_answer": 0.1}, "usd_per_correct_answer is weighed at a volume: give requests_per_month"),
        ({"ranges": {"months": [1, 2]}}, "ranges is weighed at a volume: give requests_per_month"),
        ({"requests_per_month": 9, "ranges": {"months": [2, 1]}}, "months: the low value comes first, and is lower"),
        ({"requests_per_month": 9, "ranges": {"months": [1]}}, "economics.ranges.months: "),
        ({"requests_per_month": 9, "ranges": {"utilisation": [0.5, 2]}}, "economics.ranges.utilisation"),
        ({"requests_per_month": 9, "ranges": {"deferred_share": [0.5, 1]}}, "economics.ranges.deferred_share"),
        ({"requests_per_month": 9, "ranges": {"requests_per_s": [0, 1]}}, "economics.ranges.requests_per_s"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        economics(**settings)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
