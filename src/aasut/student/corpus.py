"""From texts to the rows of continued pre-training, every token accounted for."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from aasut.engine.common import opening
from aasut.errors import DataError, RecipeError
from aasut.formats.tokenizer import Tokenizer
from aasut.recipe.field import Adapt
from aasut.student.objective import Row
from aasut.synthesize.item import Item
from aasut.types import Chunk, Conservation

VALIDATION, CAPPED, SPARE = "kept for validation", "over adapt.tokens", "over adapt.replay_share"


@dataclass(frozen=True, slots=True)
class Passage:
    """A text that is read as it stands, and the documents that it is from: those are never parted by a split."""

    documents: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Corpus:
    """Rows to learn and to validate on. A row has the tokens of one passage, all targets but what stands before them.

    `tokens` is the accounting by source (`documents`, `generated`, `general`), in targets: kept ones are learned.
    """

    rows: list[Row]
    validation: list[Row]
    tokens: Mapping[str, Conservation]


def of_chunks(chunks: Iterable[Chunk]) -> list[Passage]:
    """Documents, their chunks end to end in the order of their spans; apart where some are missing in between."""
    ordered = sorted(chunks, key=lambda chunk: (chunk.span.document, chunk.span.start))
    found: list[Passage] = []
    last: Chunk | None = None
    for chunk in ordered:
        if last is not None and (last.span.document, last.span.end) == (chunk.span.document, chunk.span.start):
            found[-1] = replace(found[-1], text=found[-1].text + chunk.text)
        else:
            found.append(Passage((chunk.span.document,), chunk.text))
        last = chunk
    return found


def of_items(items: Iterable[Item]) -> list[Passage]:
    """Generated texts; of questions and conversations all turns, one behind the other."""
    return [
        Passage(tuple(dict.fromkeys(span.document for span in item.spans)) or (item.id,), item.text) for item in items
    ]


def build(
    documents: Sequence[Passage],
    generated: Sequence[Passage],
    general: Sequence[Passage],
    tokenizer: Tokenizer,
    settings: Adapt,
    validation: float,
    seed: int,
    asked: Sequence[int] | None = None,
) -> Corpus:
    """The rows: documents and generated texts, and as much general text as makes `settings.replay_share` of all.

    A share `validation` of the documents, by tokens, is kept out whole, with what was generated of it, and general
    text in the same proportion. `asked`: tokens behind which a model of the same tokens reads a text, where general
    text is to be learned from it. Raises DataError where there are fewer than two documents, RecipeError where there
    is too little general text.
    """
    cutter = Cutter(tokenizer, settings.context)
    field = {"documents": cutter.cut_all(documents), "generated": cutter.cut_all(generated)}
    held = _held(field["documents"], validation, settings.tokens, seed)
    learned, kept, accounts = [], [], {}
    for name, cut in field.items():
        out = [replace(row, group=name) for rows in cut if held & set(rows.documents) for row in rows.rows]
        rest = [replace(row, group=name) for rows in cut if not held & set(rows.documents) for row in rows.rows]
        taken = capped(rest, settings.tokens, seed) if name == "documents" else rest
        learned += taken
        kept += out
        accounts[name] = _account(cut, taken, {VALIDATION: _count(out), CAPPED: _count(rest) - _count(taken)})
    replay, general_kept, accounts["general"] = _replay(
        cutter.cut_all(general), (_count(learned), _count(kept)), settings, seed
    )
    told = [
        [replace(_told(row, len(cutter.before), asked), group="general") for row in rows]
        for rows in (replay, general_kept)
    ]
    return Corpus([*learned, *told[0]], [*kept, *told[1]], accounts)


@dataclass(frozen=True)
class Cut:
    """A passage's rows; together their targets are its tokens and the end token."""

    documents: tuple[str, ...]
    rows: list[Row]


class Cutter:
    """Cuts passages into rows of at most `context` tokens, the fewest that do."""

    def __init__(self, tokenizer: Tokenizer, context: int) -> None:
        self.tokenizer, self.context = tokenizer, context
        self.before = opening(tokenizer)
        self.end = [] if tokenizer.eos_id is None else [tokenizer.eos_id]

    def cut_all(self, passages: Sequence[Passage]) -> list[Cut]:
        """The rows of each passage; one without tokens has none."""
        ids = self.tokenizer.encode_all([passage.text for passage in passages])
        return [
            Cut(passage.documents, list(self._rows([*found, *self.end]) if found else ()))
            for passage, found in zip(passages, ids, strict=True)
        ]

    def _rows(self, ids: list[int]) -> Iterator[Row]:
        """Rows that go on within a passage begin with the token before, so that every token is said from one of it."""
        before, room = self.before, self.context - len(self.before)
        yield Row([*before, *ids[:room]], answer=len(ids[:room]))
        for start in range(room, len(ids), room - 1):
            part = ids[start : start + room - 1]
            yield Row([*before, ids[start - 1], *part], answer=len(part))


