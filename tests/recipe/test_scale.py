from __future__ import annotations

import pytest

import chunked
import small_run
from aasut import recipe
from aasut.errors import RecipeError
from aasut.recipe.scale import scaled, scaled_field


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


@pytest.mark.parametrize(("tokens", "left"), [(None, 2048), (90_000, 2048), (500, 500)])
def test_little_is_healed(tokens: int | None, left: int) -> None:
    heal = {"texts": [{"source": "general"}], "context": 96} | ({"tokens": tokens} if tokens else {})
    student = {"initialise": "pruned", "model": {"address": "file:x"}, "shape": {"layers": 3}, "heal": heal}
    small = scaled(recipe.parse(small_run.recipe(student=student), "recipe"), "ci").student.heal
    assert small is not None
    assert (small.tokens, small.context) == (left, 96)


def test_a_field_is_scaled_to_a_few_chunks_and_little_of_each_kind() -> None:
    student = {"model": {"address": "file:x"}, "epochs": 3, "checks": 6, "patience": 2}
    adapt = {"replay": [{"source": "general"}], "context": 128}
    wanted = {"kinds": ["questions", "relations", "conversations"], "turns": 4, "questions": 1, "chunks": 500}
    whole = chunked.recipe(synthesize=wanted, student=student, adapt=adapt)
    small = scaled_field(whole, "ci")
    assert small.name == "upkeep-ci"
    assert (small.synthesize.chunks, small.synthesize.held_out, small.synthesize.questions) == (6, 3, 1)
    assert (small.synthesize.pairs, small.synthesize.turns, small.synthesize.strategies) == (1, 2, 2)
    assert small.synthesize.kinds == whole.synthesize.kinds
    assert small.student is not None
    assert small.adapt is not None
    assert (small.student.epochs, small.student.checks, small.student.patience) == (1, 1, 0)
    assert (small.adapt.tokens, small.adapt.measured) == (2048, 8000)
    assert small.adapt.context == 128
    assert scaled_field(whole, "full") == whole
    fewer = scaled_field(chunked.recipe(synthesize={"chunks": 2, "held_out": 1}), "ci")
    assert (fewer.synthesize.chunks, fewer.synthesize.held_out, fewer.adapt) == (2, 1, None)
    with pytest.raises(RecipeError, match="no scale 'huge'"):
        scaled_field(whole, "huge")
