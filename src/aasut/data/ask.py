"""Putting the examples' questions to the teacher, with its ledger between."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from aasut.data.panel import Panel
from aasut.errors import TeacherError
from aasut.progress import Progress, Step
from aasut.recipe import Asked, Recipe
from aasut.teacher.ledger import Ledger, Told
from aasut.types import Completion, Example, Request

BATCH = 64  # requests that go to a local teacher together
FEW = 20  # unusable answers that stop nothing yet

Item = TypeVar("Item")
Turn = tuple[int, int]  # a panel's member, or a panel, and an example, by number


def ask(
    recipe: Recipe,
    panel: Panel,
    examples: Sequence[Example],
    teacher: Ledger,
    progress: Progress,
    what: str,
    other: int | None = None,
) -> list[list[Completion]]:
    """Every member's completion for every example, [examples][members]; other: which of `teacher.others`.

    The batches are of like length and depend on the examples alone, so that an interrupted run repeats
    the broken one as it was; they come in mixed order, so that the time left is told truly from the
    beginning.

    Raises TeacherError before all is asked, once more than `max_failed` of the examples are unusable for sure.
    """
    order = sorted(range(len(examples)), key=lambda i: (sum(map(len, examples[i].slots.values())), examples[i].id))
    batches = in_batches(order)
    random.Random(len(batches)).shuffle(batches)
    turns = [[(member, i) for i in batch] for member in range(len(panel.members)) for batch in batches]
    task, template = recipe.task.build(), recipe.teacher_template(other)
    settings: Asked = recipe.teacher if other is None else recipe.teacher.others[other]
    option = "teacher.max_failed" if other is None else f"teacher.others[{other}].max_failed"

    def request(member: int, i: int) -> Request:
        return panel.request(template, task, examples[i].slots, member)

    answers: list[list[Completion]] = [[] for _ in examples]
    with progress.steps(what, len(examples) * len(panel.members)) as step:
        # Of several drawn texts one must be usable; of a committee's answers all.
        spare = 0 if task.answers else len(examples) * (len(panel.members) - 1)
        tally = Tally(step, spare + settings.max_failed * (step.total - spare), option)
        for (_, i), completion in completions(teacher, turns, request, tally.count):
            answers[i].append(completion)
    for note, times in teacher.notes():
        progress.say(f"{times:,} {note}")
    return answers


def completions(
    teacher: Ledger, batches: Sequence[Sequence[Turn]], request: Callable[[int, int], Request], told: Told
) -> Iterator[tuple[Turn, Completion]]:
    """Every turn with the completion of its `request`; `told` hears of answers as they come.

    A local teacher takes one batch after another; an API's calls flow in that order, with no barrier.
    """
    if teacher.remote is not None:
        batches = [[turn for batch in batches for turn in batch]]
    for batch in batches:
        yield from zip(batch, teacher.complete((request(*turn) for turn in batch), told), strict=True)


def in_batches(items: Sequence[Item]) -> list[Sequence[Item]]:
    """The items in order, BATCH at a time."""
    return [items[start : start + BATCH] for start in range(0, len(items), BATCH)]


class Tally:
    """Counts answers as they come, and stops where too many are unusable; `option` sets how many."""

    def __init__(self, step: Step, limit: float, option: str) -> None:
        self.step, self.limit, self.option = step, max(limit, FEW), option
        self.failed: Counter[str] = Counter()

    def count(self, completions: Sequence[Completion], resumed: bool) -> None:
        self.step.advance(len(completions), resumed=resumed)
        self.failed.update(completion.failure for completion in completions if completion.failure)
        if self.failed.total() > self.limit and self.step.done < self.step.total:
            reasons = ", ".join(f"{count} × {reason}" for reason, count in self.failed.most_common())
            raise TeacherError(
                f"{self.failed.total()} of the first {self.step.done} answers are unusable ({reasons}).",
                f"Mend the prompt or the endpoint's settings, or raise {self.option}; the usable answers are kept.",
            )
