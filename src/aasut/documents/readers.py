"""Formats and who reads them; what all blocks have in common."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from importlib import import_module

from aasut.documents.block import Block
from aasut.documents.fault import EMPTY, UNPACKED, Fault
from aasut.documents.opened import Opened, Wanted, opened
from aasut.documents.sniff import format_of

Reader = Callable[[Opened, Wanted], Iterator[Block]]
READERS = {
    "pdf": "aasut.documents.pdf:read",
    "docx": "aasut.documents.office:read_docx",
    "pptx": "aasut.documents.office:read_pptx",
    "xlsx": "aasut.documents.xlsx:read",
    "html": "aasut.documents.html:read",
    "markdown": "aasut.documents.markdown:read",
    "docbook": "aasut.documents.docbook:read",
    "csv": "aasut.documents.delimited:read_csv",
    "tsv": "aasut.documents.delimited:read_tsv",
    "json": "aasut.documents.json_text:read",
    "jsonl": "aasut.documents.json_text:read_lines",
    "text": "aasut.documents.markdown:read_text",
}
MATCHES = "aasut.documents.records:read_matches"
PACKED = ("pdf", "docx", "pptx", "xlsx")
LONGEST = 16_000  # characters of a block
LETTER = 64  # characters of a letter with its marks, at most
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufeff]")
_HALF = re.compile("[\ud800-\udfff]")


def read(path: str, wanted: Wanted, unpacked: int) -> Iterator[Block]:
    """Blocks of a file: without control characters, none empty, none longer than LONGEST.

    Raises Fault where it cannot be read, has no text, or gives more than `unpacked` bytes of text while packed.
    """
    with opened(path, unpacked) as file:
        kind = wanted.format if wanted.format != "auto" else format_of(file)
        if wanted.pattern is not None and kind not in ("text", "markdown"):
            raise Fault("records.pattern is for text", f"this is {kind}")
        reader = _reader(READERS[kind] if wanted.pattern is None else MATCHES)
        given = 0
        most = unpacked if file.packed or kind in PACKED else None
        for block in _clean(reader(file, wanted)):
            given += len(block.text)
            if most is not None and given > most:
                raise Fault(UNPACKED, "in text")
            yield block
        if not given:
            raise Fault(EMPTY)


def _reader(place: str) -> Reader:
    module, name = place.split(":")
    reader: Reader = getattr(import_module(module), name)
    return reader


def _clean(blocks: Iterator[Block]) -> Iterator[Block]:
    for block in blocks:
        text = _CONTROLS.sub("", block.text.replace("\r\n", "\n").replace("\r", "\n")).strip("\n")
        if _HALF.search(text) or (block.record is not None and _HALF.search(block.record)):
            raise Fault("half of a surrogate pair in it")
        if not text.strip():
            continue
        if len(text) <= LONGEST:
            yield Block(text, block.level, block.page, block.record)
            continue
        for piece in _cut(text):  # too long to be a heading
            yield Block(piece, 0, block.page, block.record)


def _cut(text: str) -> Iterator[str]:
    """Pieces of at most LONGEST characters: they end with a line, a sentence or a word, never within a letter."""
    start = 0
    while len(text) - start > LONGEST:
        end = start + LONGEST
        for found in ("\n", ". ", "। ", " "):
            place = text.rfind(found, start + LONGEST // 2, end)
            if place >= 0:
                end = place + len(found)
                break
        else:
            end = next((at for at in range(end, end - LETTER, -1) if not _belongs(text[at], text[at - 1])), end)
        if piece := text[start:end].strip("\n"):
            yield piece
        start = end
    if piece := text[start:].strip("\n"):
        yield piece


def _belongs(character: str, before: str) -> bool:
    """Is a character part of the letter before it? Marks are; and what a virama or a joiner ties to it."""
    return unicodedata.category(character)[0] == "M" or character == "\u200d" or before in "\u200d\u094d"
