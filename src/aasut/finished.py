"""A finished run, taken up again: its stages as the store has them, more made from them, its report anew."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aasut import recipe as recipes
from aasut.errors import RecipeError
from aasut.pipeline import STORE, Run, Stages, finish
from aasut.progress import Progress
from aasut.store import Artefact, Store

RECIPE = "recipe.yaml"


@dataclass(frozen=True)
class Taken:
    """A run under way again. `done`: its artefacts by stage, the report left out."""

    stages: Stages
    done: dict[str, Artefact]
    scale: str
    folder: Path

    def finish(self, **made: Artefact) -> Run:
        """The report again, published: with what is given by its stage, and otherwise the newest of what was made."""
        return finish(self.stages, self.done | made, self.scale, self.folder)


@contextmanager
def taken_up(run: str, root: Path, progress: Progress, makes: Collection[str]) -> Iterator[Taken]:
    """The run of this name below `root`, or in this folder. Stages in `makes` may be made anew, and no others.

    Raises RecipeError where there is no such run, StoreError where it is no longer as it was made.
    """
    found = place(run, root)
    folder, scale = found.parent, _scale(found.parent)
    with Store(folder.parent / STORE) as store:
        stages = Stages(recipes.load(found), folder, store, progress, makes=(*makes, "report"))
        try:
            yield Taken(stages, stages.all(), scale, folder)
        finally:
            stages.close()


def place(run: str, root: Path) -> Path:
    """The recipe of a finished run. Raises RecipeError where there is none."""
    for folder in (root / run, Path(run)):
        if (folder / RECIPE).is_file() and (folder / "report.json").is_file():
            return folder / RECIPE
    raise RecipeError(f"{run} is no finished run in {root}.", "See aasut runs list, or make it with aasut run RECIPE.")


def _scale(folder: Path) -> str:
    try:
        return str(json.loads((folder / "report.json").read_text(encoding="utf-8"))["scale"])
    except (ValueError, KeyError, TypeError):
        raise RecipeError(f"{folder / 'report.json'} is damaged.", "Run its recipe again.") from None
