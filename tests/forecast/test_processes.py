from __future__ import annotations

from pathlib import Path

import pytest

import small_run
from aasut.errors import RecipeError
from aasut.forecast import processes
from aasut.progress import Progress
from aasut.recipe import Recipe
from aasut.types import Example, Label

QUIET = Progress(quiet=True)


def recipe(**student: object) -> Recipe:
    start = {"model": {"address": "file:model"}, "prompt": "{text} =", "precision": "float32"}
    return Recipe.model_validate(small_run.recipe(student=start | student))


POOL = [Example(row["id"], {"text": row["text"]}, row["review"]) for row in small_run.sentences(60)]
LABELS = [Label(example.id, (0.9, 0.1)) for example in POOL]


def test_one_process_and_two_are_timed_on_the_same_rows(tiny_llama: Path) -> None:
    found = processes.measure(recipe(batch_examples=4), tiny_llama, POOL, LABELS, QUIET)
    assert list(found) == [1, 2]
    assert all(10 < speed < 1e7 for speed in found.values())


def test_too_few_rows_for_two_steps_are_refused(tiny_llama: Path) -> None:
    with pytest.raises(RecipeError, match="too few rows"):
        processes.measure(recipe(batch_examples=64), tiny_llama, POOL, LABELS, QUIET)
