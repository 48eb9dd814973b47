"""A finished run with a certificate, made once, and the cascade over copies of it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import small_run
from aasut import pipeline
from aasut import recipe as recipes
from aasut.evaluate.certificate import Wish
from aasut.evaluate.certify import Target
from aasut.finished import taken_up
from aasut.progress import Progress


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of runs with `words`, a linear student certified against people, who differ from the rule now and then."""
    folder = tmp_path_factory.mktemp("certified")
    rows = small_run.sentences(2000)
    for i, row in enumerate(rows):
        row["review"] = f"g{i}"
        if i % 50 == 0:
            row["sentiment"] = "negative" if row["sentiment"] == "positive" else "positive"
    path = small_run.write_recipe(folder)
    small_run.write_table(folder / "table.csv", rows)
    quiet = Progress(quiet=True)
    pipeline.run(recipes.load(path), folder, folder / "runs", quiet)
    with taken_up("words", folder / "runs", quiet, makes=("certify",)) as taken:
        taken.finish(certify=taken.stages.certify(taken.done, Wish(Target("selective", 0.05, 0.95), "human")))
    return folder / "runs"


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A copy of the published run, without the store, to change."""
    shutil.copytree(made / "words", tmp_path / "runs" / "words")
    return tmp_path / "runs"


@pytest.fixture(scope="session")
def until() -> Callable[..., Awaitable[None]]:
    """Wait for a condition, half a minute at most."""

    async def wait(condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.01)

    return wait
