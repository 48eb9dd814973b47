"""Which fields a mixture has, and which cannot be one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import mixed
from aasut.errors import RecipeError
from aasut.mixture.members import check_starts, members_of
from aasut.progress import Progress
from aasut.recipe import MixtureRecipe

QUIET = Progress(quiet=True)


@pytest.fixture
def base(tiny_llama: Path, tmp_path: Path) -> Path:
    return mixed.make(tmp_path / "works", tiny_llama)


def recipe(**more: Any) -> MixtureRecipe:
    return MixtureRecipe.model_validate(mixed.plain(**more))


def test_members_are_those_of_the_recipe_in_its_order_at_its_scale(base: Path) -> None:
    found = members_of(recipe(added=["chess.yaml"]), base, "ci")
    assert [member.name for member in found] == ["pumps", "ledger", "chess"]
    assert [member.recipe.name for member in found] == ["pumps-ci", "ledger-ci", "chess-ci"]
    check_starts(found, QUIET)


def students(**student: Any) -> dict[str, Any]:
    return mixed.field("ledger", **student)


REFUSED: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("There is no recipe .*gone.yaml", {"fields": ["pumps.yaml", "gone.yaml"]}, {}),
    (r"ledger.yaml and .*pumps.yaml both have the name pumps", {}, students() | {"name": "pumps"}),
    (r"ledger.yaml has no student to adapt. Give the sections", {}, {"student": None, "adapt": None}),
    (r"has the name general, which general text has here", {}, {"name": "general"}),
    ("The mixture and one of its fields have the name pumps", {"name": "pumps"}, {}),
    ("removed names cars, which is no field here. There are pumps, ledger", {"removed": ["cars"]}, {}),
    ("removed leaves 1 experts, and active asks for 2", {"removed": ["pumps"]}, {}),
    ("train.tokens is 40, and a row of pumps has up to 64 tokens", {"train": {"tokens": 40}}, {}),
]


@pytest.mark.parametrize(("words", "more", "ledger"), REFUSED)
def test_recipes_that_cannot_be_mixed_are_refused(
    base: Path, words: str, more: dict[str, Any], ledger: dict[str, Any]
) -> None:
    mixed.write(base, "ledger.yaml", mixed.field("ledger") | ledger)
    with pytest.raises(RecipeError, match=words) as caught:
        members_of(recipe(**more), base, "full")
    assert "\n" not in str(caught.value)


RANDOM = {"initialise": "random", "frozen_embeddings": False}
STARTS: list[tuple[str, dict[str, Any]]] = [
    ("pumps and ledger do not have one start: their model differ", {"model": {"address": "file:other"}}),
    ("pumps and ledger do not have one start: their initialise differ", RANDOM),
    ("ledger starts as initialise: pruned, cut by its own documents", {"initialise": "pruned", "shape": {"layers": 1}}),
    (r"ledger: student.lora trains q_proj; its expert would be the start", {"lora": {"targets": ["q_proj"]}}),
]  # fmt: skip


@pytest.mark.parametrize(("words", "student"), STARTS)
def test_students_of_other_starts_are_refused(base: Path, words: str, student: dict[str, Any]) -> None:
    from tiny_llama import make_llama

    make_llama(base / "other")
    mixed.write(base, "ledger.yaml", students(**student))
    with pytest.raises(RecipeError, match=words) as caught:
        check_starts(members_of(recipe(), base, "full"), QUIET)
    assert "\n" not in str(caught.value)


def test_random_starts_are_one_by_seed_and_shape(base: Path) -> None:
    for seeds, shapes, words in (((7, 8), (1, 1), "their seed differ"), ((7, 7), (1, 2), "their shape differ")):
        for name, seed, layers in zip(("pumps", "ledger"), seeds, shapes, strict=True):
            student = RANDOM | {"shape": {"layers": layers}}
            mixed.write(base, f"{name}.yaml", mixed.field(name, **student) | {"seed": seed})
        with pytest.raises(RecipeError, match=words):
            check_starts(members_of(recipe(), base, "full"), QUIET)
    mixed.write(base, "ledger.yaml", students(**RANDOM, shape={"layers": 1}) | {"seed": 7})
    check_starts(members_of(recipe(), base, "full"), QUIET)


def test_adapters_and_frozen_layers_are_mixed(base: Path) -> None:
    mixed.write(base, "pumps.yaml", mixed.field("pumps", frozen_layers=1))
    mixed.write(base, "ledger.yaml", students(lora={"targets": ["q_proj", "up_proj"]}))
    check_starts(members_of(recipe(), base, "full"), QUIET)


def test_a_model_without_a_layout_of_experts_is_refused(base: Path) -> None:
    path = base / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"architectures": ["GPT2LMHeadModel"]}))
    with pytest.raises(RecipeError, match="The mixture: there is no layout of experts for a GPT2LMHeadModel"):
        check_starts(members_of(recipe(), base, "full"), QUIET)
