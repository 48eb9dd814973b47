"""Records: rows, matches and objects that are documents of their own, as Markdown."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

from aasut.documents.block import Block
from aasut.documents.encoding import text
from aasut.documents.fault import Fault
from aasut.documents.opened import Opened, Wanted

WINDOW = 1 << 22  # characters searched at a time
MATCH = 1 << 20  # characters that a match may have
DEEPEST = 100  # values in one another
NAME = 120  # characters of a record's name


class Names:
    """Names of a file's records: their titles, numbered where a title is missing or has come before."""

    def __init__(self) -> None:
        self.number = 0
        self.seen: set[bytes] = set()  # digests: of a million titles, a hundred megabytes at most

    def name(self, title: str) -> str:
        """The next record's name."""
        self.number += 1
        said = " ".join(title.split())[:NAME]
        if not said:
            said = str(self.number)
        if not self._new(said):
            said = f"{said} ({self.number})"
            while not self._new(said):
                said += "'"
        return said

    def _new(self, name: str) -> bool:
        digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        if digest in self.seen:
            return False
        self.seen.add(digest)
        return True


def blocks(value: Any, wanted: Wanted, record: str | None) -> Iterator[Block]:
    """A record's title as a heading, and its fields: all of them, or those that `fields` name, in that order."""
    title = title_of(value, wanted)
    if title:
        yield Block(title, level=1, record=record)
    fields = wanted.fields
    if not fields:
        rest = {k: v for k, v in value.items() if k != wanted.title} if isinstance(value, Mapping) else value
        said = "\n".join(lines(rest))
    elif len(fields) == 1:
        said = "\n".join(lines(_at(value, fields[0].split("."))))
    else:
        chosen = ((path.rpartition(".")[2], _at(value, path.split("."))) for path in fields if path != wanted.title)
        said = "\n".join(line for name, found in chosen if filled(found) for line in lines({name: found}))
    if said.strip():
        yield Block(said, record=record)


def title_of(value: Any, wanted: Wanted) -> str:
    """The title field's text, "" where there is none."""
    return _said(value, wanted.title)


def name_of(value: Any, wanted: Wanted) -> str:
    """What names the record: its field `id`, or its title where none is declared."""
    return _said(value, wanted.id or wanted.title)


def _said(value: Any, field: str | None) -> str:
    """A field's text on one line, "" where it has none."""
    if field is None:
        return ""
    found = value.get(field) if isinstance(value, Mapping) else None
    found = _at(value, field.split(".")) if found is None else found
    return " ".join(_plain(found).split()) if filled(found) and not isinstance(found, Mapping | list) else ""


def lines(value: Any, depth: int = 0) -> Iterator[str]:
    """A value in Markdown: `name: value` a line, what lies deeper as lists."""
    if depth > DEEPEST:
        raise Fault("nested too deeply")
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if filled(inner):
                yield from _named(str(name), inner, depth)
    elif isinstance(value, list):
        for inner in value:
            if isinstance(inner, Mapping | list) and filled(inner):
                first, *rest = lines(inner, depth + 1)
                indent = "  " * depth
                yield f"{indent}- {first.strip().removeprefix('- ')}"
                yield from rest
            elif filled(inner):
                yield f"{'  ' * depth}- {_plain(inner)}"
    elif filled(value):
        yield _plain(value)


def _named(name: str, value: Any, depth: int) -> Iterator[str]:
    mark = "  " * depth + ("- " if depth else "")
    if isinstance(value, list) and not any(isinstance(inner, Mapping | list) for inner in value):
        yield f"{mark}{name}: {', '.join(_plain(inner) for inner in value if filled(inner))}"
    elif isinstance(value, Mapping | list):
        yield f"{mark}{name}:"
        yield from lines(value, depth + 1)
    else:
        yield f"{mark}{name}: {_plain(value)}"


def filled(value: Any) -> bool:
    """Is there something to say?"""
    if isinstance(value, Mapping):
        return any(map(filled, value.values()))
    if isinstance(value, list):
        return any(map(filled, value))
    return value is not None and str(value).strip() != ""


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value).strip()


def _at(value: Any, path: Sequence[str]) -> Any:
    """What lies at a dotted path; of a list, what lies there in each of its elements."""
    for place, key in enumerate(path):
        if isinstance(value, list):
            found = [_at(inner, path[place:]) for inner in value]
            return [inner for inner in found if inner is not None] or None
        if not isinstance(value, Mapping):
            return None
        whole = ".".join(path[place:])  # a column's name may have dots
        if whole in value:
            return value[whole]
        value = value.get(key)
    return value


def read_matches(file: Opened, wanted: Wanted) -> Iterator[Block]:
    """Each match of the pattern is a record. Raises Fault where there is none.

    The file is searched in windows that overlap, so that a match of at most MATCH characters is found wherever
    it stands.
    """
    pattern, names = re.compile(wanted.pattern or ""), Names()
    for name in (*wanted.fields, *filter(None, (wanted.title, wanted.id))):
        if name not in pattern.groupindex:
            raise Fault("records.fields, title or id names no group of records.pattern", name)
    with text(file, wanted.encoding) as stream:
        for found in _matches(pattern, stream):
            values = {name: value for name, value in found.groupdict().items() if value is not None}
            yield from blocks(values, wanted, names.name(name_of(values, wanted)))
    if not names.number:
        raise Fault("no match of records.pattern")


def _matches(pattern: re.Pattern[str], stream: TextIO) -> Iterator[re.Match[str]]:
    window, start = stream.read(WINDOW), 0
    while True:
        more = stream.read(WINDOW)
        sure = len(window) - MATCH if more else len(window)
        ahead = max(start, sure)
        while found := pattern.search(window, start):
            # A match that ends near the window's end may be another once more is seen.
            if more and found.end() > sure and found.end() - found.start() <= MATCH:
                ahead = found.start()
                break
            if found.end() > found.start():
                yield found
            ahead = start = max(found.end(), found.start() + 1)
            ahead = max(ahead, sure)
            if start > len(window):
                break
        if not more:
            return
        # One character before stays: `^` and look-behinds see what stood there.
        kept = max(min(ahead, len(window)) - 1, 0)
        window, start = window[kept:] + more, ahead - kept
