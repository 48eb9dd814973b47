"""Human answers given by hand: the file that `aasut gold` appends to and the stage `data` reads.

JSON lines, each what one person said of one row, never changed once written: an answer taken back
is a further line. A line is bound to the row's text by a hash, so that an answer never passes to
another text.

    {"id": "0:17", "slots": HASH, "answer": "positive", "by": "ann", "at": TIME, "round": "first", "seconds": 4.2}

Instead of `answer` there may be `skip` or `unusable` (the reason) or `undo`. A row's group is dealt
to a split by a hash of the seed and its name alone (see deal.py), so that no further answer moves an
earlier one.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

from aasut.errors import DataError
from aasut.recipe import Recipe
from aasut.store import digest, disk_errors
from aasut.tasks import Task
from aasut.types import Conservation, Example

Kind = Literal["answer", "skip", "unusable", "undo"]
Round = Literal["first", "second", "adjudicated"]

DISAGREE, NOT_USABLE = "gold: raters disagree, not adjudicated", "gold: not usable"
SKIPPED, TAKEN_BACK = "gold: skipped", "gold: taken back"
CHOSEN = "gold: chosen for labelling, never evaluated on"
NO_ROW, CHANGED = "no such row without an answer in its table", "the row's text is another one now"
NO_ANSWER = "not an answer of the task"


@dataclass(frozen=True, slots=True)
class Line:
    """What one person said of a row. `text` is the answer, or the reason; `at` is UTC in ISO 8601."""

    id: str
    slots: str
    kind: Kind
    text: str
    by: str
    at: str
    round: Round = "first"
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        said = {"id": self.id, "slots": self.slots, self.kind: self.text}
        return said | {"by": self.by, "at": self.at, "round": self.round, "seconds": self.seconds}


@dataclass(frozen=True)
class Gold:
    """What a file says of the rows: the answer by row, or why a row has none, by row."""

    answers: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    refused_lines: dict[str, int] = field(default_factory=dict)

    def conservation(self) -> Conservation:
        """In rows that the file names."""
        total = len(self.answers) + len(self.left_out) + len(self.refused)
        return Conservation(total, len(self.answers), _counted(self.left_out), _counted(self.refused))


def path_of(recipe: Recipe, base: Path) -> Path | None:
    """Where the recipe keeps answers given by hand, None where it does not say."""
    return None if recipe.data.gold is None else base / Path(recipe.data.gold).expanduser()


def slots_hash(slots: Mapping[str, str], names: Sequence[str]) -> str:
    """Hash of the text that a person sees of a row."""
    return digest({name: slots[name] for name in names})[:16]


def hashes(rows: Iterable[Example], task: Task) -> dict[str, str]:
    """`slots_hash` of each row, by id."""
    return {row.id: slots_hash(row.slots, task.prompt.slots) for row in rows}


def settled(recipe: Recipe, base: Path, open_rows: Iterable[Example], chosen: Collection[str] = ()) -> Gold:
    """What the recipe's file says of the rows that have no answer in their table; of those `chosen`, nothing counts.

    Raises DataError where the file is not there or cannot be read, and where more than
    data.max_failed of its rows cannot be used.
    """
    path = path_of(recipe, base)
    if path is None:
        return Gold()
    if not path.exists():
        raise DataError(f"There are no answers in {path}, which data.gold names.", "Give some with: aasut gold RECIPE.")
    task = recipe.task.build()
    by_row, refused, refused_lines = standing(read(path), hashes(open_rows, task), task)
    answers: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for row_id, lines in by_row.items():
        answer, reason = settle(lines)
        if row_id in chosen:
            left_out[row_id] = CHOSEN
        elif answer is None:
            left_out[row_id] = reason
        else:
            answers[row_id] = answer
    found = Gold(answers, left_out, refused, refused_lines)
    rows = found.conservation()
    if len(refused) > recipe.data.max_failed * rows.rows_in:
        reasons = "; ".join(f"{reason}: {count}" for reason, count in rows.failed.items())
        raise DataError(
            f"{path}: {len(refused)} of {rows.rows_in} rows cannot be used ({reasons}, the first is "
            f"{next(iter(refused))}), more than data.max_failed ({recipe.data.max_failed:g}).",
            "Put the tables back as they were when the answers were given, or raise data.max_failed.",
        )
    return found


def standing(
    lines: Iterable[Line], hash_of: Mapping[str, str], task: Task
) -> tuple[dict[str, list[Line]], dict[str, str], dict[str, int]]:
    """The lines that stand, by row: of each person the latest that was not taken back, answers in canonical form.

    hash_of: the hash of each row that may be answered. A row whose lines were all taken back has an
    empty list. Also: rows of which no line can be used, with the reason; and lines that cannot be
    used, counted by reason.
    """
    rows: dict[str, dict[tuple[str, bool], Line]] = {}
    refused: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for line in lines:
        reason = NO_ROW if line.id not in hash_of else CHANGED if hash_of[line.id] != line.slots else ""
        answer = line.text if line.kind != "answer" or reason else task.canonical(line.text)
        if answer is None:
            reason = NO_ANSWER
        if reason or answer is None:
            refused[line.id] = reason
            counts[reason] += 1
            continue
        of_row = rows.setdefault(line.id, {})
        place = (line.by, line.round == "adjudicated")
        of_row.pop(place, None)  # the latest stands last
        if line.kind != "undo":
            of_row[place] = line if answer == line.text else _with_text(line, answer)
    found = {row_id: list(of_row.values()) for row_id, of_row in rows.items()}
    return found, {row_id: why for row_id, why in refused.items() if row_id not in found}, dict(counts)


def settle(lines: Sequence[Line]) -> tuple[str | None, str]:
    """The human answer of a row and "", or None and why there is none. `lines` are those that stand."""
    if not lines:
        return None, TAKEN_BACK
    decided = [line for line in lines if line.round == "adjudicated" and line.kind != "skip"]
    opinions = {(line.kind, line.text) for line in decided[-1:]} or opinions_of(lines)
    if len(opinions) > 1:
        return None, DISAGREE
    for kind, text in opinions:
        return (text, "") if kind == "answer" else (None, NOT_USABLE)
    return None, SKIPPED


def opinions_of(lines: Iterable[Line]) -> set[tuple[str, str]]:
    """What raters say of a row: their answers, or that it is not usable; why it is not does not matter."""
    said = [line for line in lines if line.round != "adjudicated" and line.kind in ("answer", "unusable")]
    return {(line.kind, line.text if line.kind == "answer" else "") for line in said}


def read(path: Path) -> list[Line]:
    """All lines of a file; one that a kill cut off, at the end, was never acknowledged and is left out.

    Raises DataError for a line that is not one of ours.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", "Check the file and its permissions.") from None
    whole, _, torn = content.rpartition(b"\n")
    lines = whole.split(b"\n") if whole else []
    if torn and _parse(torn) is not None:
        lines.append(torn)
    found = []
    for number, raw in enumerate(lines, 1):
        if not raw.strip():
            continue
        line = _parse(raw)
        if line is None:
            raise DataError(f"{path}, line {number}: this is no answer given by hand.", "Mend the line or take it out.")
        found.append(line)
    return found


