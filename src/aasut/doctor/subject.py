"""What a recipe's training is examined on: its own model and some of its own rows."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aasut.data import asked, split
from aasut.data import label as labelling
from aasut.engine.torch import load_model
from aasut.engine.tree import TokenTree
from aasut.errors import AasutError, DataError, RecipeError
from aasut.formats.tokenizer import Tokenizer
from aasut.pipeline import Stages
from aasut.progress import Progress
from aasut.recipe import Recipe
from aasut.runs.catalogue import STORE
from aasut.sources import models
from aasut.store import Store
from aasut.student import train
from aasut.student.objective import Objective, Row
from aasut.types import Example, Label

ROWS = 8
LONG = 192  # tokens; longer rows are taken where there are no others
FEW_LAYERS = 4


@dataclass(frozen=True)
class Subject:
    """The student's model in float32, and examples with their training rows. `answers` says whose they are."""

    recipe: Recipe
    model: Any
    tokenizer: Tokenizer
    examples: tuple[Example, ...]
    labels: tuple[Label, ...]
    rows: tuple[Row, ...]
    tree: TokenTree | None
    answers: str
    of: int  # rows that there are

    @classmethod
    def of_recipe(cls, recipe: Recipe, base: Path, root: Path) -> Subject:
        """Raises AasutError where the model or the rows cannot be had, or nothing would be trained."""
        import torch

        if recipe.student.model is None:
            raise RecipeError("A linear student is fitted by scikit-learn: there is no training to examine.")
        examples, labels, answers = _examples(recipe, base, root)
        folder = models.fetch(recipe.student.model, base=base, progress=Progress()).path
        model, tokenizer = load_model(folder, torch.float32), Tokenizer.load(folder)
        context = int(model.config.max_position_embeddings)
        by_id = {label.id: label for label in labels}
        tree, found, failed = train.rows_of(recipe, context, tokenizer, examples, by_id)
        kept = [(example, rows[0]) for example, rows in zip(examples, found, strict=True) if rows]
        if not kept:
            reasons = ", ".join(f"{count} × {reason}" for reason, count in failed.items())
            raise DataError(f"None of {len(examples)} inputs can be learned from ({reasons}).", "See student.prompt.")
        chosen = _choose([len(row.ids) for _, row in kept])
        picked = [kept[i] for i in chosen]
        return cls(
            recipe, model, tokenizer, tuple(example for example, _ in picked),
            tuple(by_id[example.id] for example, _ in picked), tuple(row for _, row in picked), tree, answers,
            len(kept),
        )  # fmt: skip

    @property
    def objective(self) -> Objective:
        """What training would take the loss of."""
        return train.objective_of(self.tree)

    def loss(self, chosen: Sequence[int], micro: int = 1) -> Any:
        """The loss of some rows, in micro-batches of at most `micro` tokens, one row at least; summed."""
        rows = [self.rows[i] for i in chosen]
        return sum(self.objective.loss(self.model, rows, batch) for batch in self.objective.batches(rows, micro))

    def shallow(self) -> Subject:
        """The same with the first layers alone, which all the arithmetic of a step goes through just so."""
        import torch

        layers = self.model.model.layers
        if len(layers) > FEW_LAYERS:
            self.model.model.layers = torch.nn.ModuleList(list(layers)[:FEW_LAYERS])
            self.model.config.num_hidden_layers = FEW_LAYERS
        return replace(self)


def _choose(lengths: Sequence[int]) -> list[int]:
    """Rows of several lengths, from short to as long as LONG."""
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    fitting = [i for i in order if lengths[i] <= LONG] or order[:ROWS]
    step = max((len(fitting) - 1) / max(ROWS - 1, 1), 1.0)
    return sorted({fitting[min(round(place * step), len(fitting) - 1)] for place in range(ROWS)})


def _examples(recipe: Recipe, base: Path, root: Path) -> tuple[list[Example], list[Label], str]:
    """Inputs with answers: the teacher's where it was asked before, people's in `tune`, or made-up ones."""
    found = _labelled(recipe, base, root)
    if found is not None:
        return *found, "the teacher's answers, from an earlier run"
    with tempfile.TemporaryDirectory() as scratch:
        split.build(asked.whole(recipe), base, Path(scratch), Progress(quiet=True))
        tune, pool = split.load(Path(scratch), "tune"), split.load(Path(scratch), "pool")
    answered = [example for example in tune if example.answer is not None]
    if answered:
        return answered, [_label(recipe, e.id, str(e.answer)) for e in answered], "human answers of tune"
    return pool, [_made_up(recipe, e) for e in pool], "made-up answers: the teacher was not asked yet"


def _labelled(recipe: Recipe, base: Path, root: Path) -> tuple[list[Example], list[Label]] | None:
    """The pool and the teacher's answers as a run of this recipe left them in the store."""
    try:
        with Store(root / STORE, read_only=True) as store:
            stages = Stages(recipe, base, store, Progress(quiet=True), makes=())
            data = stages.data()
            label = stages.label(data, stages.choose(data))
            labels = labelling.load(label.path)
            there = {one.id for one in labels}
            return [example for example in split.load(data.path, "pool") if example.id in there], labels
    except AasutError:
        return None


def _label(recipe: Recipe, name: str, answer: str) -> Label:
    answers = recipe.task.build().answers
    if not answers:
        return Label(name, texts=(answer,))
    rest = 0.1 / max(len(answers) - 1, 1)
    return Label(name, tuple(0.9 if answer == one else rest for one in answers))


def _made_up(recipe: Recipe, example: Example) -> Label:
    task = recipe.task.build()
    if task.answers:
        return _label(recipe, example.id, task.answers[len(example.id) % len(task.answers)])
    return _label(recipe, example.id, " ".join(" ".join(example.slots.values()).split()[:8]) or "none")
