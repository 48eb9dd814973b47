"""Putting the examples' questions to the teacher, with its ledger between."""

from __future__ import annotations

import random
from collections.abc import Sequence

from aasut.data.choose import BATCH
from aasut.data.panel import Panel
from aasut.progress import Progress
from aasut.recipe import Recipe
from aasut.teacher.ledger import Ledger
from aasut.types import Completion, Example


def ask(
    recipe: Recipe, panel: Panel, examples: Sequence[Example], teacher: Ledger, progress: Progress, what: str
) -> list[list[Completion]]:
    """Every member's completion for every example, [examples][members].

    Requests go out in batches of like length that depend on the examples alone, so that an
    interrupted run repeats the broken batch as it was. The batches come in mixed order, so that the
    time left is told truly from the beginning.
    """
    task, template = recipe.task.build(), recipe.teacher_template()
    order = sorted(range(len(examples)), key=lambda i: (sum(map(len, examples[i].slots.values())), examples[i].id))
    batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    random.Random(len(batches)).shuffle(batches)
    answers: list[list[Completion]] = [[] for _ in examples]
    with progress.steps(what, len(examples) * len(panel.members)) as step:
        for member in range(len(panel.members)):
            for batch in batches:
                requests = [panel.request(template, task, examples[i].slots, member) for i in batch]
                made = teacher.calls_made
                for i, completion in zip(batch, teacher.complete(requests), strict=True):
                    answers[i].append(completion)
                step.advance(len(batch), resumed=teacher.calls_made == made)
    return answers