def append(path: Path, line: Line) -> None:
    """Write a line so that it is on the disk when this returns; what a kill cut off before is removed."""
    with disk_errors(path), path.open("ab+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        _mend_tail(file)
        text = json.dumps(line.as_dict(), ensure_ascii=False)
        file.write(text.encode("utf-8") + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _mend_tail(file: BinaryIO) -> None:
    """Cut off a last line that is not whole; give one that only lacks its end the end."""
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        return
    file.seek(size - 1)
    if file.read(1) == b"\n":
        return
    file.seek(0)
    torn = file.read().rpartition(b"\n")[2]
    if _parse(torn) is None:
        file.truncate(size - len(torn))
    else:
        file.write(b"\n")


def _parse(raw: bytes) -> Line | None:
    try:
        plain = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(plain, dict):
        return None
    kinds = [kind for kind in get_args(Kind) if kind in plain]
    row_id, slots, by, at = (plain.get(key, "") for key in ("id", "slots", "by", "at"))
    seconds = plain.get("seconds", 0.0)
    good = (
        len(kinds) == 1
        and isinstance(plain[kinds[0]], str)
        and all(isinstance(text, str) and text for text in (row_id, slots, by, at))
        and plain.get("round", "first") in get_args(Round)
        and isinstance(seconds, (int, float))
    )
    if not good:
        return None
    return Line(row_id, slots, kinds[0], plain[kinds[0]], by, at, plain.get("round", "first"), float(seconds))


def _with_text(line: Line, text: str) -> Line:
    return Line(line.id, line.slots, line.kind, text, line.by, line.at, line.round, line.seconds)


def _counted(reasons: Mapping[str, str]) -> dict[str, int]:
    return dict(sorted(Counter(reasons.values()).items()))
