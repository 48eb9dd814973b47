"""Dense models beside a mixture: its fields' start made wider, trained on the texts of all fields."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aasut.economics.operations import Weights
from aasut.mixture.held import Stage
from aasut.mixture.members import Member, model_of
from aasut.mixture.stages import MODEL
from aasut.mixture.texts import Texts
from aasut.progress import Progress
from aasut.recipe import MixtureRecipe, Student
from aasut.store import Artefact

if TYPE_CHECKING:
    from aasut.student.objective import Row


class Dense:
    """Of the fields `served`, whose `texts` are learned; `stage` makes what the store lacks. Models stand in MODEL."""

    def __init__(
        self, recipe: MixtureRecipe, members: Sequence[Member], texts: Texts, served: Sequence[str], stage: Stage,
        progress: Progress,
    ) -> None:  # fmt: skip
        self.recipe, self.first, self.texts, self.served = recipe, members[0], texts, list(served)
        self.stage, self.progress = stage, progress
        self.frozen = all(member.student.frozen_embeddings for member in members)

    @property
    def student(self) -> Student:
        """Of the first field: where all began from, and how it learns."""
        return self.first.student

    def wide(self, times: int) -> Artefact:
        """The start with each neuron so many times over."""
        from aasut.student import initialize, widen

        def build(folder: Path) -> dict[str, Any]:
            begun = folder / "start"
            shutil.rmtree(begun, ignore_errors=True)
            initialize.get(self.student.initialise)(
                self.student, self.texts.start, ["text"], begun, self.first.recipe.seed
            )
            made = widen.widen(begun, folder / MODEL, times, self.recipe.seed)
            shutil.rmtree(begun)
            return made

        settings = [
            model_of(self.first, self.progress)[1],
            self.student.initialise,
            self.student.shape,
            self.first.recipe.seed,
            self.recipe.seed,
        ]
        return self.stage(f"{times} times as wide", [*settings, times], [], build)

    def trained(self, name: str, times: int, budget: float) -> Artefact:
        """The same once it has learned all fields' texts, with so many floating-point operations."""
        from aasut.student.fit import Fit
        from aasut.student.initialize import copy_model
        from aasut.student.replay import Replay

        wide = self.wide(times)
        start = wide.path / MODEL
        size = Weights.read(start)
        count = int(budget / size.training(size.trained(frozen_embeddings=self.frozen)))

        def build(folder: Path) -> dict[str, Any]:
            lessons = [self.texts.lessons(name) for name in self.served]
            rows = repeated([row for one in lessons for row in one.rows], count, self.recipe.seed)
            validation = [row for one in lessons for row in one.validation]
            fit = Fit(start, self._settings(), self.recipe.seed, Replay(0.0, None), rows, validation)
            report = fit.run(folder / MODEL, self.progress)
            copy_model(start, folder / MODEL, weights=False)
            return {**asdict(report), "operations": budget, "parameters": size.all}

        settings = [self._settings().model_dump(mode="json", exclude={"checkpoint_s"}), count, self.recipe.seed]
        settings.append(self.texts.settings(self.served))
        return self.stage(name, settings, [wide, *self._read()], build)

    def _settings(self) -> Student:
        """How the fields' students learn, for one pass over the rows."""
        train = self.recipe.train
        update = {
            "epochs": 1, "patience": 0, "lora": None, "experts": None, "processes": 1, "initialise": "pretrained",
            "shape": None, "frozen_embeddings": self.frozen, "precision": train.precision,
            "micro_tokens": train.micro_tokens, "checkpoint_s": train.checkpoint_s,
        }  # fmt: skip
        return self.student.model_copy(update=update)

    def _read(self) -> list[Artefact]:
        """What all fields' texts are read from."""
        found = {one.fingerprint: one for name in self.served for one in self.texts.read(name)}
        return list(found.values())


def repeated(rows: Sequence[Row], tokens: int, seed: int) -> list[Row]:
    """The rows again and again, drawn anew by the seed each time, until the next would pass so many tokens; one at
    least."""
    draw, left = random.Random(seed), tokens
    found: list[Row] = []
    while True:
        for row in draw.sample(list(rows), len(rows)):
            if found and len(row.ids) > left:
                return found
            found.append(row)
            left -= len(row.ids)
