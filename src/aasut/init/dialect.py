"""How a text file writes its rows: encoding, delimiter, header. Each guess is tried on the rows before it is made."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aasut.errors import DataError
from aasut.sources.rows import LARGEST_FIELD

_DELIMITERS = (",", ";", "\t", "|")
_HEAD = 1 << 18  # characters that tell the delimiter
_NUMBER = re.compile(r"[+-]?[\d.,]*\d[\d.,]*(?:[eE][+-]?\d+)?%?")


@dataclass(frozen=True, slots=True)
class Dialect:
    """`kind` is csv, or tsv where nothing is quoted."""

    kind: str
    delimiter: str

    def stream(self, text: str) -> io.StringIO:
        """A text whose lines end where the reader of tables ends them."""
        return io.StringIO(text, newline="\n" if self.kind == "tsv" else "")

    def rows(self, stream: io.StringIO) -> Iterator[list[str] | None]:
        """Fields of the lines as the reader of tables parts them; None for a row with quotes out of place."""
        if self.kind == "tsv":
            for line in stream:
                yield line.rstrip("\r\n").split("\t") if line.strip("\r\n") else []
            return
        limit = csv.field_size_limit(LARGEST_FIELD)
        try:
            reader = csv.reader(stream, strict=True, delimiter=self.delimiter)
            while True:
                try:
                    yield next(reader)
                except StopIteration:
                    return
                except csv.Error:
                    yield None
        finally:
            csv.field_size_limit(limit)


def encoding(pieces: Sequence[bytes], name: str) -> str:
    """utf-8, utf-16, windows-1252 or latin-1: the first in which the bytes read well.

    Raises DataError for what is no text, or in none of these.
    """
    head = pieces[0]
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    zeros = head[:4096]
    if b"\0" in zeros:
        even, odd = zeros[::2].count(0), zeros[1::2].count(0)
        if min(even, odd) * 10 < max(even, odd) and max(even, odd) > len(zeros) / 8:
            return "utf-16-be" if even > odd else "utf-16-le"
        raise DataError(f"{name} is no text file: it holds zero bytes.", "Give a CSV, TSV, JSONL or Parquet file.")
    high = bad = marked = 0
    small = Counter[int]()
    for piece in pieces:
        if piece.isascii():
            small.update(piece[:4096])
            continue
        for line in piece.split(b"\n")[1 if piece is not head else 0 : -1] or [piece]:
            if line.isascii():
                continue
            marked += 1
            try:
                line.decode()
            except UnicodeDecodeError:
                bad += 1
                high += sum(byte > 127 for byte in line) * 4 > len(line)
        small.update(piece[:4096])
    if sum(small[byte] for byte in range(32) if byte not in (9, 10, 12, 13)) > 0.02 * max(small.total(), 1):
        raise DataError(f"{name} is no text file: it holds control characters.", "Give a CSV, JSONL or Parquet file.")
    if bad * 10 <= marked:
        return "utf-8"
    if high * 2 > bad:
        raise DataError(
            f"{name} is not UTF-8, and hardly in a Western encoding: its encoding cannot be told.",
            "Convert it, for example: iconv -f ENCODING -t UTF-8",
        )
    return _western(pieces)


def _western(pieces: Sequence[bytes]) -> str:
    """windows-1252 has letters and quotes where latin-1 has control characters."""
    if not any(0x80 <= byte <= 0x9F for piece in pieces for byte in set(piece)):
        return "latin-1"
    try:
        for piece in pieces:
            piece.decode("windows-1252")
    except UnicodeDecodeError:
        return "latin-1"
    return "windows-1252"


def delimiter(text: str, kind: str, *, cut: bool) -> Dialect:
    """What parts the fields: that by which most rows have as many fields as the first, and the more fields the better.

    cut: the text breaks off within a row.
    """
    head = text[:_HEAD]
    cut = cut or len(text) > _HEAD
    best, most = Dialect(kind, "\t" if kind == "tsv" else ","), (0.0, 0)
    for mark in ("\t",) if kind == "tsv" else _DELIMITERS:
        for candidate in (Dialect("csv", mark), *([Dialect("tsv", mark)] if mark == "\t" else [])):
            share, width = _fit(head, candidate, cut)
            score = (round(share, 1), width)
            # Where no field begins with a quote, none is quoted.
            plain = score == most and candidate.kind == "tsv" and not re.search(r'(?:^|[\t\n])"', head)
            if width > 1 and share >= 0.5 and (score > most or plain):
                best, most = candidate, score
    if most[1] > 1:
        return best
    # One column: a line is a value, whatever marks it holds.
    share, _ = _fit(head, Dialect("csv", ","), cut)
    return Dialect("csv", ",") if share > 0.98 else Dialect("tsv", "\t")


def _fit(text: str, dialect: Dialect, cut: bool) -> tuple[float, int]:
    """Share of the rows with as many fields as the first one has, and that number."""
    rows = [row for row in dialect.rows(dialect.stream(text)) if row != []]
    if cut and len(rows) > 1:
        del rows[-1]
    width = len(rows[0]) if rows and rows[0] is not None else 0
    fitting = sum(row is not None and len(row) == width for row in rows)
    return fitting / max(len(rows), 1), width


def header(rows: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], bool]:
    """The column names, and whether the first row states them.

    It does unless one of its cells is empty, a number or a long text, or is found again below it.
    """
    first = [cell.strip() for cell in rows[0]]
    below: list[set[str]] = [set() for _ in first]
    for row in rows[1:2000]:
        if len(row) == len(first):
            for cells, cell in zip(below, row, strict=True):
                cells.add(cell.strip())
    named = (
        len(set(first)) == len(first)
        and all(cell and len(cell) <= 60 and len(cell.split()) <= 6 and not _NUMBER.fullmatch(cell) for cell in first)
        and not any(cell in cells and len(cells) <= 200 for cell, cells in zip(first, below, strict=True))
    )
    if named:
        return tuple(rows[0]), True
    return tuple(f"column_{number}" for number in range(1, len(first) + 1)), False
