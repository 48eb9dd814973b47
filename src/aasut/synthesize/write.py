"""Stage `items`: the teacher writes about the chunks, each split by itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aasut.progress import Progress
from aasut.recipe.field import FieldRecipe
from aasut.synthesize.account import Account
from aasut.synthesize.drive import drive
from aasut.synthesize.item import Split, as_dict
from aasut.synthesize.plan import Task, plan
from aasut.synthesize.shelf import Search
from aasut.synthesize.writing import Made
from aasut.teacher.ledger import Ledger
from aasut.types import Chunk, Completion

VERSION = 1
FILE = "items.jsonl"


def build(
    recipe: FieldRecipe,
    chunks: Iterable[Chunk],
    parts: Mapping[str, Split],
    teacher: Ledger,
    index: Search | None,
    folder: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Write items.jsonl, in an order that hangs on the recipe and the chunks alone.

    `index` searches the chunks, for others that a pair of names is related in; without it one has to do.
    Raises TeacherError where more than teacher.max_failed of the answers are unusable, or filter.max_failed cannot be
    read.
    """
    planned = plan(recipe, chunks, parts, teacher, index)
    account = Account(recipe, len(planned.tasks))
    with (
        (folder / FILE).open("w", encoding="utf-8") as file,
        progress.steps("teacher writes", len(planned.tasks)) as step,
    ):
        fresh: set[int] = set()  # tasks that an answer was bought for just now

        def answered(task: Task, completion: Completion, resumed: bool) -> None:
            fresh.update([] if resumed else [id(task)])
            account.answered(task, completion, resumed)

        def finished(task: Task, made: Made) -> None:
            account.finished(task, made)
            for item in made.items:
                file.write(json.dumps(as_dict(item), ensure_ascii=False) + "\n")
            step.advance(note=f"{account.items.total():,} items", resumed=id(task) not in fresh)
            fresh.discard(id(task))

        drive(planned.tasks, recipe.synthesize, teacher, finished, answered)
    for note, times in teacher.notes():
        progress.say(f"{times:,} {note}")
    facts = account.facts()
    return facts | {"conservation": {"chunks": planned.conservation} | facts["conservation"]}
