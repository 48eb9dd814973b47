"""Real runs, made once, and the command line as a process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import small_run
from command_line import command

Result = subprocess.CompletedProcess[str]
Command = Callable[..., Result]


@pytest.fixture(scope="session")
def aasut() -> Command:
    """Run the command line; standard output is no terminal."""

    def call(*words: object) -> Result:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "aasut", *map(str, words)]
        ran = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
        assert "Traceback" not in ran.stderr, ran.stderr
        return ran

    return call


@pytest.fixture(scope="session")
def plain() -> Callable[..., dict[str, Any]]:
    """What a command says with --json."""

    def call(*words: object, code: int = 0) -> dict[str, Any]:
        found, out, err = command(*words, "--json")
        assert found == code, err
        return dict(json.loads(out))

    return call


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs, beside its recipes.

    In order: `words`; `words` again, with a teacher that knows fewer words; `other`, with another
    seed; `broken`, whose teacher has no answer, so that it stops in the middle of labelling.
    """
    folder = tmp_path_factory.mktemp("made")
    small_run.write_recipe(folder)
    weaker = 'teacher.scripted={"great": "positive", "": "negative"}'
    for code, *flags in (
        (0,),
        (0, "--set", weaker),
        (0, "--set", "name=other", "--set", "seed=9"),
        (1, "--set", "name=broken", "--set", 'teacher.scripted={"great": "positive"}'),
    ):
        found, _, err = command("run", folder / "recipe.yaml", "--root", folder / "runs", "--quiet", *flags)
        assert found == code, err
    return folder


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A copy of those runs to do harm to."""
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy" / "runs"


@pytest.fixture
def earlier(made: Path, plain: Callable[..., dict[str, Any]]) -> str:
    """How the first run of `words` is named."""
    names = [run["name"] for run in plain("runs", "list", "--root", made / "runs", "--all")["runs"]]
    return next(str(name) for name in names if "@" in name)
