"""CSV and TSV: a header, then a record a row."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence

from aasut.documents import records
from aasut.documents.block import Block
from aasut.documents.encoding import text
from aasut.documents.fault import Fault
from aasut.documents.opened import Opened, Wanted

LARGEST_FIELD = 1 << 24  # characters; beyond, a quote is taken to be unclosed
DELIMITERS = ",;\t|"


def read_csv(file: Opened, wanted: Wanted) -> Iterator[Block]:
    """Fields parted by commas, or by what parts the header: semicolons, tabs or bars."""
    with text(file, wanted.encoding, newline="") as stream:
        head = stream.readline(1 << 16)
    best = max(DELIMITERS, key=head.count)
    yield from _read(file, wanted, best if head.count(best) > 0 else ",", quoted=True)


def read_tsv(file: Opened, wanted: Wanted) -> Iterator[Block]:
    """Fields parted by tabs; quotes are characters like any other."""
    yield from _read(file, wanted, "\t", quoted=False)


def _read(file: Opened, wanted: Wanted, delimiter: str, *, quoted: bool) -> Iterator[Block]:
    csv.field_size_limit(LARGEST_FIELD)
    names = records.Names()
    columns: list[str] = []
    with text(file, wanted.encoding, newline="") as stream:
        rows = csv.reader(
            stream, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE, strict=quoted
        )
        line = 1
        try:
            for row in rows:
                if not any(field.strip() for field in row):
                    pass
                elif columns:
                    values = _values(columns, row)
                    yield from records.blocks(values, wanted, names.name(records.name_of(values, wanted)))
                else:
                    columns = _columns(row, wanted)
                line = rows.line_num + 1
        except csv.Error as error:
            closed = "expected after" in str(error) or "new-line" in str(error)
            reason = "quotes out of place" if closed else "a quote that is never closed"
            raise Fault(reason, f"from line {line:,}") from None


def _columns(row: Sequence[str], wanted: Wanted) -> list[str]:
    columns = [name.strip() for name in row]
    for name in (*wanted.fields, *([wanted.title] if wanted.title else [])):
        if name not in columns:
            raise Fault("a column that records.fields or title names is missing", name)
    return columns


def _values(columns: Sequence[str], row: Sequence[str]) -> dict[str, str]:
    """Values by column; a column without a name, or a field too many, goes by its number."""
    values: dict[str, str] = {}
    for number, field in enumerate(row):
        name = columns[number] if number < len(columns) else ""
        if not name or name in values:
            name = f"{name} {number + 1}".strip()
        values[name] = field
    return values
