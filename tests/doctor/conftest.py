"""What the doctor's checks of training are tried on: a tiny model with rows of text, and one with rows of labels."""

from __future__ import annotations

from pathlib import Path

import pytest

import small_run
import test_text_tasks as texts
from aasut import recipe
from aasut.doctor.subject import Subject


@pytest.fixture(scope="module")
def text(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """Not to be changed."""
    path = texts.write_run(tmp_path_factory.mktemp("text"), "extract", tiny_llama)
    return Subject.of_recipe(recipe.load(path), path.parent, path.parent / "runs")


@pytest.fixture(scope="module")
def labels(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """Not to be changed."""
    plain = small_run.recipe(
        student={"model": {"address": f"file:{tiny_llama}"}, "prompt": "{text} ="},
        export={"serve": "safetensors", "engine": "torch"},
    )
    path = small_run.write_recipe(tmp_path_factory.mktemp("labels"), plain)
    return Subject.of_recipe(recipe.load(path), path.parent, path.parent / "runs")
