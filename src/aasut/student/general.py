"""General text for healing: rows to learn, whole documents to look at, and every token accounted for."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from aasut.errors import DataError
from aasut.formats.tokenizer import Tokenizer
from aasut.recipe.student import Heal
from aasut.student.corpus import Cut, Cutter, Passage, capped, fitting, of_chunks
from aasut.student.objective import Row
from aasut.types import Chunk, Conservation, Document

VALIDATION, MOST_HELD = 0.05, 16_384  # of the tokens to learn, how many are looked at: this share, at most so many
CHARACTERS = 4  # of a token, about
CALIBRATION_CHARACTERS = 1000  # of a text, where what goes is chosen by what it does to it
KEPT, SPARE = "kept for validation", "over heal.tokens"


@dataclass(frozen=True)
class General:
    """Rows to learn and to look at, whose teacher reads what they begin with too; `bytes` of what the latter say.

    Rows to learn have end tokens behind their texts, the others have none. `calibration`: texts to learn, in a drawn
    order, each from its beginning.
    """

    rows: list[Row]
    held: list[Row]
    bytes: int
    calibration: list[str]
    tokens: Conservation


def passages(documents: Iterable[Document], chunks: Iterable[Chunk]) -> list[Passage]:
    """The documents as texts; those of one group are never parted."""
    group = {document.id: document.group or document.id for document in documents}
    return [replace(one, documents=(group[one.documents[0]],)) for one in of_chunks(chunks)]


def build(texts: Sequence[Passage], heal: Heal, tokenizer: Tokenizer, seed: int) -> General:
    """Part the texts and cut them into rows.

    Raises DataError where there is nothing to learn from or to look at, RecipeError where `heal.tokens` is less than
    a row.
    """
    learned, held = _parted(texts, heal.tokens, seed)
    looked, characters = [], _room(texts, heal.tokens)
    for passage in held:  # whole, unless the smallest document is larger than what is looked at
        looked.append(passage.text[:characters])
        characters -= len(looked[-1])
    cutter = Cutter(tokenizer, heal.context)
    there = [row for cut in cutter.cut_all(learned) for row in cut.rows]
    kept = _count(cutter.cut_all(held))
    rows = capped(there, heal.tokens, seed, "student.heal.tokens")
    cutter.end = []
    shown = [row for cut in cutter.cut_all([Passage((), text) for text in looked if text]) for row in cut.rows]
    if not rows or not shown:
        raise DataError("student.heal.texts have too few words to learn from.", "Add files with general text.")
    drawn = random.Random(seed).sample(learned, len(learned))
    all_tokens, taken = kept + sum(row.answer for row in there), sum(row.answer for row in rows)
    dropped = {KEPT: kept, SPARE: all_tokens - kept - taken}
    return General(
        [_told(row) for row in rows],
        [_told(row) for row in shown],
        sum(len(text.encode("utf-8")) for text in looked),
        [passage.text[:CALIBRATION_CHARACTERS] for passage in drawn],
        Conservation(all_tokens, taken, {name: count for name, count in dropped.items() if count}),
    )


def _parted(texts: Sequence[Passage], tokens: int, seed: int) -> tuple[list[Passage], list[Passage]]:
    """(texts to learn, texts to look at): in drawn order the documents that still fit; one at least, and not all."""
    sizes: Counter[str] = Counter()
    for passage in texts:
        sizes[passage.documents[0]] += len(passage.text)
    there = sum(size > 0 for size in sizes.values())
    if there < 2:
        raise DataError(
            f"student.heal.texts hold {there} document, and one more is needed for validation.",
            "Add files, or let the records of a file be documents of their own (records).",
        )
    held = fitting(sizes, _room(texts, tokens), seed)
    sides: tuple[list[Passage], list[Passage]] = ([], [])
    for passage in texts:
        sides[passage.documents[0] in held].append(passage)
    return sides


def _room(texts: Sequence[Passage], tokens: int) -> int:
    """Characters to look at."""
    learned = min(sum(len(passage.text) for passage in texts), tokens * CHARACTERS)
    return max(1, min(int(VALIDATION * learned), MOST_HELD * CHARACTERS))


def _told(row: Row) -> Row:
    """The row with what a teacher of the same tokens reads ahead of its targets: the same."""
    return replace(row, asked=row.ids[: len(row.ids) - row.answer])


def _count(cut: Iterable[Cut]) -> int:
    """Targets of all rows."""
    return sum(row.answer for one in cut for row in one.rows)
