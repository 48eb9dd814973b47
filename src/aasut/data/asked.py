"""Which rows the teacher is asked: the file that `aasut label` writes to and the stage `data` reads.

JSON lines, one a row, each round added as a whole before its first question is put:

    {"id": "0:17", "slots": HASH, "round": 2, "arm": "chosen", "probability": 0.031, "seed": 7}

A line is bound to the row's text by a hash. `arm` is `random`, or `chosen` by what a model is unsure of and how rows
differ; `probability` is that with which the arm drew the row, given all that was drawn before (see acquire.py). What
was chosen is no fair sample of the inputs, so no such row ever serves as a human answer to evaluate by.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np

from aasut.data.acquire import Arm
from aasut.errors import DataError
from aasut.recipe import Recipe
from aasut.store import write_atomically
from aasut.types import Conservation

NO_ROW, CHANGED = "no such row in its table", "the row's text is another one now"
NOT_IN_POOL = "asked: not in the pool now"


@dataclass(frozen=True, slots=True)
class Line:
    """A row that was drawn to be asked."""

    id: str
    slots: str
    round: int
    arm: Arm
    probability: float
    seed: int


@dataclass(frozen=True)
class Asked:
    """What a file says of the rows: the lines that stand, by row, and why others do not."""

    lines: dict[str, Line] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def chosen(self) -> set[str]:
        """Ids of the rows that must not be evaluated on."""
        return {row for row, line in self.lines.items() if line.arm == "chosen"}

    def conservation(self, pool: Collection[str]) -> Conservation:
        """In rows that the file names; pool: ids of those that are used."""
        kept = sum(row in pool for row in self.lines)
        gone = {NOT_IN_POOL: len(self.lines) - kept} if kept < len(self.lines) else {}
        refused = dict(sorted(Counter(self.refused.values()).items()))
        return Conservation(len(self.lines) + len(self.refused), kept, gone, refused)


@dataclass(frozen=True)
class Weights:
    """What rows count for, by id; the variance of an estimated share p of the pool is about p(1 − p) · `variance`."""

    rows: dict[str, float]
    variance: float


def path_of(recipe: Recipe, base: Path) -> Path | None:
    """Where the recipe keeps what was asked, None where the whole pool is."""
    return None if recipe.data.asked is None else base / Path(recipe.data.asked).expanduser()


def whole(recipe: Recipe) -> Recipe:
    """The recipe with every row of the pool asked."""
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"asked": None})})


def settled(recipe: Recipe, base: Path, hash_of: Mapping[str, str]) -> Asked:
    """What the recipe's file says of the rows, whose hashes these are by id; nothing where there is no file yet.

    Raises DataError where it cannot be read, and where more than data.max_failed of its rows cannot be used.
    """
    path = path_of(recipe, base)
    if path is None:
        return Asked()
    found = Asked()
    for line in read(path):
        reason = NO_ROW if line.id not in hash_of else CHANGED if hash_of[line.id] != line.slots else ""
        if reason:
            found.refused[line.id] = reason
        else:
            found.lines.setdefault(line.id, line)
    total = len(found.lines) + len(found.refused)
    if len(found.refused) > recipe.data.max_failed * total:
        reasons = "; ".join(f"{reason}: {count}" for reason, count in Counter(found.refused.values()).most_common())
        raise DataError(
            f"{path}: {len(found.refused)} of {total} rows cannot be used ({reasons}, the first is "
            f"{next(iter(found.refused))}), more than data.max_failed ({recipe.data.max_failed:g}).",
            "Put the tables back as they were when the teacher was asked, or raise data.max_failed.",
        )
    return found


def read(path: Path) -> list[Line]:
    """All lines of a file, none where it is not there. Raises DataError for a line that is not one of ours."""
    try:
        content = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise DataError(f"{path} cannot be read: {reason}.", "Check the file and its permissions.") from None
    found = []
    for number, text in enumerate(content.split("\n"), 1):
        if not text.strip():
            continue
        line = _parse(text)
        if line is None:
            raise DataError(f"{path}, line {number}: this is no row that was asked.", "Mend the line or take it out.")
        found.append(line)
    return found


def add(path: Path, before: Sequence[Line], more: Iterable[Line]) -> None:
    """Write further lines so that a kill leaves all of them or none.

    Raises DataError where the file is not `before` any more.
    """
    if read(path) != list(before):
        raise DataError(f"{path} was changed by another process.", "Run the same command again.")
    lines = [json.dumps(asdict(line), ensure_ascii=False) for line in (*before, *more)]
    write_atomically(path, "\n".join(lines) + "\n")


def weigh(lines: Sequence[Line], others: int) -> Weights:
    """What each row counts for, so that sums over the rows that were asked estimate sums over the whole pool.

    others: rows of the pool that were not asked. A sample of n of the M rows that were left, all with one probability
    (a random arm; or rows chosen before any score was there), gives an estimate: what was asked before, plus M times
    its mean, whatever the choice hung on. These estimates are uncorrelated, and are averaged by their inverse variances
    (M / pool)² · (1 − n/M) / n (Cochran 1977, Sampling Techniques, 2.6), known beforehand. Rows that were drawn by
    score count as what was asked before: 1/π is so uneven over them that a few draws tell neither mean nor variance.
    The weights add up to the pool.
    """
    samples: dict[tuple[int, bool], list[int]] = {}
    for place, line in enumerate(lines):
        samples.setdefault((line.round, line.arm == "chosen"), []).append(place)
    probability = np.array([line.probability for line in lines])
    fair = {
        key for key, rows in samples.items() if not key[1] or (len(rows) > 1 and np.ptp(probability[rows]) < 1e-9)
    } or set(samples)
    pool, before = len(lines) + others, 0
    variances: dict[tuple[int, bool], float] = {}
    for key in sorted(samples):
        size, left = len(samples[key]), pool - before
        if key in fair:
            variances[key] = (left / pool) ** 2 * (1 - size / left) / size
        before += size
    exact = min(variances.values()) <= 0  # nothing was left out
    precision = {key: float(variance <= 0) if exact else 1 / variance for key, variance in variances.items()}
    total = sum(precision.values())
    result = np.zeros(len(lines))
    seen: list[int] = []
    for key in sorted(samples):
        share, rows = precision.get(key, 0.0) / total, samples[key]
        result[seen] += share
        result[rows] += share * (pool - len(seen)) / len(rows)
        seen += rows
    by_row = {line.id: float(weight) for line, weight in zip(lines, result, strict=True)}
    return Weights(by_row, 0.0 if exact else 1 / total)


def _parse(text: str) -> Line | None:
    try:
        plain: Any = json.loads(text)
        line = Line(**plain)
    except (ValueError, TypeError, RecursionError):
        return None
    numbers = (line.round, line.seed)
    good = (
        all(isinstance(one, str) and one for one in (line.id, line.slots))
        and all(isinstance(one, int) and not isinstance(one, bool) for one in numbers)
        and line.round >= 1
        and line.arm in get_args(Arm)
        and isinstance(line.probability, (int, float))
        and 0 < line.probability <= 1
    )
    return line if good else None
