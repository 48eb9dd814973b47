"""Which chunks are asked about, and what is asked of each: drawn by the seed, before anything is asked."""

from __future__ import annotations

import heapq
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aasut.errors import DataError
from aasut.recipe.field import FieldRecipe, Kind, Synthesize
from aasut.store import digest
from aasut.synthesize import calls, conversations, questions, reading, relations
from aasut.synthesize.item import SPLITS, Split
from aasut.synthesize.shelf import Search, Shelf
from aasut.synthesize.writing import Writing
from aasut.teacher.ledger import Ledger
from aasut.types import Chunk, Conservation

HELD_OUT_KIND: Kind = "questions"  # the one that is made of tune and test
KINDS = {
    "questions": questions.write,
    "relations": relations.write,
    "conversations": conversations.write,
    "calls": calls.write,
}


@dataclass(frozen=True)
class Task:
    """Chunks of a shelf that one kind writes about: one, or for `reading` those of a document with its `outline`."""

    kind: Kind
    chunks: tuple[Chunk, ...]
    shelf: Shelf
    outline: str = ""

    def begin(self, wanted: Synthesize) -> Writing:
        """The rounds of requests."""
        if self.kind == "reading":
            return reading.write(self.chunks, self.shelf, wanted, self.outline)
        return KINDS[self.kind](self.chunks, self.shelf, wanted)


@dataclass(frozen=True)
class Plan:
    """All tasks in their order, and the chunks that they are about: rows are chunks."""

    tasks: list[Task]
    conservation: Conservation


def plan(
    recipe: FieldRecipe, chunks: Iterable[Chunk], parts: Mapping[str, Split], teacher: Ledger, index: Search | None
) -> Plan:
    """Draw chunks and deal them to the kinds. Raises DataError for a document without a split.

    `index` searches the chunks of all splits; a task is shown those of its own. The chunks that are asked about are
    held in memory.
    """
    wanted = recipe.synthesize
    limits: dict[Split, int | None] = {"train": wanted.chunks, "tune": wanted.held_out, "test": wanted.held_out}
    draws = {split: _Draw(limits[split], recipe.seed) for split in SPLITS}
    least = max(recipe.chunks.least, 1)
    dropped: Counter[str] = Counter()
    total = 0
    for chunk in chunks:
        total += 1
        split = parts.get(chunk.span.document)
        if split is None:
            raise DataError(
                f"The document {chunk.span.document} is in no split.", "Run the stages before this one again."
            )
        if letters(chunk.text) < least:
            dropped[f"fewer than {least} letters"] += 1
        else:
            draws[split].offer(chunk)
    for split, draw in draws.items():
        option = "chunks" if split == "train" else "held_out"
        if draw.left_out:
            dropped[f"{split}: not drawn, synthesize.{option} is {limits[split]}"] = draw.left_out
    chosen = {split: draw.drawn() for split, draw in draws.items()}
    local = teacher.remote is None
    shelves = {split: Shelf(split, parts, teacher.identity, wanted.language, index, local) for split in SPLITS}
    tasks = [task for kind in wanted.kinds for task in _tasks(kind, chosen["train"], shelves["train"])]
    for split in SPLITS[1:]:
        tasks += _tasks(HELD_OUT_KIND, chosen[split], shelves[split])
    return Plan(tasks, Conservation(total, sum(map(len, chosen.values())), dict(dropped)))


def rounds(kind: Kind, wanted: Synthesize) -> int:
    """Rounds of requests in which a task asks, one after another, at most."""
    return {"questions": 1, "calls": 1, "relations": 2, "reading": 2, "conversations": wanted.turns}[kind]


def letters(text: str) -> int:
    """Letters, and signs that belong to them, such as Devanagari's vowels."""
    return sum(unicodedata.category(character)[0] in "LM" for character in text)


def _tasks(kind: Kind, chunks: list[Chunk], shelf: Shelf) -> list[Task]:
    if kind != "reading":
        return [Task(kind, (chunk,), shelf) for chunk in chunks]
    documents: dict[str, list[Chunk]] = {}
    for chunk in chunks:
        documents.setdefault(chunk.span.document, []).append(chunk)
    return [Task(kind, tuple(members), shelf, reading.outline_of(members)) for members in documents.values()]


class _Draw:
    """At most `limit` of what is offered, all of it for None: those whose hash with the seed is least."""

    def __init__(self, limit: int | None, seed: int) -> None:
        self.limit, self.seed, self.left_out = limit, seed, 0
        self._heap: list[tuple[int, int, Any]] = []
        self._offered = 0

    def offer(self, chunk: Chunk) -> None:
        self._offered += 1
        entry = (-int(digest([self.seed, chunk.id])[:15], 16), self._offered, chunk)
        if self.limit is None:
            self._heap.append(entry)
        elif len(self._heap) < self.limit:
            heapq.heappush(self._heap, entry)
        else:
            self.left_out += 1
            if self._heap:
                heapq.heappushpop(self._heap, entry)

    def drawn(self) -> list[Chunk]:
        """In the order in which they came."""
        return [chunk for _, _, chunk in sorted(self._heap, key=lambda entry: entry[1])]
