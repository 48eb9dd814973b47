"""What a second process brings: the trainer's own steps on a recipe's rows, timed with one process and with two.

Each process has the same share of the machine (half of its cores, or a card of its own), as two devices would.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from aasut.errors import RecipeError
from aasut.forecast.probe import Clock
from aasut.progress import Progress
from aasut.recipe import Recipe, Student
from aasut.student import launch
from aasut.student.objective import Objective, Row
from aasut.types import Example, Label

STEPS = 5  # timed, after a first one that is slow
MOST = 2  # processes


@dataclass(frozen=True)
class Try:
    """Some steps of training; `run` gives the seconds of all but the first. See `launch.Work`."""

    start: Path
    settings: Student
    seed: int
    objective: Objective
    rows: Sequence[Row]

    def run(self, folder: Path, progress: Progress) -> float:
        import torch

        from aasut.engine.torch import choose_precision, load_model
        from aasut.student import parallel
        from aasut.student.trainer import Trainer

        parallel.join()
        torch.manual_seed(self.seed)
        model = load_model(self.start, choose_precision(self.settings.precision))
        if torch.cuda.is_available():
            model = model.to("cuda")
        clock = Clock()
        Trainer(model, self.objective, self.settings, self.seed).fit(self.rows, self.rows[:1], folder, clock)
        return sum(clock.seconds[1:])


def measure(
    recipe: Recipe, start: Path, pool: Sequence[Example], labels: Sequence[Label], progress: Progress
) -> dict[int, float]:
    """Tokens that are trained on in a second, by number of processes. Raises RecipeError without two cores or cards."""
    import torch

    from aasut.formats.tokenizer import Tokenizer
    from aasut.student import schedule, train

    cards, cores = torch.cuda.device_count(), os.cpu_count() or 1
    if (cards or cores) < MOST:
        raise RecipeError("Two processes cannot be timed here: there is one device.", "Leave --processes out.")
    wanted = recipe.student
    settings = wanted.model_copy(update={"epochs": 1, "checks": 1, "patience": 0, "checkpoint_s": 1e9})
    by_id = {label.id: label for label in labels}
    some = [example for example in pool if example.id in by_id][: (STEPS + 1) * wanted.batch_examples]
    tree, found, _ = train.rows_of(recipe, train.context(start), Tokenizer.load(start), some, by_id)
    rows = [row for one in found for row in one][: (STEPS + 1) * wanted.batch_examples]
    objective = train.objective_of(tree)
    lengths = [len(row.ids) for row in rows]
    steps = schedule.steps(lengths, 1, wanted.batch_examples, recipe.seed, mixed=objective.packed)
    tokens = sum(lengths[i] for step in steps[1:] for i in step)
    if not tokens:
        raise RecipeError("There are too few rows to time two steps of training.", "Leave --processes out.")
    one = Try(start, settings, recipe.seed, objective, rows)
    with progress.steps("timing processes", MOST) as shown, tempfile.TemporaryDirectory() as folder:
        threads, share = torch.get_num_threads(), max(1, cores // MOST)
        try:
            torch.set_num_threads(threads if cards else share)
            alone = one.run(Path(folder), Progress(quiet=True))
        finally:
            torch.set_num_threads(threads)
        shown.advance()
        both = replace(one, settings=settings.model_copy(update={"processes": MOST}))
        limit = {} if cards else {"OMP_NUM_THREADS": str(share)}
        together = launch.run(both, Path(folder) / "both", Progress(quiet=True), limit)
        shown.advance()
    return {1: tokens / alone, MOST: tokens / together}
