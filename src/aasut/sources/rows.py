"""Rows of CSV, TSV, JSONL, chat and Parquet files, one at a time, with their line numbers.

Bytes that the encoding does not know become lone surrogates (PEP 383), so that one bad row does
not end the reading; whoever uses a row looks for them.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TextIO

from aasut.errors import DataError, RecipeError
from aasut.progress import Step
from aasut.recipe import Table

LARGEST_FIELD = 1 << 26  # characters of one CSV field; beyond, its quote is taken to be unclosed
GZIP_MARK = b"\x1f\x8b"
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class RowFault(Exception):
    """One row cannot be used; the text is the reason by which it is counted."""


@dataclass(frozen=True, slots=True)
class Row:
    """Values by column, or the fault that keeps them from being read; `line` counts from 1."""

    line: int
    values: dict[str, Any] = field(default_factory=dict)
    fault: str = ""


def rows(kind: str, path: Path, name: str, table: Table, needed: Sequence[str], step: Step) -> Iterator[Row]:
    """Rows of a file of this kind (csv, tsv, jsonl, chat, parquet, xml); `step` advances by the bytes read.

    Raises DataError where a needed column is missing or the file as a whole is not of its kind.
    """
    if kind == "xml":
        from aasut.sources import xml_rows

        return xml_rows.rows(path, name, table, needed, step)
    return _READERS[kind](path, name, table, needed, step)


def _csv(path: Path, name: str, table: Table, needed: Sequence[str], step: Step) -> Iterator[Row]:
    limit = csv.field_size_limit(LARGEST_FIELD)
    try:
        with _text(path, name, table.encoding, step, newline="") as text:
            # strict: text after a closing quote is a fault of the row instead of a guess.
            lines = csv.reader(text, strict=True, delimiter=table.delimiter)
            columns = _given(name, table.columns, needed)
            while True:
                start = lines.line_num + 1
                try:
                    fields = next(lines, None)
                except csv.Error as error:
                    misplaced = "expected after" in str(error) or lines.line_num == start
                    if columns is None or not misplaced:
                        raise DataError(
                            f"{name}: a quote that opens in line {start} is never closed.",
                            "Close it; a quote inside a quoted field is written twice.",
                        ) from None
                    yield Row(start, fault="quotes out of place")
                    continue
                if fields is None:
                    return
                if not fields:
                    continue
                if columns is None:
                    columns = _header(name, fields, needed)
                else:
                    yield _fitted(start, fields, columns)
    finally:
        csv.field_size_limit(limit)


def _tsv(path: Path, name: str, table: Table, needed: Sequence[str], step: Step) -> Iterator[Row]:
    """No quoting: tabs part the fields, and the last column takes what is left of the line."""
    with _text(path, name, table.encoding, step, newline="\n") as text:
        columns = _given(name, table.columns, needed)
        for number, line in enumerate(text, 1):
            line = line.rstrip("\r\n")
            if not line:
                continue
            if columns is None:
                columns = _header(name, line.split("\t"), needed)
            else:
                yield _fitted(number, line.split("\t", len(columns) - 1), columns)


def _jsonl(path: Path, name: str, table: Table, needed: Sequence[str], step: Step) -> Iterator[Row]:
    """One object a line. A key that an object lacks is no value; one that all lack is a missing column."""
    present: dict[str, None] = {}
    with _text(path, name, table.encoding, step, newline="\n") as text:
        for number, line in enumerate(text, 1):
            if not line.strip():
                continue
            try:
                values = json.loads(line)
            except (ValueError, RecursionError):
                yield Row(number, fault="JSON that does not parse")
                continue
            if not isinstance(values, dict):
                yield Row(number, fault="not a JSON object")
                continue
            present.update(dict.fromkeys(values))
            yield Row(number, values)
    if present:
        _check_columns(name, list(present), needed)


def _parquet(path: Path, name: str, table: Table, needed: Sequence[str], step: Step) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _header(name, file.schema_arrow.names, needed)
            number, total = 0, max(file.metadata.num_rows, 1)
            for batch in file.iter_batches(batch_size=1024, columns=list(needed)):
                columns = [(column, _cells(batch.column(column))) for column in needed]
                for place in range(batch.num_rows):
                    number += 1
                    yield Row(number, {column: cells[place] for column, cells in columns})
                step.advance(step.total * number // total - step.done)
    except pa.ArrowException as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{name} is no readable Parquet file: {reason}.", "Write it again, or set format.") from None


def _cells(column: Any) -> list[Any]:
    """Values of an Arrow column; text is decoded here, since Arrow would stop at the first bad byte."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        texts = column.cast(pa.large_binary()).to_pylist()
        return [None if text is None else text.decode("utf-8", "surrogateescape") for text in texts]
    return list(column.to_pylist())


