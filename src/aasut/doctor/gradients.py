"""Is the trainer's gradient the same however a step is cut? On the student's first layers, in float32.

What the trainer makes of a step is held against the plain mean over all targets, row by row, that autograd makes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from aasut.doctor.finding import Finding
from aasut.doctor.subject import Subject
from aasut.engine import attention
from aasut.errors import AasutError
from aasut.progress import Progress
from aasut.recipe import Student
from aasut.student import launch
from aasut.student.objective import Objective, Row
from aasut.student.trainer import Trainer

CLOSE = 1e-5  # largest relative difference
WHOLE = 1 << 30  # tokens: everything in one micro-batch
TEAM = 2


@dataclass(frozen=True)
class Step:
    """A step on some rows, taken by this process or by one of a team."""

    model: Any
    objective: Objective
    settings: Student
    rows: Sequence[Row]

    def run(self, folder: Path, progress: Progress) -> torch.Tensor:
        """The gradient that the trainer takes it with, [weights] float32; the model is left as it was."""
        attention.register()
        trainer = Trainer(self.model, self.objective, self.settings, seed=0)
        found = trainer.gradient(self.rows)
        trainer.weights.release()
        return found


def examine(subject: Subject) -> Iterator[Finding]:
    """One step over all rows, cut in several ways; each against every row by itself."""
    alone, every = plain(subject), sum(len(row.ids) for row in subject.rows)
    ways = {
        "row after row": step(subject, micro=1),
        "packed into one micro-batch": step(subject, micro=WHOLE),
        "in micro-batches of some rows": step(subject, micro=every // 3),
        "in another order": step(subject, micro=WHOLE, order=-1),
    }
    found = {way: one.run(Path(), Progress(quiet=True)) for way, one in ways.items()}
    yield _finding(alone, found, f"{len(subject.rows)} rows alone, packed, accumulated", "gradient")


def processes(subject: Subject) -> Iterator[Finding]:
    """The same by two processes, each with a share of the rows and of the weights; on a CPU, over real sockets."""
    if len(subject.rows) < TEAM:
        return
    name = "processes"
    with tempfile.TemporaryDirectory() as folder:
        one = step(subject, micro=WHOLE, team=TEAM)
        try:
            found = launch.run(one, Path(folder), Progress(quiet=True), {"CUDA_VISIBLE_DEVICES": ""})
        except AasutError as error:
            problem = f"{error.message} student.processes over 1 will not work. {error.remedy}"
            yield Finding(name, "two processes cannot train together here", "note", problem)
            return
    yield _finding(plain(subject), {"by two processes": found}, f"{TEAM} with a share of the rows each", name)


def step(subject: Subject, micro: int, order: int = 1, team: int = 1) -> Step:
    """A step over all rows, as the recipe's trainer takes it but for what would hide a difference."""
    changes = {"processes": team, "micro_tokens": micro, "lora": None, "frozen_layers": 0}
    settings = subject.recipe.student.model_copy(update=changes)
    return Step(subject.model, subject.objective, settings, subject.rows[::order])


def plain(subject: Subject) -> torch.Tensor:
    """The gradient of the mean over all targets, made row by row without the trainer, [weights] float64."""
    model, frozen = subject.model, subject.recipe.student.frozen_embeddings
    for embeddings in (model.get_input_embeddings(), model.get_output_embeddings()):
        embeddings.requires_grad_(not frozen)
    targets = sum(row.answer if subject.tree is None else 1 for row in subject.rows)
    for number in range(len(subject.rows)):
        torch.autograd.backward(subject.loss([number]) / targets)
    trained = [p for p in model.parameters() if p.requires_grad]
    whole = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).double().flatten() for p in trained])
    model.zero_grad(set_to_none=True)
    return whole


def _finding(alone: torch.Tensor, found: dict[str, torch.Tensor], text: str, name: str) -> Finding:
    worst, where = 0.0, ""
    for way, gradient in found.items():
        off = float((gradient.double() - alone).norm() / alone.norm())
        worst, where = (off, way) if not off <= worst else (worst, where)
    if worst <= CLOSE:
        return Finding(name, f"{text}: within {worst:.1e}")
    problem = (
        f"The gradient of the same rows, {where}, differs by {worst:.1e} of its size from the mean over each row by "
        "itself: the student would depend on batch size, row lengths and machine, and no two trainings could be "
        "compared."
    )
    return Finding(name, f"{text}: {worst:.1e} apart", "fault", problem)
