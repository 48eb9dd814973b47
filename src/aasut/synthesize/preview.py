"""A few items of each kind, and by their measure what a whole run would ask, and what that would cost.

They are asked through the run's ledger, so that the whole run does not pay for them again.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from aasut.progress import Progress
from aasut.recipe.field import FieldRecipe
from aasut.store import digest
from aasut.synthesize.account import Account
from aasut.synthesize.drive import drive
from aasut.synthesize.item import Item, Split
from aasut.synthesize.plan import Task, plan, rounds
from aasut.synthesize.shelf import Search
from aasut.synthesize.writing import Made
from aasut.teacher.ledger import Ledger
from aasut.types import Chunk, Span, Usage

A_TASK = 3  # items that a task is taken to give, at first


def preview(
    recipe: FieldRecipe,
    chunks: Iterable[Chunk],
    parts: Mapping[str, Split],
    teacher: Ledger,
    index: Search | None,
    count: int,
    progress: Progress,
) -> dict[str, Any]:
    """Up to `count` items over all kinds, and an estimate of the whole; facts as of the stage `items`.

    Raises TeacherError as the stage does.
    """
    planned = plan(recipe, chunks, parts, teacher, index)
    sample = _Sample(recipe, planned.tasks, teacher)
    sample.take(count, progress)
    facts = sample.account.facts()
    return {
        "items": [as_shown(item) for item in _mixed(sample.items)[:count]],
        "estimate": sample.estimate(),
        "made_now": sample.made,
        "conservation": {"chunks": planned.conservation.as_dict()}
        | {name: one.as_dict() for name, one in facts["conservation"].items()},
        "repairs": facts["repairs"],
        "quotes": facts["quotes"],
    }


def as_shown(item: Item) -> dict[str, Any]:
    """An item for a reader."""
    return {
        "kind": item.kind,
        "split": item.split,
        "turns": [{"role": turn.role, "content": turn.content} for turn in item.turns],
        "evidence": list(item.evidence),
        "citations": [citation(span) for span in item.spans],
    }


def citation(span: Span) -> str:
    """Where a span stands: document, page, headings, characters."""
    page = "" if span.page is None else f", page {span.page}"
    headings = "".join(f" › {heading}" for heading in span.headings)
    return f"{span.document}{page}{headings}, characters {span.start:,} to {span.end:,}"


class _Sample:
    """Tasks of each kind, drawn by the seed, of a document the first chunk.

    `made` counts calls made just now; `seconds` and `rounds` are what they took.
    """

    def __init__(self, recipe: FieldRecipe, tasks: Sequence[Task], teacher: Ledger) -> None:
        self.recipe, self.tasks, self.teacher = recipe, tasks, teacher
        self.account = Account(recipe, 0)
        self.items: list[Item] = []
        self.made, self.seconds, self.rounds = 0, 0.0, 0
        self.taken: Counter[str] = Counter()  # tasks by kind
        self._queues: dict[str, deque[Task]] = {task.kind: deque() for task in tasks}
        drawn = sorted(tasks, key=lambda task: digest([recipe.seed, task.kind, task.chunks[0].id]))
        for task in drawn:
            self._queues[task.kind].append(replace(task, chunks=task.chunks[:1]))

    def take(self, count: int, progress: Progress) -> None:
        """Work tasks off, kind after kind in turn, until there are `count` items or no tasks."""
        began, before = time.monotonic(), self.teacher.calls_made
        with progress.steps("teacher writes a preview", count) as step:
            while len(self.items) < count and any(self._queues.values()):
                wanted = max(math.ceil((count - len(self.items)) / A_TASK), len(self._queues) if not self.items else 1)
                some = self._some(wanted)

                def finished(task: Task, made: Made) -> None:
                    self.account.finished(task, made)
                    self.items += made.items
                    step.advance(min(len(made.items), count - step.done))

                drive(some, self.recipe.synthesize, self.teacher, finished, self.account.answered)
                self.rounds += max(rounds(task.kind, self.recipe.synthesize) for task in some)
        self.made, self.seconds = self.teacher.calls_made - before, time.monotonic() - began

    def estimate(self) -> dict[str, Any]:
        """Requests, tokens, dollars and seconds of the whole run; seconds are None where nothing was asked just now."""
        whole: Counter[str] = Counter(task.kind for task in self.tasks)
        chunks: Counter[str] = Counter()
        for task in self.tasks:
            chunks[task.kind] += len(task.chunks)
        requests, usage = 0.0, Usage()
        for kind, tasks in self.taken.items():
            asked = self.account.asked[kind]
            # A document's strategies are asked for once, and applied to each of its chunks.
            more = (
                whole[kind] + chunks[kind] * (asked - tasks) / tasks
                if kind == "reading"
                else (whole[kind] * asked / tasks)
            )
            requests += more
            share, mine = more / asked, self.account.usage[kind]
            usage += Usage(round(mine.prompt_tokens * share), round(mine.completion_tokens * share))
        remote = self.teacher.remote
        at_once = (
            1.0
            if remote is None
            else remote.concurrency / min(remote.concurrency, max(self.made / max(self.rounds, 1), 1.0))
        )
        return {
            "requests": round(requests),
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "usd": self.teacher.teacher.price(usage),
            "seconds": self.seconds / self.made * requests / at_once if self.made else None,
        }

    def _some(self, count: int) -> list[Task]:
        """The next tasks, one of each kind in turn."""
        found: list[Task] = []
        while len(found) < count and any(self._queues.values()):
            for kind, queue in self._queues.items():
                if queue and len(found) < count:
                    found.append(queue.popleft())
                    self.taken[kind] += 1
        return found


def _mixed(items: Sequence[Item]) -> list[Item]:
    """One of each kind in turn."""
    queues: dict[str, deque[Item]] = {}
    for item in items:
        queues.setdefault(item.kind, deque()).append(item)
    found = []
    while any(queues.values()):
        found += [queue.popleft() for queue in queues.values() if queue]
    return found
