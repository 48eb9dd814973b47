"""Rows of a file of which nothing is known: its format, encoding, delimiter and header, and some or all of its rows.

A file of up to WHOLE bytes is read whole; of a larger one, rows from places spread over it.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from aasut.errors import DataError
from aasut.init import dialect
from aasut.sources import logs
from aasut.sources.rows import GZIP_MARK, RowFault

WHOLE = 48 << 20  # bytes
ROWS = 60_000  # at most
_PLACES = 16  # in a larger file
_PIECE = 1 << 21  # bytes read at each place
_FORMATS = {".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
_NO_TABLES = {
    b"PK\x03\x04": "a zip archive, as spreadsheets are",
    b"%PDF": "a PDF",
    b"SQLite format 3": "a SQLite database",
    b"\xd0\xcf\x11\xe0": "an old spreadsheet",
    b"\x28\xb5\x2f\xfd": "packed with zstd",
    b"BZh": "packed with bzip2",
    b"\xfd7zXZ": "packed with xz",
}


@dataclass(frozen=True)
class Sample:
    """`rows` by column, with the faults of the rows that could not be read; `whole` where these are all rows.

    `spread`: they come from all over the file, and not from its beginning. `total` is the number of
    rows in the file, estimated from their mean size where they are not all here. `columns` are None
    for JSON; `header` is False where they had to be made up.
    """

    kind: str
    rows: list[dict[str, Any]]
    total: int
    whole: bool
    spread: bool = True
    faults: Counter[str] = field(default_factory=Counter)
    encoding: str = "utf-8"
    delimiter: str = ","
    columns: tuple[str, ...] | None = None
    header: bool = True


@dataclass(frozen=True)
class _Bytes:
    """Stretches of a file; all but the first begin anywhere."""

    pieces: list[bytes]
    size: int
    whole: bool


def take(path: Path) -> Sample:
    """Look at a file. Raises DataError where it is missing, empty, or no table or log that can be read."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is not there"
        raise DataError(f"{path} {what}.", "Give a CSV, TSV, JSONL or Parquet file, or an export of chat requests.")
    try:
        with path.open("rb") as file:
            head = file.read(16)
        if head.startswith(b"PAR1"):
            return _parquet(path)
        strange = next((what for mark, what in _NO_TABLES.items() if head.startswith(mark)), None)
        if strange is not None:
            raise DataError(f"{path} is {strange}.", "Save or unpack it as CSV, TSV, JSONL or Parquet.")
        return _text(path, _read(path, whole=True))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", "Check the file and its permissions.") from None


