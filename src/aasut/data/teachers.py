"""Labels that several teachers agree on: each has a vote on every row, and Dawid & Skene's model weighs the votes.

A vote is a teacher's likeliest answer; the main teacher's whole panel is one rater. Probabilities are not
taken as fractions of votes: where a teacher's are all near one half, though its likeliest answers are good,
the model would find that it says everything of every class, and lose what it knows (dev/LOG.md).
The others see the worked examples of the panel's first member in their own prompt: they tell what the
labels mean, whoever was asked to choose them. A row that a teacher did not answer usably lacks its vote.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aasut.data.ask import ask
from aasut.data.dawid_skene import confusions, consensus, hard
from aasut.data.panel import Panel
from aasut.errors import TeacherError
from aasut.progress import Progress
from aasut.recipe import Recipe
from aasut.teacher.ledger import Ledger
from aasut.types import Conservation, Example, Label

SILENT = "no teacher's answer is usable"


@dataclass(frozen=True)
class Agreed:
    """`labels` of the rows, None where no teacher voted, and `failed` counts these; `calls` of the others.

    `teachers`: of each its name, its family's vote, the rows that it answered, and its accuracy as the model
    estimates it, without a human answer: the mean over the prevalence of the confusion's diagonal.
    """

    labels: list[Label | None]
    failed: dict[str, int]
    teachers: list[dict[str, Any]]
    conservation: dict[str, Conservation]
    calls: dict[str, float]


def agree(
    recipe: Recipe,
    panel: Panel,
    pool: Sequence[Example],
    own: Sequence[Label | None],
    unusable: Mapping[str, int],
    open_other: Callable[[int], Ledger],
    progress: Progress,
) -> Agreed:
    """What all teachers say of the pool; own: the main one's labels, and unusable: its answers that are, by reason.

    Raises TeacherError where more than an other teacher's max_failed of its answers are unusable.
    """
    votes = [[None if label is None else int(np.argmax(label.probabilities)) for label in own]]
    lost = [dict(unusable)]
    calls = {"calls_made": 0, "calls_reused": 0, "usd_spent": 0.0, "usd_reused": 0.0}
    for number in range(len(recipe.teacher.others)):
        ledger = open_other(number)
        try:
            said, failed = _votes(recipe, panel, pool, ledger, progress, number)
            calls = {name: total + getattr(ledger, name) for name, total in calls.items()}
        finally:
            ledger.close()
        votes.append(said)
        lost.append(failed)
    rows = [list(row) for row in zip(*votes, strict=True)]
    given = hard(rows, len(recipe.task.build().answers))
    families = recipe.teacher.families()
    found = consensus(given, families)
    accuracy = np.einsum("c,jcc->j", found.prevalence, confusions(found.posteriors, np.nan_to_num(given)))
    labels = [
        None if all(vote is None for vote in row) else Label(example.id, tuple(map(float, posterior)))
        for example, row, posterior in zip(pool, rows, found.posteriors, strict=True)
    ]
    silent = labels.count(None)
    return Agreed(
        labels,
        {SILENT: silent} if silent else {},
        [
            {"name": name, "family": family, "answered": len(pool) - sum(failed.values()), "accuracy": float(right)}
            for name, family, failed, right in zip(names(recipe), families, lost, accuracy, strict=True)
        ],
        {
            f"label, {'the teacher' if not number else f'other teacher {number}'}": Conservation(
                len(pool), len(pool) - sum(failed.values()), failed=failed
            )
            for number, failed in enumerate(lost)
        },
        calls,
    )


def names(recipe: Recipe) -> list[str]:
    """What each teacher is called, the main one first; with its number where another has the same name."""
    sources = [recipe.teacher.source, *(one.source for one in recipe.teacher.others)]
    short = [source.split("#")[0].split(",")[0].split(":", 1)[-1] for source in sources]
    return [name if short.count(name) == 1 else f"{name} ({place})" for place, name in enumerate(short, 1)]


def _votes(
    recipe: Recipe, panel: Panel, pool: Sequence[Example], ledger: Ledger, progress: Progress, number: int
) -> tuple[list[int | None], dict[str, int]]:
    """(each row's likeliest answer by number, how many are unusable by reason) of one other teacher."""
    task = recipe.task.build()
    shown = Panel.plain(panel.members[:1], len(task.answers))
    answers = ask(recipe, shown, pool, ledger, progress, f"other teacher {number + 1} labels the pool", number)
    votes: list[int | None] = []
    failed: Counter[str] = Counter()
    for completions in answers:
        probabilities, failure = shown.combine(task, completions)
        votes.append(None if probabilities is None else int(np.argmax(probabilities)))
        failed.update([failure] if probabilities is None else [])
    if failed.total() > recipe.teacher.others[number].max_failed * len(pool):
        reasons = ", ".join(f"{count} × {reason}" for reason, count in failed.most_common())
        raise TeacherError(
            f"{failed.total()} of {len(pool)} answers of {names(recipe)[number + 1]} are unusable ({reasons}).",
            f"Mend its prompt, or raise teacher.others[{number}].max_failed; the usable answers are kept.",
        )
    return votes, dict(failed)
