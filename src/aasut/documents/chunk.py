"""Documents cut into chunks: pieces of Markdown that end where a section, a paragraph or a sentence does.

A document's text is its blocks with an empty line between them, and its chunks are that text, end to end: what stands
between two chunks belongs to the first. Sections that are small share a chunk with those that follow under the same
parent; sections that are large are cut into pieces of about the same size.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import groupby

import regex

from aasut.documents.block import Block
from aasut.documents.cut import Piece, cut
from aasut.types import Chunk, Span

BETWEEN = "\n\n"
Path = tuple[str, ...]
_LETTERS = regex.compile(r"\p{L}")


def chunks(document: str, blocks: Iterable[Block], most: int) -> Iterator[Chunk]:
    """The chunks of one document, of at most `most` characters each; no more than two of them are held at a time.

    A chunk's headings are those that all of it lies under, its page is that of its first block.
    """
    cutter = Chunker(document, most)
    for block in blocks:
        yield from cutter.add(block)
    yield from cutter.end()


def letters(text: str) -> int:
    """How many letters a text has, of any script."""
    return sum(1 for _ in _LETTERS.finditer(text))


class _Pieces:
    """Pieces that stand one after another; `first` is the path of the first, and `bare` tells that all are headings."""

    def __init__(self, pieces: Sequence[Piece] = ()) -> None:
        self.pieces = list(pieces)
        self.size = sum(len(piece.text) for piece in pieces)

    def __iadd__(self, other: _Pieces) -> _Pieces:
        self.pieces += other.pieces
        self.size += other.size
        return self

    @property
    def first(self) -> Path:
        return self.pieces[0].path

    @property
    def bare(self) -> bool:
        return all(piece.heading for piece in self.pieces)


class Chunker:
    """Takes a document's blocks one at a time, and gives its chunks as they are complete."""

    def __init__(self, document: str, most: int) -> None:
        self.document, self.most = document, most
        self.characters = self.number = 0
        self.above: list[tuple[int, str]] = []  # level and text of the headings above
        self.held: Block | None = None  # what stands after it is known with the next block only
        self.ready = _Pieces()  # sections that may share their chunk with the next
        self.section = _Pieces()  # the section that is being read

    def add(self, block: Block) -> Iterator[Chunk]:
        """The chunks that are complete with this block."""
        if not block.text.strip():
            return
        held, self.held = self.held, block
        if held is not None:
            yield from self._take(held, BETWEEN)

    def end(self) -> Iterator[Chunk]:
        """The last chunks."""
        if self.held is not None:
            held, self.held = self.held, None
            yield from self._take(held, "")
        yield from self._close()
        yield from self._emit(self.ready)

    def _take(self, block: Block, after: str) -> Iterator[Chunk]:
        text = block.text
        if block.level:
            yield from self._close()
            self.above = [above for above in self.above if above[0] < block.level] + [(block.level, text)]
            text = f"{'#' * block.level} {text}"
        path = tuple(
            heading for heading, _ in groupby(heading for _, heading in self.above)
        )  # a page's title comes twice
        self.section += _Pieces([Piece(text + after, block.page, path, heading=bool(block.level))])
        if self.section.size > 2 * self.most:
            yield from self._overflow()

    def _close(self) -> Iterator[Chunk]:
        """The section is read: it joins those that are ready, or they make a chunk and it takes their place."""
        section, self.section = self.section, _Pieces()
        if not section.pieces:
            return
        if (self._joins(section) and self.ready.size + section.size <= self.most) or self._leads(section):
            self.ready += section
        else:
            yield from self._emit(self.ready)
            self.ready = section
        if self.ready.size > self.most:
            yield from self._emit(self.ready)
            self.ready = _Pieces()

    def _overflow(self) -> Iterator[Chunk]:
        """The first chunks of a section whose end is not in sight."""
        if self._leads(self.section):
            self.ready += self.section
            self.section = self.ready
        else:
            yield from self._emit(self.ready)
        self.ready = _Pieces()
        rest = yield from self._cut(self.section, keep=2 * self.most)
        self.section = _Pieces(rest)

    def _joins(self, section: _Pieces) -> bool:
        """Does a section come under the parent of the first one that is ready?"""
        if not self.ready.pieces:
            return False
        first = self.ready.first
        return len(section.first) >= len(first) and section.first[: len(first) - 1] == first[:-1]

    def _leads(self, section: _Pieces) -> bool:
        """Is all that is ready headings, which must not part from the section below them?"""
        return self._joins(section) and self.ready.bare

    def _emit(self, pieces: _Pieces) -> Iterator[Chunk]:
        yield from self._cut(pieces, keep=0)

    def _cut(self, pieces: _Pieces, keep: int) -> Generator[Chunk, None, list[Piece]]:
        groups = cut(pieces.pieces, self.most, keep)
        while True:
            try:
                group = next(groups)
            except StopIteration as stop:
                rest: list[Piece] = stop.value
                return rest
            yield self._chunk(group)

    def _chunk(self, pieces: Sequence[Piece]) -> Chunk:
        text = "".join(piece.text for piece in pieces)
        self.number += 1
        start, self.characters = self.characters, self.characters + len(text)
        paths = [piece.path for piece in pieces if not piece.heading] or [pieces[-1].path]
        span = Span(self.document, start, self.characters, pieces[0].page, _common(paths))
        return Chunk(f"{self.document}:{self.number}", text, span)


def _common(paths: Sequence[Path]) -> Path:
    """The headings that all paths begin with."""
    shortest, longest = min(paths), max(paths)  # in the order of their texts, so that all others lie between them
    same = next((n for n, (one, other) in enumerate(zip(shortest, longest, strict=False)) if one != other), None)
    return shortest[:same]
