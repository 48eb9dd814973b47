"""One training, whole: where it starts, what it learns, and the weights that it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from aasut.engine.experts import train_only
from aasut.engine.torch import choose_precision, load_model
from aasut.formats import experts, safetensors
from aasut.progress import Progress
from aasut.recipe import Student
from aasut.student import parallel
from aasut.student.objective import Objective, Row
from aasut.student.trainer import Report, Trainer

if TYPE_CHECKING:
    from aasut.student.rollouts import Rollouts


@dataclass(frozen=True)
class Fit:
    """A model folder to start from, and all that the weights in the end are a function of.

    `only`: of a Mixture of Experts, those that are trained, and nothing else; all weights where it is empty.
    """

    start: Path
    settings: Student
    seed: int
    objective: Objective
    rows: Sequence[Row]
    validation: Sequence[Row]
    own: Rollouts | None = None
    only: tuple[int, ...] = ()

    def run(self, folder: Path, progress: Progress) -> Report:
        """Train in this process, or as one of a team; leave model.safetensors in `folder`. See `Trainer.fit`."""
        team = parallel.join()
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(self.seed)
        model = load_model(self.start, choose_precision(self.settings.precision))
        if torch.cuda.is_available():
            model = model.to("cuda")
        settings = self.settings
        if self.only:
            train_only(model, self.only)
            settings = settings.model_copy(update={"weight_decay": 0.0})  # the others stand in the same matrices
        trainer = Trainer(model, self.objective, settings, self.seed)
        report = trainer.fit(self.rows, self.validation, folder, progress, own=self.own)
        tensors = experts.unstacked(trainer.weights.tensors(), type(model).__name__)
        if team.leads:
            safetensors.save(tensors, folder / "model.safetensors")
        return report
