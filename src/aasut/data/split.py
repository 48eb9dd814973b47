"""Parting the tables' rows into pool, tune, calibrate and test, by whole groups and without duplicates.

Human answers fall by group. The pool never shares a group or a text with calibrate or test, nor a
text with tune; its human answers are withheld. Answers given by hand (see gold.py) make their rows
gold, with the whole group. Where data.asked names the rows that the teacher is asked (see asked.py), the
pool is those; a row that was chosen for it is in no held-out split. Every row that came in is kept, or
counted as dropped or failed by reason.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from aasut.data import asked, dedupe, gold
from aasut.data.asked import Asked, Weights
from aasut.data.deal import by_hash, part
from aasut.errors import DataError
from aasut.progress import Progress
from aasut.recipe import Recipe, Table
from aasut.sources import tables
from aasut.sources.collect import TableRows
from aasut.store import disk_errors, file_hash, write_atomically
from aasut.types import Conservation, Example

VERSION = 2  # of what `build` writes: raised when the same settings would give other files

POOL, TUNE, CALIBRATE, TEST = "pool", "tune", "calibrate", "test"
SPLITS = (TEST, CALIBRATE, TUNE, POOL)  # of two rows that are the same, the one in the earlier split stays
GOLD = (TEST, CALIBRATE, TUNE)
HELD_OUT = (TEST, CALIBRATE)
WEIGHTS = "weights.json"
UNASKED = "unasked"  # rows of the pool that data.asked does not name
CHOSEN, NOT_ASKED = "chosen for labelling, never evaluated on", "not asked"
OVER = "over the limit"


@dataclass(frozen=True, slots=True)
class _Row:
    """A row. `text` is its normalised text; `left_out` tells why an answer given `by_hand` does not count.

    Whether the teacher was asked because the row was `chosen` matters only where it is human.
    """

    example: Example
    table: int
    role: str
    text: str
    by_hand: bool = False
    left_out: str = ""
    chosen: bool = False

    @property
    def human(self) -> bool:
        """Has it a human answer that counts?"""
        return self.by_hand or (self.role != "pool" and self.example.answer is not None)

    @property
    def may_be_answered(self) -> bool:
        """May a person be asked for it?"""
        return not self.human and self.example.taught is None


Parts = dict[str, list[_Row]]


def settings(recipe: Recipe, base: Path) -> dict[str, Any]:
    """All that `build` depends on, the content of all files included: what identifies its result."""
    task, by_hand = recipe.task.build(), gold.path_of(recipe, base)
    listed = asked.path_of(recipe, base)
    data = recipe.data.model_dump(mode="json", exclude={"gold", "asked"})
    for table in data["tables"]:
        del table["recorded"]  # which answers the teacher gave already does not part the rows
        if table["taught"] is None:  # results of recipes without stay what they were
            del table["taught"]
        if not table["source"].startswith("pypi-sdist:"):  # where a file stands does not matter
            table["source"] = PurePath(table["source"]).name
    return {
        "data": data,
        "answers": [recipe.task.kind, task.answers, task.schema, *([task.tools] if task.tools else [])],
        "slots": task.prompt.slots,
        "seed": recipe.seed,
        "content": [tables.content(table, base=base) for table in recipe.data.tables],
        "gold": file_hash(by_hand) if by_hand is not None and by_hand.is_file() else None,
    } | ({"asked": file_hash(listed)} if listed is not None and listed.is_file() else {})


def build(recipe: Recipe, base: Path, folder: Path, progress: Progress, cache: Path | None = None) -> dict[str, Any]:
    """Read the recipe's tables, part their rows and write pool.jsonl, tune.jsonl, calibrate.jsonl, test.jsonl.

    Where data.asked is given, unasked.jsonl and weights.json too: the rest of the pool, and see `asked.weigh`.

    Ids become `<number of the table>:<id>`. Returns facts: `conservation`; `counts`, `groups` (by
    split); `answers` (by gold split and label, for tasks that have labels); `split_hash` (SHA-256 by
    gold split); `failed_first` (by table, the first line of each reason); `gold_refused_lines` (of
    answers by hand, by reason). Raises DataError where a file or the parting cannot be used.
    """
    dropped: Counter[str] = Counter()
    rows, rows_in, failed, failed_first = _read(recipe, base, progress, cache, dropped)
    listed = _listed(recipe, base, rows)
    if recipe.data.asked is not None and not listed.lines:
        raise DataError(
            f"No row stands in {asked.path_of(recipe, base)}, which data.asked names: the teacher was not asked yet.",
            "Ask it for some with: aasut label RECIPE --budget ROWS.",
        )
    by_hand = gold.settled(recipe, base, (row.example for row in rows if row.may_be_answered), listed.chosen)
    rows = [_with_hand(row, by_hand, listed.chosen) for row in rows]
    parts = _place(rows, _splits_of_groups(rows, recipe), dropped)
    parts = _without_duplicates(parts, recipe, dropped, progress)
    everything = parts[POOL]
    parts = _limited(parts, recipe, dropped)
    rows_of_asked: dict[str, Conservation] = {}
    if recipe.data.asked is not None:
        unasked = _only_asked(parts, everything, listed, recipe, dropped)
        rows_of_asked["asked"] = listed.conservation({row.example.id for row in parts[POOL]})
    labels = recipe.task.build().answers
    _check(parts, rows_in, dropped, told_apart=bool(labels))
    for split in SPLITS:
        _write(folder / f"{split}.jsonl", parts[split], answers=split != POOL)
    if recipe.data.asked is not None:
        _write(folder / f"{UNASKED}.jsonl", unasked, answers=False)
        ids = [row.example.id for row in parts[POOL]]
        weights = asked.weigh([listed.lines[row_id] for row_id in ids], len(unasked))
        write_atomically(folder / WEIGHTS, json.dumps(asdict(weights)))
    kept = sum(len(part) for part in parts.values())
    rows_of_tables = Conservation(rows_in, kept, dict(sorted(dropped.items())), failed)
    return {
        "conservation": {"data": rows_of_tables}
        | ({"gold": by_hand.conservation()} if recipe.data.gold else {})
        | rows_of_asked,
        "counts": {split: len(parts[split]) for split in SPLITS},
        "answers": {split: _counted(parts[split], bool(labels)) for split in GOLD},
        "groups": {split: len({row.example.group for row in parts[split]}) for split in SPLITS},
        "split_hash": {split: file_hash(folder / f"{split}.jsonl") for split in GOLD},
        "failed_first": failed_first,
        "gold_refused_lines": by_hand.refused_lines,
    }


@dataclass(frozen=True)
class Open:
    """Rows that a person may be asked; the split that each group of them falls into then; rows of each gold split."""

    rows: list[Example]
    split_of: dict[str, str]
    counts: dict[str, int]
    chosen: int = 0  # left out, as the teacher was asked for them by choice


def unanswered(recipe: Recipe, base: Path, progress: Progress, cache: Path | None = None) -> Open:
    """The rows without an answer in their table, as if none were given by hand and data.limit unset.

    No two repeat each other, nor a row that the teacher answered already. The same whatever was answered so far; but
    rows that were chosen to be labelled, which may not be evaluated on, are left out and counted. Raises what `build`
    raises for the tables and data.asked.
    """
    dropped: Counter[str] = Counter()
    rows, _, _, _ = _read(recipe, base, progress, cache, dropped)
    chosen = _listed(recipe, base, rows).chosen
    placed = _place(rows, _splits_of_groups(rows, recipe), dropped, waiting=True)
    parts = _without_duplicates(placed, recipe, dropped, progress)
    free = [replace(row, by_hand=True) for row in parts[POOL] if row.may_be_answered]
    left = [row for row in free if row.example.id not in chosen]
    examples = [replace(row.example, answer=None) for row in left]
    counts = {split: len(parts[split]) for split in GOLD}
    return Open(examples, _splits_of_groups([*rows, *left], recipe), counts, len(free) - len(left))


def load(folder: Path, split: str) -> list[Example]:
    """The examples of one split, or of UNASKED, in the order of their ids; pool rows have no answer."""
    if split not in (*SPLITS, UNASKED):
        raise ValueError(f"there is no split {split!r}")
    with (folder / f"{split}.jsonl").open(encoding="utf-8", newline="\n") as file:
        rows = [json.loads(line) for line in file]
    return [Example(row["id"], row["slots"], row["group"], row.get("answer"), row.get("taught")) for row in rows]


def load_weights(folder: Path) -> Weights | None:
    """What each row of the pool counts for where data.asked names them, else None."""
    path = folder / WEIGHTS
    return Weights(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def _read(
    recipe: Recipe, base: Path, progress: Progress, cache: Path | None, dropped: Counter[str]
) -> tuple[list[_Row], int, dict[str, int], dict[str, dict[str, int]]]:
    task = recipe.task.build()
    names = task.prompt.slots
    rows: list[_Row] = []
    rows_in = 0
    failed: Counter[str] = Counter()
    first: dict[str, dict[str, int]] = {}
    for number, table in enumerate(recipe.data.tables):
        read = tables.read(table, task=task, base=base, progress=progress, cache=cache)
        _check_failed(table, read, recipe.data.max_failed)
        rows_in += read.rows_in
        failed.update(read.failed)
        if read.first:
            first[str(number)] = read.first
        examples = read.examples
        if table.limit is not None and len(examples) > table.limit:
            dropped["over the table's limit"] += len(examples) - table.limit
            chosen = random.Random(f"{recipe.seed} table {number}").sample(range(len(examples)), table.limit)
            examples = [examples[place] for place in sorted(chosen)]
        for example in examples:
            row_id = f"{number}:{example.id}"
            group = row_id if table.group is None else example.group
            example = replace(example, id=row_id, group=group)
            rows.append(_Row(example, number, table.role, dedupe.fingerprint(example.slots, names)))
    return rows, rows_in, dict(sorted(failed.items())), first


def _check_failed(table: Table, read: TableRows, most: float) -> None:
    bad = sum(read.failed.values())
    if bad > most * read.rows_in:
        reasons = "; ".join(
            f"{reason}: {count}, first in line {read.first[reason]}" for reason, count in sorted(read.failed.items())
        )
        raise DataError(
            f"{table.source}: {bad} of {read.rows_in} rows cannot be used ({reasons}), more than data.max_failed "
            f"({most:g}).",
            "Mend these rows or the table's settings (encoding, columns, slots), or raise data.max_failed.",
        )


def _listed(recipe: Recipe, base: Path, rows: Sequence[_Row]) -> Asked:
    if recipe.data.asked is None:
        return Asked()
    return asked.settled(recipe, base, gold.hashes((row.example for row in rows), recipe.task.build()))


def _with_hand(row: _Row, by_hand: gold.Gold, chosen: Collection[str]) -> _Row:
    name = row.example.id
    if name in chosen:
        return replace(row, chosen=True)  # whatever people said of it
    answer = by_hand.answers.get(name)
    if answer is not None:
        return replace(row, example=replace(row.example, answer=answer), by_hand=True)
    return replace(row, left_out=by_hand.left_out.get(name, ""))


def _splits_of_groups(rows: Sequence[_Row], recipe: Recipe) -> dict[str, str]:
    """The split of each group that has human answers; a group of a gold table never falls to the pool.

    Nor does one with an answer given by hand. Such answers have no say in where the tables' own fall.
    """
    answered = [row for row in rows if row.human and not row.by_hand]
    gold_only = {row.example.group for row in answered if row.role == "gold"}
    sizes = Counter(row.example.group for row in answered)
    weights: dict[str, float] = {split: getattr(recipe.data.split, split) for split in SPLITS}  # test first
    rng = random.Random(recipe.seed)
    both = {group: size for group, size in sizes.items() if group not in gold_only}
    tabled = {group: size for group, size in sizes.items() if group in gold_only}
    dealt = part(both, weights, rng) | part(tabled, weights | {POOL: 0.0}, rng)
    held = {split: weights[split] for split in GOLD}
    for group in {row.example.group for row in rows if row.by_hand}:
        if dealt.get(group, POOL) == POOL:
            dealt[group] = by_hash(group, held, recipe.seed)
    return dealt


def _place(rows: Iterable[_Row], split_of: Mapping[str, str], dropped: Counter[str], *, waiting: bool = False) -> Parts:
    """The rows by split; waiting: gold tables' rows without an answer stand in the pool, for people to be asked."""
    parts: Parts = {split: [] for split in SPLITS}
    for row in rows:
        split = split_of.get(row.example.group, POOL)
        if row.human and row.chosen and split in HELD_OUT:
            dropped[CHOSEN] += 1
        elif row.human:
            parts[split].append(row)
        elif row.left_out:
            dropped[row.left_out] += 1
        elif row.role == "gold" and not waiting:
            dropped["no human answer"] += 1
        elif split not in HELD_OUT:
            parts[POOL].append(row)
        elif row.role == "both":
            dropped["no human answer, group is held out"] += 1
        else:
            dropped["group is held out"] += 1
    return parts