def _read(path: Path, *, whole: bool) -> _Bytes:
    size = path.stat().st_size
    with path.open("rb") as file:
        packed = file.read(2) == GZIP_MARK
        file.seek(0)
        if packed:
            try:
                data = gzip.GzipFile(fileobj=file).read(WHOLE)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise DataError(f"{path} is a broken gzip file: {error}.", "Fetch or write it again.") from None
            # How much more there is, is not known without unpacking it.
            share = max(file.tell(), 1) / size
            return _Bytes([data], int(len(data) / min(share, 1)), len(data) < WHOLE)
        if whole and size <= WHOLE:
            return _Bytes([file.read()], size, True)
        pieces = []
        for place in range(_PLACES):
            file.seek(max(size - _PIECE, 0) * place // (_PLACES - 1))
            pieces.append(file.read(_PIECE))
        return _Bytes(pieces, size, False)


def _text(path: Path, data: _Bytes) -> Sample:
    if not data.pieces[0].strip():
        raise DataError(f"{path} is empty.", "Give a file with rows in it.")
    encoding = dialect.encoding(data.pieces, str(path))
    # Places within a file of two or four bytes a character are not told apart.
    pieces = data.pieces if encoding.startswith(("utf-8", "latin", "windows")) else data.pieces[:1]
    texts = [piece.decode("utf-8-sig" if encoding == "utf-8" else encoding, "surrogateescape") for piece in pieces]
    start = texts[0].lstrip()[:1]
    if start == "[":
        raise DataError(f"{path} is one JSON list.", f"Write one object a line, for example: jq -c '.[]' {path.name}")
    ending = Path(path.name.lower().removesuffix(".gz")).suffix
    kind = _FORMATS.get(ending, "jsonl" if start == "{" else "csv")
    if (kind == "jsonl") != (start == "{"):
        if kind == "jsonl":
            raise DataError(f"{path} does not hold one JSON object a line.", "Name a CSV file .csv, a TSV file .tsv.")
        kind = "jsonl" if ending not in (".csv", ".tsv", ".tab") else kind
    sample = _json(texts, data, encoding) if kind == "jsonl" else _delimited(texts, data, encoding, path, kind)
    if not sample.whole and data.whole and len(data.pieces[0]) > _PLACES * _PIECE // 4 and not _is_packed(path):
        return _text(path, _read(path, whole=False))  # too many rows: take them from all over the file
    return sample


def _is_packed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == GZIP_MARK


def _json(texts: Sequence[str], data: _Bytes, encoding: str) -> Sample:
    rows: list[dict[str, Any]] = []
    faults: Counter[str] = Counter()
    used, cut = 0, False
    most = ROWS // len(texts)
    for number, text in enumerate(texts):
        lines = text.split("\n")
        lines = lines[1 if number else 0 : None if data.whole or number == len(texts) - 1 else -1]
        cut = cut or len(lines) > most
        for line in lines[:most]:
            used += len(line) + 1
            if not line.strip():
                continue
            try:
                values = json.loads(line)
            except (ValueError, RecursionError):
                faults["JSON that does not parse"] += 1
                continue
            if isinstance(values, dict):
                rows.append(values)
            else:
                faults["not a JSON object"] += 1
    whole = data.whole and not cut
    kind = "chat" if _is_chat(rows[:50]) else "jsonl"
    total = _total(len(rows) + faults.total(), used, texts, data, whole)
    return Sample(kind, rows, total, whole, len(texts) > 1, faults, encoding)


def _is_chat(rows: Sequence[dict[str, Any]]) -> bool:
    """Are these requests, of whatever sort? Most must be; lines of other sorts may stand among them."""
    found = 0
    for row in rows:
        try:
            found += logs.answers_a_batch(row) or bool(logs.logged(row))
        except logs.UnknownShape:
            pass
        except RowFault:
            found += 1
    return bool(rows) and found * 2 > len(rows)


def _total(count: int, used: int, texts: Sequence[str], data: _Bytes, whole: bool) -> int:
    """Rows of the file. `used`: characters of the `count` rows."""
    if whole or not used:
        return count
    characters = sum(map(len, texts)) * data.size / sum(map(len, data.pieces))
    return max(int(count * characters / used), count)


def _delimited(texts: Sequence[str], data: _Bytes, encoding: str, path: Path, kind: str) -> Sample:
    found = dialect.delimiter(texts[0], kind, cut=len(texts) > 1 or not data.whole)
    rows: list[dict[str, Any]] = []
    faults: Counter[str] = Counter()
    columns: tuple[str, ...] = ()
    header, whole, used = True, data.whole, 0
    most = ROWS // len(texts)
    for number, text in enumerate(texts):
        fields, consumed, ended = _fields(text, found, most, len(columns) if number else 0)
        if number == 0:
            if not fields:
                raise DataError(f"{path} holds no rows.", "Give a file with rows in it.")
            columns, header = dialect.header([row for row in fields if row is not None])
            fields = fields[1:] if header else fields
        if not ended:
            whole = False
        elif not data.whole and number < len(texts) - 1:
            fields = fields[:-1]  # the last row of a piece is cut
        used += consumed
        for row in fields:
            if row is None:
                faults["quotes out of place"] += 1
            elif len(row) != len(columns):
                faults["wrong number of fields"] += 1
            else:
                rows.append(dict(zip(columns, row, strict=True)))
    if not rows and not faults:
        raise DataError(
            f"{path} holds a header ({', '.join(columns)[:100]}) but no rows.", "Give a file with rows in it."
        )
    total = _total(len(rows) + faults.total(), used, texts, data, whole)
    spread = len(texts) > 1
    return Sample(found.kind, rows, total, whole, spread, faults, encoding, found.delimiter, columns, header)


def _fields(text: str, found: dialect.Dialect, most: int, width: int) -> tuple[list[list[str] | None], int, bool]:
    """Rows of a text (None for one that cannot be read), the characters they took, and whether these are all.

    width: of a text that begins anywhere, the number of fields by which the start of a row is known.
    """
    if width:
        start = _first_row(text, found, width)
        if start < 0:
            return [], 0, True
        text = text[start:]
    rows: list[list[str] | None] = []
    stream = found.stream(text)
    doubtful = 5 if width else 0  # lines within a quoted text can look like rows
    for row in found.rows(stream):
        if row == [] or doubtful:
            doubtful -= row != []
            continue
        if len(rows) == most + 1:
            return rows[:-1], stream.tell(), False
        rows.append(row)
    return rows, len(text), True


def _first_row(text: str, found: dialect.Dialect, width: int) -> int:
    """Where the first whole row begins: from there on rows have the right number of fields. -1 where nowhere."""
    at = -1
    for _ in range(50):
        at = text.find("\n", at + 1)
        if at < 0:
            break
        stream = found.stream(text[at + 1 : at + 1 + (1 << 17)])
        rows = list(islice(found.rows(stream), 20))[:-1]
        right = [row is not None and len(row) == width for row in rows if row != []]
        if right and right[0] and sum(right) >= 0.9 * len(right):
            return at + 1
    return -1


def _parquet(path: Path) -> Sample:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = []
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            total, groups = file.metadata.num_rows, file.num_row_groups
            columns = tuple(file.schema_arrow.names)
            if not total:
                raise DataError(f"{path} holds no rows.", "Give a file with rows in it.")
            chosen = sorted({group * (groups - 1) // (_PLACES - 1) for group in range(_PLACES)})
            for group in chosen:
                before = len(rows)
                for batch in file.iter_batches(batch_size=512, row_groups=[group]):
                    with suppress(UnicodeDecodeError):
                        rows += batch.to_pylist()
                    if len(rows) - before >= ROWS // len(chosen):
                        break
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{path} is no readable Parquet file: {reason}.", "Write it again.") from None
    if _is_chat(rows[:50]):
        raise DataError(f"{path} holds chat requests as Parquet.", "Export them as JSON, one object a line.")
    return Sample("parquet", rows, total, len(rows) == total, len(chosen) > 3, columns=columns)
