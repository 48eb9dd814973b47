"""Putting the examples' questions to the teacher, with its ledger between."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence

from aasut.data.choose import BATCH
from aasut.data.panel import Panel
from aasut.errors import TeacherError
from aasut.progress import Progress, Step
from aasut.recipe import Recipe
from aasut.teacher.ledger import Ledger
from aasut.types import Completion, Example, Request

FEW = 20  # unusable answers that stop nothing yet


def ask(
    recipe: Recipe, panel: Panel, examples: Sequence[Example], teacher: Ledger, progress: Progress, what: str
) -> list[list[Completion]]:
    """Every member's completion for every example, [examples][members].

    A local teacher's requests go out in batches of like length that depend on the examples alone, so
    that an interrupted run repeats the broken batch as it was; the batches come in mixed order, so that
    the time left is told truly from the beginning. An API's calls flow in that order, with no barrier.

    Raises TeacherError before all is asked, once more than `max_failed` of the examples are unusable for sure.
    """
    order = sorted(range(len(examples)), key=lambda i: (sum(map(len, examples[i].slots.values())), examples[i].id))
    batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    random.Random(len(batches)).shuffle(batches)
    turns = [[(member, i) for i in batch] for member in range(len(panel.members)) for batch in batches]
    if teacher.remote is not None:
        turns = [[turn for batch in turns for turn in batch]]
    answers: list[list[Completion]] = [[] for _ in examples]
    with progress.steps(what, len(examples) * len(panel.members)) as step:
        # Of several drawn texts one must be usable; of a committee's answers all.
        spare = 0 if recipe.task.build().answers else len(examples) * (len(panel.members) - 1)
        tally = _Tally(step, spare + recipe.teacher.max_failed * (step.total - spare))
        for batch in turns:
            completions = teacher.complete(_requests(recipe, panel, examples, batch), tally.count)
            for (_, i), completion in zip(batch, completions, strict=True):
                answers[i].append(completion)
    for note, times in teacher.notes():
        progress.say(f"{times:,} {note}")
    return answers


def _requests(
    recipe: Recipe, panel: Panel, examples: Sequence[Example], turns: Sequence[tuple[int, int]]
) -> Iterator[Request]:
    """The request of each turn: a member and an example by number."""
    task, template = recipe.task.build(), recipe.teacher_template()
    for member, i in turns:
        yield panel.request(template, task, examples[i].slots, member)


class _Tally:
    """Counts answers as they come, and stops where too many are unusable."""

    def __init__(self, step: Step, limit: float) -> None:
        self.step, self.limit = step, max(limit, FEW)
        self.failed: Counter[str] = Counter()

    def count(self, completions: Sequence[Completion], resumed: bool) -> None:
        self.step.advance(len(completions), resumed=resumed)
        self.failed.update(completion.failure for completion in completions if completion.failure)
        if self.failed.total() > self.limit and self.step.done < self.step.total:
            reasons = ", ".join(f"{count} × {reason}" for reason, count in self.failed.most_common())
            raise TeacherError(
                f"{self.failed.total()} of the first {self.step.done} answers are unusable ({reasons}).",
                "Mend the prompt or the endpoint's settings, or raise teacher.max_failed; the usable answers are kept.",
            )