def _without_duplicates(parts: Parts, recipe: Recipe, dropped: Counter[str], progress: Progress) -> Parts:
    ranked = {split: sorted(parts[split], key=lambda row: row.example.taught is None) for split in SPLITS}
    order = [(split, row) for split in SPLITS for row in ranked[split]]  # what was taught already costs nothing
    stands_for = dedupe.representatives(
        [row.text for _, row in order], threshold=recipe.data.near_duplicates, seed=recipe.seed, progress=progress
    )
    kept: Parts = {split: [] for split in SPLITS}
    overlap: list[tuple[_Row, _Row]] = []
    for number, (split, row) in enumerate(order):
        other_split, other = order[stands_for[number]]
        if other is row:
            kept[split].append(row)
            continue
        if split == POOL and other_split != POOL and other.role == "gold":
            overlap.append((row, other))
        differ = split != POOL and row.text == other.text and row.example.answer != other.example.answer
        dropped["duplicate with another human answer" if differ else f"duplicate of {other_split}"] += 1
    if overlap and recipe.data.overlap == "refuse":
        row, other = overlap[0]
        raise DataError(
            f"{len(overlap)} rows of the pool stand in a gold table too, the first is {row.example.id} "
            f"(the same text as {other.example.id}).",
            "Set data.overlap: drop to leave them out of the pool, or take them out of one of the tables.",
        )
    return kept