def _held(documents: Sequence[Cut], share: float, most: int | None, seed: int) -> set[str]:
    """Names of documents for validation: in drawn order, those that still fit into the share; one at least.

    The share is of all tokens, or of the `most` that are learned: no more are looked at than training is worth.
    """
    sizes: Counter[str] = Counter()
    for cut in documents:
        sizes[cut.documents[0]] += _count(cut.rows)
    names = sorted(name for name, size in sizes.items() if size)
    if len(names) < 2:
        raise DataError(
            f"{len(names)} document of the field is there to learn from, and one more is needed for validation.",
            "Add documents, or let the records of a file be documents of their own.",
        )
    return fitting(sizes, share * min(sum(sizes.values()), most or math.inf), seed)


def fitting(sizes: Mapping[str, int], room: float, seed: int) -> set[str]:
    """Names of documents to keep apart: in drawn order, those that still fit into the room; one at least."""
    names = sorted(name for name, size in sizes.items() if size)
    random.Random(seed).shuffle(names)
    held = set()
    for name in names:
        if sizes[name] <= room:
            held.add(name)
            room -= sizes[name]
    return held or {min(names, key=lambda name: (sizes[name], name))}


def capped(rows: list[Row], most: int | None, seed: int, option: str = "adapt.tokens") -> list[Row]:
    """Rows drawn until the next one would pass `most` targets, in their own order.

    Raises RecipeError, in the name of the `option` that says `most`, where one row alone has more.
    """
    if most is None:
        return rows
    order = list(range(len(rows)))
    random.Random(seed).shuffle(order)
    taken, room = [], most
    for i in order:
        if rows[i].answer > room:
            break
        taken.append(i)
        room -= rows[i].answer
    if not taken and rows:
        raise RecipeError(
            f"{option} is {most}, and a row of the documents has {rows[order[0]].answer} tokens.",
            f"Raise it, or lower {option.removesuffix('tokens')}context.",
        )
    return [rows[i] for i in sorted(taken)]


def _replay(
    cut: Sequence[Cut], field: tuple[int, int], settings: Adapt, seed: int
) -> tuple[list[Row], list[Row], Conservation]:
    """(rows to learn, rows to validate on, accounting) of general text; `field`: targets of the field in each."""
    by_document: dict[str, list[Row]] = {}
    for part in cut:
        by_document.setdefault(part.documents[0], []).extend(part.rows)
    names = sorted(by_document)
    random.Random(seed).shuffle(names)
    learned, kept = (round(count * settings.replay_share / (1 - settings.replay_share)) for count in field)
    first = 0
    while first < len(names) and _count(row for name in names[:first] for row in by_document[name]) < kept:
        first += 1
    parts = [[row for name in some for row in by_document[name]] for some in (names[first:], names[:first])]
    there = sum(map(_count, parts))
    if _count(parts[0]) < learned or _count(parts[1]) < kept:
        raise RecipeError(
            f"adapt.replay_share is {settings.replay_share:g}: beside {sum(field):,} tokens of the field that takes "
            f"{learned + kept:,} of general text, some of it in documents of their own for validation, "
            f"and adapt.replay has {there:,}.",
            "Give more general text, or lower adapt.replay_share or adapt.tokens.",
        )
    taken, out = _first(parts[0], learned), _first(parts[1], kept)
    dropped = {VALIDATION: _count(out), SPARE: there - _count(taken) - _count(out)}
    return taken, out, Conservation(there, _count(taken), {name: count for name, count in dropped.items() if count})


def _first(rows: Iterable[Row], targets: int) -> list[Row]:
    """The first so many targets; the last row is cut to fit."""
    taken = []
    for row in rows:
        if targets <= 0:
            break
        over = max(row.answer - targets, 0)
        taken.append(replace(row, ids=row.ids[: len(row.ids) - over], answer=row.answer - over) if over else row)
        targets -= row.answer
    return taken


def _told(row: Row, before: int, asked: Sequence[int] | None) -> Row:
    """The row with what the anchor reads ahead of its targets, where there is one: its own tokens for the first ones.

    `before`: the number of the student's.
    """
    if asked is None:
        return row
    return replace(row, asked=[*asked, *row.ids[before : len(row.ids) - row.answer]])


def _account(cut: Iterable[Cut], taken: Iterable[Row], dropped: Mapping[str, int]) -> Conservation:
    there = sum(_count(part.rows) for part in cut)
    return Conservation(there, _count(taken), {name: count for name, count in dropped.items() if count})


def _count(rows: Iterable[Row]) -> int:
    """Targets of the rows."""
    return sum(row.answer for row in rows)
