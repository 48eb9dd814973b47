"""JSON and JSON Lines. A list's elements are records and are read one at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TextIO

from aasut.documents import records
from aasut.documents.block import Block
from aasut.documents.encoding import text
from aasut.documents.fault import Fault
from aasut.documents.opened import Opened, Wanted

PIECE = 1 << 20  # characters read at a time
BLANK = " \t\r\n"
_DECODER = json.JSONDecoder()


def read_lines(file: Opened, wanted: Wanted) -> Iterator[Block]:
    """Each line is a record."""
    names = records.Names()
    with text(file, wanted.encoding, newline="\n") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                try:
                    value = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise Fault(*_reason(error, f"line {number:,}")) from None
                yield from records.blocks(value, wanted, names.name(records.name_of(value, wanted)))


def read(file: Opened, wanted: Wanted) -> Iterator[Block]:
    """An object is one document, each element of a list a record."""
    names = records.Names()
    with text(file, wanted.encoding) as stream:
        for value, element in _values(stream):
            if element:
                record: str | None = names.name(records.name_of(value, wanted))
            else:
                record = records.name_of(value, wanted) or None
            yield from records.blocks(value, wanted, record)


def _values(stream: TextIO) -> Iterator[tuple[Any, bool]]:
    """The file's value; or, of a list, each element (True)."""
    buffer = _Buffer(stream)
    if buffer.next() != "[":
        yield buffer.value(), False
    else:
        buffer.skip()
        while buffer.next() != "]":
            yield buffer.value(), True
            if buffer.next() == ",":
                buffer.skip()
                if buffer.next() == "]":
                    raise Fault("JSON that does not parse", "a comma before the end of the list")
            elif buffer.next() != "]":
                raise Fault("JSON that does not parse", "no comma between two elements")
        buffer.skip()
    if buffer.next():
        raise Fault("JSON that does not parse", "more than one value")


class _Buffer:
    """A window on a stream of JSON."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.held, self.place, self.piece = stream, "", 0, PIECE

    def next(self) -> str:
        """The next character that is not blank, "" at the end."""
        while True:
            while self.place < len(self.held) and self.held[self.place] in BLANK:
                self.place += 1
            if self.place < len(self.held):
                return self.held[self.place]
            if not self._more():
                return ""

    def skip(self) -> None:
        self.place += 1

    def value(self) -> Any:
        """The value that begins here; more is read, twice as much each time, until it is whole."""
        self.next()
        self.piece = PIECE
        while True:
            try:
                value, end = _DECODER.raw_decode(self.held, self.place)
            except (ValueError, RecursionError) as error:
                if isinstance(error, RecursionError) or not self._more():
                    raise Fault(*_reason(error)) from None
                continue
            # A number at the window's end may go on.
            if end == len(self.held) and self._more():
                continue
            self.place = end
            return value

    def _more(self) -> bool:
        read = self.stream.read(self.piece)
        self.held, self.place = self.held[self.place :] + read, 0
        self.piece *= 2
        return bool(read)


def _reason(error: Exception, place: str = "") -> tuple[str, str]:
    if isinstance(error, RecursionError):
        return "nested too deeply", place
    return "JSON that does not parse", f"{place} {error}".strip()[:200]
