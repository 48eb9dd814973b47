"""What a mixture took, counted from what its stages say of themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mixed
from aasut.economics.operations import Weights
from aasut.mixture import spent
from aasut.recipe import MixtureRecipe, Student
from aasut.store import Artefact
from aasut.student.initialize import copy_model


def made(stage: str, folder: Path, model: str, source: Path, **facts: Any) -> Artefact:
    copy_model(source, folder / model)
    return Artefact(stage, stage, folder, "", facts, 0.0, reused=False)


@pytest.mark.parametrize("teach", ["branches", "documents", "teacher"])
@pytest.mark.parametrize("frozen", [True, False])
def test_students_training_and_what_teachers_read_are_added_up(
    tiny_llama: Path, tmp_path: Path, teach: str, frozen: bool
) -> None:
    size = Weights.read(tiny_llama)
    branches = [made(f"adapt {n}", tmp_path / f"{n}", "adapted", tiny_llama, tokens=100 * n) for n in (1, 2)]
    stages = {
        "mixture": made("m", tmp_path / "m", "mixture", tiny_llama, tokens=70, tokens_learned={"a": 20, "b": 10}),
        "mixture with c": made("c", tmp_path / "c", "mixture", tiny_llama, tokens=30, tokens_learned={"c": 15}),
        "mixture without a": made("g", tmp_path / "g", "mixture", tiny_llama, names=["b", "c"]),
    }
    plain = mixed.plain()
    plain["train"]["teach"] = teach
    if teach == "teacher":
        plain["teacher"] = {"model": {"address": "file:model"}}
    recipe = MixtureRecipe.model_validate(plain)
    student = Student.model_validate(mixed.field("a")["student"])
    found = spent.operations(
        recipe, student, branches, stages, tiny_llama if teach == "teacher" else None, frozen=frozen
    )
    each = 6 * size.all - 2 * size.output * frozen
    reading = 0 if teach == "documents" else 45 * 2 * size.all
    assert found == 370 * each + 30 * (4 * size.all + 2 * size.expert) + reading


def test_adapters_train_hardly_any_weight(tiny_llama: Path, tmp_path: Path) -> None:
    one = made("adapt", tmp_path, "adapted", tiny_llama, tokens=10)
    size = Weights.read(tiny_llama)
    assert spent.of_branch(one, frozen=True, adapters=True) == 10 * 4 * size.all