_READERS: dict[str, Callable[[Path, str, Table, Sequence[str], Step], Iterator[Row]]] = {
    "csv": _csv,
    "tsv": _tsv,
    "jsonl": _jsonl,
    "chat": _jsonl,
    "parquet": _parquet,
}


class _Watched(io.FileIO):
    """A file that tells a step how many bytes were read."""

    step: Step

    def readinto(self, buffer: Any) -> int | None:
        count = super().readinto(buffer)
        self.step.advance(count or 0)
        return count


class _Unpacked(io.RawIOBase):
    """What a gzip file holds. Raises DataError where it is broken or cut off."""

    def __init__(self, packed: IO[bytes], name: str) -> None:
        self.inner, self.name = gzip.GzipFile(fileobj=packed), name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            return self.inner.readinto(buffer)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(
                f"{self.name} is a broken gzip file: {error}.", "Fetch or write it again; it may have been cut off."
            ) from None


@contextmanager
def _text(path: Path, name: str, encoding: str, step: Step, *, newline: str) -> Iterator[TextIO]:
    """The file as text. Raises RecipeError for an unknown encoding, DataError for UTF-16 read as something else."""
    try:
        codec = codecs.lookup(encoding).name
        "".encode(codec)
    except (LookupError, ValueError):
        raise RecipeError(
            f"{name}: there is no text encoding {encoding!r}.", "Use for example utf-8 or latin-1."
        ) from None
    with _Watched(path) as raw:
        raw.step = step
        packed = io.BufferedReader(raw, 1 << 16)
        zipped = packed.peek(2)[:2] == GZIP_MARK
        buffered: Any = io.BufferedReader(_Unpacked(packed, name), 1 << 16) if zipped else packed
        head = buffered.peek(4096)[:4096]
        # A text may hold a zero; UTF-16 read as something else has one in every other byte, or in many.
        zeros = head.count(0) * 16 > len(head)
        if not codec.startswith(("utf-16", "utf-32")) and (head.startswith(_UTF16_MARKS) or zeros):
            raise DataError(
                f"{name} is not {encoding}: it holds many zero bytes or the mark of UTF-16.",
                "Set the table's encoding; try utf-16. If it is no text file, set its format.",
            )
        with io.TextIOWrapper(
            buffered, "utf-8-sig" if codec == "utf-8" else codec, errors="surrogateescape", newline=newline
        ) as text:
            yield text


def _given(name: str, columns: Sequence[str] | None, needed: Sequence[str]) -> Sequence[str] | None:
    return None if columns is None else _header(name, columns, needed)


def _header(name: str, columns: Sequence[str], needed: Sequence[str]) -> Sequence[str]:
    twice = next((column for column in columns if columns.count(column) > 1 and column in needed), None)
    if twice is not None:
        raise DataError(f"{name} has two columns called {twice!r}.", "Rename one of them.")
    _check_columns(name, columns, needed)
    return columns


def _check_columns(name: str, present: Sequence[str], needed: Sequence[str]) -> None:
    missing = [column for column in needed if column not in present]
    if missing:
        shown = _printable(", ".join(present[:20]) + (f" and {len(present) - 20} more" if len(present) > 20 else ""))
        raise DataError(
            f"{name} has no column {missing[0]!r}; it has {shown}.",
            "Mend the column's name in the recipe, or name the columns of a file without a header under columns.",
        )


def _printable(text: str) -> str:
    """Text for a message: undecodable bytes, which no terminal could print, become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _fitted(line: int, fields: Sequence[str], columns: Sequence[str]) -> Row:
    if len(fields) != len(columns):
        return Row(line, fault="wrong number of fields")
    return Row(line, dict(zip(columns, fields, strict=True)))
