"""Held-out sets as a recipe names them: evaluations that nothing made here may repeat.

Every entry counts: one that cannot be read would be one that is not looked for, so it stops the run.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aasut.errors import DataError
from aasut.files import digest, file_hash
from aasut.progress import Progress, Step
from aasut.recipe import Table
from aasut.recipe.field import HeldOut
from aasut.sources import rows

_KINDS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl"}
_UNDECODED = re.compile("[\ud800-\udfff]")
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a held-out set: the set's name, where in it the entry stands, and its texts, a column each."""

    set: str
    place: str
    texts: tuple[str, ...]


def read(sets: Sequence[HeldOut], base: Path, progress: Progress) -> list[Entry]:
    """The entries of all sets, in their order; entries without a text are left out. `base`: of relative paths.

    Raises DataError for a file that is missing, is not of its kind, has a row that cannot be read, or no text at all.
    """
    found: list[Entry] = []
    for wanted in sets:
        path = _path(wanted, base)
        with progress.steps("read held-out sets", path.stat().st_size) as step:
            entries = [entry for entry in _entries(wanted, path, step) if any(text.strip() for text in entry.texts)]
        if not entries:
            raise DataError(f"The held-out set {wanted.source} holds no text.", "Check the file and its columns.")
        found += entries
    return found


def identity(sets: Sequence[HeldOut], base: Path) -> str:
    """Hash of what is held out: the files' bytes and the columns that are compared. Raises DataError as `read` does."""
    return digest([[wanted.source, wanted.columns, file_hash(_path(wanted, base))] for wanted in sets])


def _path(wanted: HeldOut, base: Path) -> Path:
    path = base / wanted.source
    if not path.is_file():
        raise DataError(f"There is no held-out set {path}.", "Paths in held_out are relative to the recipe.")
    return path


def _entries(wanted: HeldOut, path: Path, step: Step) -> Iterator[Entry]:
    kind = _KINDS.get(Path(wanted.source.removesuffix(".gz")).suffix.lower())
    if kind is None:
        if wanted.columns:
            raise DataError(f"The held-out set {wanted.source} is plain text, which has no columns.", "Leave them out.")
        yield from _paragraphs(wanted, path, step)
        return
    table = Table.model_construct(source=wanted.source)
    for row in rows.rows(kind, path, wanted.source, table, wanted.columns, step):
        if row.fault:
            raise _unreadable(wanted, row.line, row.fault)
        columns = wanted.columns or list(row.values)
        texts = tuple(text for column in columns for text in _texts(row.values.get(column)))
        if any(_UNDECODED.search(text) for text in texts):
            raise _unreadable(wanted, row.line, "text that is no UTF-8")
        yield Entry(wanted.source, f"line {row.line}", texts)


def _texts(value: Any) -> Iterator[str]:
    """The texts in a cell, however deep they lie: a conversation is a list of objects."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _texts(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield str(value)


def _paragraphs(wanted: HeldOut, path: Path, step: Step) -> Iterator[Entry]:
    """Paragraphs: what stands between empty lines."""
    with path.open("rb") as file:
        if file.read(4)[:2] in _UTF16_MARKS:
            raise DataError(f"The held-out set {wanted.source} is UTF-16.", "Save it as UTF-8.")
    lines: list[str] = []
    first = 1
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as text:
        for number, line in enumerate(text, 1):
            step.advance(len(line.encode("utf-8", "surrogatepass")))
            if _UNDECODED.search(line):
                raise _unreadable(wanted, number, "text that is no UTF-8")
            if line.strip():
                first = number if not lines else first
                lines.append(line)
            elif lines:
                yield Entry(wanted.source, f"line {first}", ("".join(lines),))
                lines = []
    if lines:
        yield Entry(wanted.source, f"line {first}", ("".join(lines),))


def _unreadable(wanted: HeldOut, line: int, fault: str) -> DataError:
    return DataError(
        f"The held-out set {wanted.source}, line {line}: {fault}.",
        "Mend it: what is not read would not be looked for.",
    )
