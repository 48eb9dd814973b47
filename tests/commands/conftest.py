"""Finished runs to plan from, made once, and the command line in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import small_run
import test_text_tasks as texts
from command_line import command


@pytest.fixture(scope="session")
def aasut() -> Callable[..., tuple[int, str, str]]:
    return command


@pytest.fixture(scope="session")
def plain() -> Callable[..., dict[str, Any]]:
    """What a command says with --json."""

    def call(*words: object) -> dict[str, Any]:
        code, out, err = command(*words, "--json")
        assert code == 0, err
        return dict(json.loads(out))

    return call


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of linear students on the same human answers: `words`, and `weaker`, whose teacher knows fewer words."""
    folder = tmp_path_factory.mktemp("linear")
    small_run.write_recipe(folder, rows=200)
    for flags in ((), ("--set", "name=weaker", "--set", 'teacher.scripted={"great": "positive", "": "negative"}')):
        code, _, err = command("run", folder / "recipe.yaml", "--root", folder / "runs", "--quiet", *flags)
        assert code == 0, err
    return folder / "runs"


@pytest.fixture(scope="session")
def neural(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of runs with `words`, of a tiny model that learns free text."""
    path = texts.write_run(tmp_path_factory.mktemp("neural"), "generate", tiny_llama)
    plain = path.read_text().replace("pool: 100", "pool: 60\n    tune: 40")
    path.write_text(plain)
    return texts.run(path).folder.parent
