"""Rows of XML files: each element below the root is a row, its children are the columns by tag.

Several children of one tag are joined by a space. The column `*` is the element's whole text. Only
what stands in the file is read: entities and anything outside it are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.parsers import expat

from aasut.errors import DataError
from aasut.progress import Step
from aasut.recipe import Table
from aasut.sources.rows import Row

WHOLE = "*"
_BLOCK = 1 << 16


def rows(path: Path, name: str, table: Table, needed: Sequence[str], step: Step) -> Iterator[Row]:
    """See `sources.rows.rows`. A column that a row lacks is not in its values.

    Raises DataError where the file is no XML, or no row has a needed column.
    """
    reader = _Reader(name)
    seen: set[str] = set()
    with path.open("rb") as file:
        while True:
            block = file.read(_BLOCK)
            reader.feed(block)
            step.advance(len(block))
            for row in reader.rows:
                seen.update(row.values)
                yield row
            reader.rows.clear()
            if not block:
                break
    missing = [column for column in needed if column not in seen]
    if missing and seen:
        raise DataError(
            f"{name} has no element {missing[0]!r} in its rows.", f"There are: {', '.join(sorted(seen)[:30])}."
        )


class _Reader:
    """Collects finished rows in `rows` as blocks of bytes come in."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows: list[Row] = []
        self._depth = self._line = 0
        self._whole: list[str] = []
        self._parts: dict[str, list[str]] = {}
        self._column = ""
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._parser.EntityDeclHandler = self._entity

    def feed(self, block: bytes) -> None:
        try:
            self._parser.Parse(block, not block)
        except expat.ExpatError as error:
            reason = expat.ErrorString(error.code)
            raise DataError(
                f"{self.name}, line {error.lineno} is no XML: {reason}.", "Mend the file, or the table's format."
            ) from None

    def _start(self, tag: str, _attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth == 2:
            self._line, self._whole, self._parts = self._parser.CurrentLineNumber, [], {}
        elif self._depth == 3:
            self._column = tag
            self._parts.setdefault(tag, []).append("")

    def _end(self, _tag: str) -> None:
        if self._depth == 2:
            values = {tag: " ".join(texts) for tag, texts in self._parts.items()}
            self.rows.append(Row(self._line, {**values, WHOLE: "".join(self._whole)}))
        self._depth -= 1

    def _text(self, text: str) -> None:
        if self._depth >= 2:
            self._whole.append(text)
        if self._depth >= 3:
            self._parts[self._column][-1] += text

    def _entity(self, *_: object) -> None:
        raise DataError(f"{self.name} declares entities of its own.", "Write the text out: they are not followed.")
