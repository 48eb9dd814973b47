"""One person's sitting: what is asked next, and what they say of it, kept before the next is shown.

Nothing of a model, nor of another person, reaches whoever answers, except in adjudication: there
the answers that differ are shown without names, in drawn order.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from aasut.data import gold
from aasut.data.deal import share_of
from aasut.data.gold import Kind, Line, Round
from aasut.errors import DataError, RecipeError
from aasut.gold import form, plan
from aasut.store import digest
from aasut.tasks import Task
from aasut.types import Example

LONGEST = 100_000  # characters of an answer or a reason
_PACE_OF = 50  # the latest answers tell the pace


@dataclass(frozen=True, slots=True)
class Item:
    """What is asked. `key` names it without giving its id away; `said` has the answers to choose from in adjudication.

    An empty text in `said` means that a person found the input not usable.
    """

    key: str
    example: Example
    round: Round
    said: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tally:
    """How far this person is: rows done, rows left for them, seconds a row takes them (None before the first)."""

    done: int
    left: int
    seconds_each: float | None

    @property
    def seconds_left(self) -> float | None:
        return None if self.seconds_each is None else self.left * self.seconds_each


class Session:
    """See the module's text. `queue`: the rows to ask, in order; `double`: share of them that a second person gets."""

    def __init__(
        self,
        task: Task,
        path: Path,
        queue: Sequence[Example],
        *,
        rater: str,
        double: float,
        seed: int,
        adjudicate: bool = False,
    ) -> None:
        if not rater.strip() or len(rater) > 100 or not rater.isprintable():
            raise RecipeError(f"{rater!r} is no name of a person.", "Give one with --rater.")
        if not 0 <= double <= 1:
            raise RecipeError(f"--double {double:g} is no share.", "Give a number from 0 to 1.")
        if not path.parent.is_dir():
            raise RecipeError(f"There is no folder {path.parent}, where data.gold is to stand.", "Make it.")
        self.task, self.path, self.queue, self.rater, self.seed = task, path, list(queue), rater, seed
        self.adjudicate = adjudicate
        self.doubles = plan.twice(queue, double, seed)
        self.rows: dict[str, list[Line]] = {}
        self._hashes = gold.hashes(queue, task)
        self._again = ""  # id of the row whose answer was just taken back
        self._shown = ("", 0.0)
        self._size = -1
        self._lines: list[Line] = []
        self.refresh()

    def refresh(self) -> None:
        """Take in what other sittings have written meanwhile. Raises DataError where the file is damaged."""
        size = self.path.stat().st_size if self.path.exists() else 0
        if size != self._size:
            self._lines = gold.read(self.path)
            self.rows, _, _ = gold.standing(self._lines, self._hashes, self.task)
            self._size = size

    def item(self) -> Item | None:
        """What this person is asked now, None where nothing is left for them."""
        left = self._left()
        if not left:
            return None
        example = next((row for row in left if row.id == self._again), left[0])
        key = digest([self.seed, example.id, self.adjudicate])[:16]
        if self._shown[0] != key:
            self._shown = (key, time.monotonic())
        if self.adjudicate:
            said = sorted(text for _, text in gold.opinions_of(self.rows[example.id]))
            said.sort(key=lambda text: share_of(f"{self.seed} {example.id} {text}"))
            return Item(key, example, "adjudicated", tuple(said))
        others = gold.opinions_of(self.rows.get(example.id, []))
        return Item(key, example, "second" if others else "first")

    def answer(self, key: str, text: str) -> None:
        """Keep an answer to the item of this key. Raises DataError where it is none, or another item is asked."""
        _check_text(text)
        found = self.task.canonical(text)
        if found is None:
            raise DataError(f"This is no answer: {self._why_not(text)}.", "Try again, or skip it.")
        self._say(key, "answer", found)

    def skip(self, key: str, reason: str) -> None:
        """Keep that this person cannot say; the row may be asked of another. Raises DataError as `answer` does."""
        _check_text(reason)
        self._say(key, "skip", reason.strip())

    def unusable(self, key: str, reason: str) -> None:
        """Keep that the input is none that the task is for. Raises DataError as `answer` does."""
        _check_text(reason)
        self._say(key, "unusable", reason.strip())

    def undo(self) -> bool:
        """Take back this person's latest standing word, and ask that row again; False where there is none."""
        self.refresh()
        ids = {row.id for row in self.queue if self._mine(row.id)}
        mine = [line for line in self._lines if line.id in ids and self._is_mine(line) and line.kind != "undo"]
        if not mine:
            return False
        last = mine[-1]
        self._write(Line(last.id, last.slots, "undo", "", self.rater, _now(), last.round))
        self._again, self._shown = last.id, ("", 0.0)
        return True

    def tally(self) -> Tally:
        """How far this person is."""
        self.refresh()
        mine = [line for row in self.queue for line in self._mine(row.id)]
        return Tally(len(mine), len(self._left()), pace(mine))

    def _left(self) -> list[Example]:
        """Rows for this person: those that wait for a second word first, then those nobody has answered."""
        self.refresh()
        if self.adjudicate:
            open_rows = (row for row in self.queue if gold.settle(self.rows.get(row.id, []))[1] == gold.DISAGREE)
            return [row for row in open_rows if not self._mine(row.id)]
        second, first = [], []
        for row in self.queue:
            lines = [line for line in self.rows.get(row.id, []) if line.round != "adjudicated"]
            if any(line.by == self.rater for line in lines):
                continue
            opinions = sum(line.kind != "skip" for line in lines)
            if opinions == 0:
                first.append(row)
            elif opinions == 1 and row.id in self.doubles:
                second.append(row)
        return second + first

    def _mine(self, row_id: str) -> list[Line]:
        return [line for line in self.rows.get(row_id, []) if self._is_mine(line)]

    def _is_mine(self, line: Line) -> bool:
        return line.by == self.rater and (line.round == "adjudicated") == self.adjudicate

    def _say(self, key: str, kind: Kind, text: str) -> None:
        item = self.item()
        if item is None or item.key != key:
            raise DataError("This row is not the one asked now.", "Answer the one shown.")
        seconds = round(time.monotonic() - self._shown[1], 1)
        row_id = item.example.id
        self._write(Line(row_id, self._hashes[row_id], kind, text, self.rater, _now(), item.round, seconds))
        self._again = ""

    def _write(self, line: Line) -> None:
        gold.append(self.path, line)
        self.refresh()

    def _why_not(self, text: str) -> str:
        if self.task.answers:
            return f"the answers are {', '.join(self.task.answers)}"
        if not text.strip():
            return "it is empty"
        return form.fault(text, self.task.schema) if self.task.schema else "the task does not take it"


def pace(lines: Sequence[Line]) -> float | None:
    """Seconds a row takes, from the latest ones; one that took over three times the median counts as that much."""
    times = [line.seconds for line in sorted(lines, key=lambda line: line.at)][-_PACE_OF:]
    if not times:
        return None
    most = 3 * median(times)
    return sum(min(seconds, most) for seconds in times) / len(times)


def _check_text(text: str) -> None:
    if len(text) > LONGEST:
        raise DataError(f"This is {len(text):,} characters long.", f"Keep it under {LONGEST:,}.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError("This is not valid Unicode text.", "Type it again.") from None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
