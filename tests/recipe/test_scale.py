from __future__ import annotations

import pytest

import small_run
from aasut import recipe
from aasut.errors import RecipeError
from aasut.recipe.scale import scaled


def test_scaling_cuts_what_takes_long() -> None:
    plain = small_run.recipe(
        teacher={"model": {"address": "file:x"}, "shots": 4, "candidates": 8, "committee": 4},
        student={"initialise": "pretrained", "model": {"address": "file:x"}, "epochs": 3},
    )
    small = scaled(recipe.parse(plain, "recipe"), "ci")
    assert (small.teacher.candidates, small.teacher.committee, small.teacher.shots) == (2, 2, 4)
    assert (small.student.epochs, small.data.limit, small.evaluate.timing_requests) == (1, 24, 4)
    plain["data"]["limit"] = 20
    plain["teacher"] |= {"candidates": 1, "committee": 1}
    smaller = scaled(recipe.parse(plain, "recipe"), "ci")
    assert (smaller.data.limit, smaller.teacher.candidates) == (20, 1)
    assert scaled(recipe.parse(plain, "recipe"), "full") == recipe.parse(plain, "recipe")
    with pytest.raises(RecipeError, match="no scale 'huge'"):
        scaled(recipe.parse(plain, "recipe"), "huge")
