"""What became of requests, answers and their elements, and whether it is still worth going on."""

from __future__ import annotations

from collections import Counter
from typing import Any

from aasut.errors import TeacherError
from aasut.recipe.field import FieldRecipe
from aasut.synthesize.plan import Task
from aasut.synthesize.writing import Made, usable
from aasut.types import Completion, Conservation, Usage

FEW = 20  # answers of no use that stop nothing yet


class Account:
    """Counts answers as they come and tasks as they end; planned: requests that there will be at least.

    Raises TeacherError once too many answers failed, or cannot be read, for it to come right.
    """

    def __init__(self, recipe: FieldRecipe, planned: int) -> None:
        self.recipe, self.planned = recipe, planned
        self.asked: Counter[str] = Counter()  # by kind
        self.usage: dict[str, Usage] = {}  # by kind
        self.failed: Counter[str] = Counter()
        self.made = Made()
        self.items: Counter[tuple[str, str]] = Counter()  # by split and kind

    def answered(self, task: Task, completion: Completion, _resumed: bool) -> None:
        self.asked[task.kind] += 1
        self.usage[task.kind] = self.usage.get(task.kind, Usage()) + completion.usage
        if not usable(completion):
            self.failed[completion.failure] += 1
            self._check(FEW, self.planned)

    def finished(self, task: Task, made: Made) -> None:
        self.items[task.shelf.split, task.kind] += len(made.items)
        for mine, new in (
            (self.made.faults, made.faults),
            (self.made.repairs, made.repairs),
            (self.made.unread, made.unread),
            (self.made.quoted, made.quoted),
        ):
            mine.update(new)
        if made.unread:
            self._check(FEW, self.planned)

    def facts(self) -> dict[str, Any]:
        """What the stage says of itself. Raises TeacherError where too many answers are of no use, few as they are."""
        self._check(0, 0)
        asked, items = self.asked.total(), self.items.total()
        lost = dict((self.failed + self.made.unread).most_common())
        total = sum(self.usage.values(), Usage())
        kinds: dict[str, dict[str, int]] = {}
        for (split, kind), count in self.items.items():
            kinds.setdefault(split, {})[kind] = count
        return {
            "conservation": {
                "answers": Conservation(asked, asked - sum(lost.values()), failed=lost),
                "items": Conservation(
                    items + self.made.faults.total(), items, failed=dict(self.made.faults.most_common())
                ),
            },
            "items": kinds,
            "requests": dict(self.asked),
            "tokens": {"prompt": total.prompt_tokens, "completion": total.completion_tokens},
            "repairs": dict(self.made.repairs.most_common()),
            "quotes": dict(self.made.quoted.most_common()),
        }

    def _check(self, few: int, planned: int) -> None:
        asked = self.asked.total()
        for reasons, share, option, what, remedy in (
            (self.failed, self.recipe.teacher.max_failed, "teacher.max_failed", "unusable",
             "Mend the endpoint's settings"),
            (self.made.unread, self.recipe.filter.max_failed, "filter.max_failed", "not to be read",
             "Take a teacher that keeps to JSON, or raise synthesize.max_tokens"),
        ):  # fmt: skip
            if reasons.total() > max(few, share * max(asked, planned)):
                listed = ", ".join(f"{count} × {reason}" for reason, count in reasons.most_common())
                raise TeacherError(
                    f"{reasons.total()} of {asked} answers are {what} ({listed}).",
                    f"{remedy}, or raise {option}; the usable answers are kept.",
                )