def _limited(parts: Parts, recipe: Recipe, dropped: Counter[str]) -> Parts:
    """Each split in the order of its ids, cut to a random choice of at most data.limit rows."""
    result: Parts = {}
    for split, rows in parts.items():
        rows = sorted(rows, key=lambda row: (row.table, row.example.id))
        limit = recipe.data.limit
        if limit is not None and len(rows) > limit:
            dropped[OVER] += len(rows) - limit
            chosen = random.Random(f"{recipe.seed} {split}").sample(range(len(rows)), limit)
            rows = [rows[place] for place in sorted(chosen)]
        result[split] = rows
    return result


def _only_asked(
    parts: Parts, everything: Sequence[_Row], listed: Asked, recipe: Recipe, dropped: Counter[str]
) -> list[_Row]:
    """Leave the rows that were asked in the pool, and return the others that may be.

    everything: the pool without a limit. Rows that were asked go before others where data.limit is less than the pool.
    """
    limited = parts[POOL]
    others = [row for row in parts[POOL] if row.example.id not in listed.lines]
    named = [row for row in everything if row.example.id in listed.lines]
    parts[POOL] = _limited({POOL: named}, recipe, Counter())[POOL]
    for reason, count in ((NOT_ASKED, len(others)), (OVER, len(limited) - len(others) - len(parts[POOL]))):
        if count:
            dropped[reason] += count
    return others


