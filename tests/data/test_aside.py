"""Which inputs are kept from the student for judges: whole groups, by the seed, never over half."""

from __future__ import annotations

import pytest

import small_run
from aasut import recipe as recipes
from aasut.data.aside import part
from aasut.errors import DataError
from aasut.recipe import Recipe
from aasut.types import Example

POOL = [Example(f"0:r{i}", {"text": f"t{i}"}, f"g{i // 3}") for i in range(120)]


def recipe(*unlabelled: int, seed: int = 7) -> Recipe:
    judges = [{"scripted": {"": "right"}, "rubric": "Be right.", "unlabelled": number} for number in unlabelled]
    return recipes.Recipe.model_validate(small_run.recipe(judges=judges, seed=seed))


def test_takes_whole_groups_as_many_as_one_judge_wants_at_most() -> None:
    rest, aside = part(recipe(4, 25), POOL)
    assert len(aside) == 27
    assert len(rest) + len(aside) == 120
    assert not {e.group for e in rest} & {e.group for e in aside}
    assert [e.id for e in rest] == [e.id for e in POOL if e in rest]


def test_is_drawn_by_the_seed_alone() -> None:
    assert part(recipe(30), POOL) == part(recipe(30), POOL)
    assert part(recipe(30), POOL)[1] != part(recipe(30, seed=8), POOL)[1]
    assert part(recipe(30), POOL)[1][:15] == part(recipe(15), POOL)[1]


def test_without_a_wish_nothing_is_kept() -> None:
    assert part(recipe(), POOL) == (POOL, [])
    assert part(recipe(0), POOL) == (POOL, [])


def test_refuses_over_half() -> None:
    with pytest.raises(DataError, match="61 keeps 63 of the pool's 120 rows"):
        part(recipe(61), POOL)
