"""Inputs of the pool that are kept away from teacher and student, for judges to look at the student's answers to.

What a student was trained on it answers better than what it will meet, and the rows that chose its
checkpoint are not free of that either. So these rows leave the pool before it is labelled.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from aasut.errors import DataError
from aasut.recipe import Recipe
from aasut.types import Example

MOST = 0.5  # of the pool


def part(recipe: Recipe, pool: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """(the pool without the rows kept aside, those rows): as many as a judge wants at most, by whole groups.

    Groups leave in an order drawn by the seed, and the rows kept aside stand in it, so that the first of them are a
    fair draw too. Raises DataError where that would be over half of the pool.
    """
    wanted = max((judge.unlabelled for judge in recipe.judges), default=0)
    if not wanted:
        return list(pool), []
    groups: dict[str, list[Example]] = {}
    for example in pool:
        groups.setdefault(example.group, []).append(example)
    names = sorted(groups)
    random.Random(f"{recipe.seed} aside").shuffle(names)
    aside: list[Example] = []
    for name in names:
        if len(aside) >= wanted:
            break
        aside += groups[name]
    if len(aside) > MOST * len(pool):
        raise DataError(
            f"judges[].unlabelled: {wanted} keeps {len(aside)} of the pool's {len(pool)} rows (whole groups) from the "
            "student, over half.",
            "Ask for fewer, or add inputs to the pool.",
        )
    taken = {example.id for example in aside}
    return [example for example in pool if example.id not in taken], aside