def _check(parts: Parts, rows_in: int, dropped: Mapping[str, int], *, told_apart: bool) -> None:
    reasons = "; ".join(f"{reason}: {count}" for reason, count in sorted(dropped.items())) or "none dropped"
    if not parts[TEST]:
        raise DataError(
            f"There are no human answers in test: {rows_in} rows came in ({reasons}).",
            "Give some by hand (data.gold: gold.jsonl, then: aasut gold RECIPE), or check label and data.split.test.",
        )
    if not parts[POOL]:
        raise DataError(
            f"The pool is empty: {rows_in} rows came in ({reasons}).",
            "Add a table with role: pool, or raise data.split.pool for tables with role: both.",
        )
    found = sorted({answer for split in GOLD for answer in _counted(parts[split], True)})
    if told_apart and len(found) == 1:
        raise DataError(
            f"All human answers are {found[0]!r}: nothing can be told apart.",
            "Add rows with other answers, or check label.column and label.ranges.",
        )


def _counted(rows: Iterable[_Row], labels: bool) -> dict[str, int]:
    """Human answers by label; all together where they are free text."""
    answers = [row.example.answer for row in rows if row.example.answer is not None]
    return dict(sorted(Counter(answers).items())) if labels else {"answers": len(answers)}


def _write(path: Path, rows: Iterable[_Row], *, answers: bool) -> None:
    partial = path.with_name(path.name + ".partial")
    with disk_errors(path):
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            for example in (row.example for row in rows):
                plain: dict[str, Any] = {"id": example.id, "group": example.group, "slots": dict(example.slots)}
                if answers:
                    plain["answer"] = example.answer
                elif example.taught is not None:
                    plain["taught"] = example.taught
                file.write(json.dumps(plain, ensure_ascii=False, sort_keys=True) + "\n")
        partial.replace(path)
