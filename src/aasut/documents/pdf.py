"""PDF, page by page, with PDFium: text in lines; their sizes tell headings, their distances paragraphs."""

from __future__ import annotations

import ctypes
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from aasut.documents.block import Block
from aasut.documents.fault import Fault
from aasut.documents.opened import Opened, Wanted

SAMPLED = 24  # pages from which the size of the running text is told
LARGER = 1.12  # times the running text's size is a heading
EDGE = 2  # lines at a page's top and foot that may be its running head and foot
REPEATED = 0.4  # share of the pages on which a running head stands
HEADING = 200  # characters that a heading may have
COPY = 1 << 4  # bit 5 of a PDF's permissions: text may be copied (ISO 32000-1, table 22)
_LIST = re.compile(r"\s*([•‣▪◦●○–*-]|\(?\d{1,3}[.)]|\(?[a-z][.)])\s")
_LEADERS = re.compile(r"\s*(?:\.\s?){4,}\s*|\s*(?:\u2026\s?){3,}\s*")  # between a title and its page
_SECTION = re.compile(r"(\d+(?:\.\d+)+)\.? +[^\s\d].{0,100}[^.;,:…\s]")
_NUMBER = re.compile(r"[\dIVXLCivxlc]{1,6}|[\u0966-\u096f]{1,5}")
_SOFT = re.compile(r"(?<=\w)[\u00ad\u0002\ufffe]\s*")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a page; `size` of its letters and the places of its edges in points, y upwards."""

    text: str
    size: float
    left: float
    bottom: float
    top: float


def read(file: Opened, wanted: Wanted) -> Iterator[Block]:
    """Blocks of a PDF. Scripts and actions in it are never run, what is attached is not read.

    Raises Fault where it does not parse, wants a password, or forbids that its text is copied.
    """
    import pypdfium2
    from pypdfium2 import raw

    if file.path is None:
        file.stream.seek(0)
    try:
        document = pypdfium2.PdfDocument(file.path or file.stream.read())
        pages = len(document)
    except pypdfium2.PdfiumError as error:
        encrypted = "password" in str(error).lower() or "security" in str(error).lower()
        raise Fault("an encrypted PDF" if encrypted else "a PDF that cannot be parsed", str(error)) from None
    if not raw.FPDF_GetDocPermissions(document) & COPY:
        raise Fault("a PDF that forbids copying its text")
    looks = _Looks(document, pages)
    damaged = 0
    for number in range(pages):
        lines = _lines(document, number)
        if lines is None:
            damaged += 1
            continue
        yield from _blocks(looks.inner(lines), number + 1, looks)
    if damaged:
        raise Fault("a PDF with pages that cannot be parsed", f"{damaged:,} of {pages:,}")


def _lines(document: Any, number: int) -> list[Line] | None:
    """Lines of a page in the order of its text, None where it does not parse."""
    import pypdfium2
    from pypdfium2 import raw

    try:
        page = document[number]
        text = page.get_textpage()
    except pypdfium2.PdfiumError:
        return None
    try:
        count = text.count_chars()
        characters = [raw.FPDFText_GetUnicode(text, i) for i in range(count)]
        lines: list[Line] = []
        start = 0
        for i in range(count + 1):
            if i == count or characters[i] in (10, 13):
                if line := _line(raw, text, characters, start, i):
                    lines.append(line)
                start = i + 1
        return lines
    finally:
        text.close()
        page.close()


def _line(raw: Any, page: Any, characters: Sequence[int], start: int, end: int) -> Line | None:
    said = _joined(characters[start:end])
    inked = [i for i in range(start, end) if characters[i] > 32]
    if not said.strip() or not inked:
        return None
    edges = [ctypes.c_double() for _ in range(4)]  # left, right, bottom, top
    raw.FPDFText_GetCharBox(page, inked[0], *(ctypes.byref(edge) for edge in edges))
    box = raw.FS_RECTF()
    middle = inked[len(inked) // 2]
    raw.FPDFText_GetLooseCharBox(page, middle, ctypes.byref(box))
    size = abs(box.top - box.bottom)
    return Line(said, round(size * 2) / 2, edges[0].value, min(box.bottom, box.top), max(box.bottom, box.top))


def _joined(codes: Sequence[int]) -> str:
    """Characters of UTF-16 units; a half of a pair, which has no meaning, is left out."""
    packed = b"".join(code.to_bytes(2, "little") for code in codes if 0 < code < 1 << 16)
    return packed.decode("utf-16-le", "ignore").rstrip()


class _Looks:
    """What pages spread over the document tell: the size of running text, of headings, and what stands on each page."""

    def __init__(self, document: Any, pages: int) -> None:
        letters: Counter[float] = Counter()
        edges: Counter[str] = Counter()
        sampled = sorted({i * pages // SAMPLED for i in range(SAMPLED)} & set(range(pages)))
        for number in sampled:
            lines = _lines(document, number) or []
            for line in lines:
                letters[line.size] += len(line.text)
            edges.update({_digitless(line.text) for line in (*lines[:EDGE], *lines[-EDGE:])})
        self.running = max(letters, key=lambda size: (letters[size], size), default=0.0)
        self.larger = [size for size in letters if size >= self.running * LARGER]
        often = max(3, len(sampled) * REPEATED)
        self.repeated = {text for text, pages_with in edges.items() if pages_with >= often}

    def inner(self, lines: Sequence[Line]) -> Sequence[Line]:
        """A page's lines without its running head and foot, and its number."""
        return [
            line
            for place, line in enumerate(lines)
            if EDGE <= place < len(lines) - EDGE
            or len(lines) == 1
            or not (_digitless(line.text) in self.repeated or _NUMBER.fullmatch(line.text.strip()))
        ]

    def level(self, size: float) -> int:
        """Of a heading. A size that no sampled page had stands where it would stand among them."""
        return min(1 + sum(other > size for other in self.larger), 6)


def _digitless(text: str) -> str:
    return re.sub(r"\d+|\b[ivxlc]+\b|[/|–-]", "", text).strip()


def _blocks(lines: Sequence[Line], page: int, looks: _Looks) -> Iterator[Block]:
    """Headings and paragraphs of a page."""
    kept: list[Line] = []
    for line in lines:
        if kept and not _goes_on(kept[-1], line):
            yield _block(kept, page, looks)
            kept = []
        kept.append(line)
    if kept:
        yield _block(kept, page, looks)


def _goes_on(before: Line, line: Line) -> bool:
    """Does a line belong to the paragraph of the one before?"""
    height = max(before.top - before.bottom, 1.0)
    distance = before.bottom - line.bottom
    return (
        abs(before.size - line.size) < 1
        and -0.3 * height < distance < 1.6 * height
        and not _LIST.match(line.text)
        and not (line.left - before.left > 1.5 * height and before.text.rstrip().endswith((".", ":", "।")))
    )


def _block(lines: Sequence[Line], page: int, looks: _Looks) -> Block:
    said = _SOFT.sub("", "\n".join(_LEADERS.sub(" … ", line.text.strip()) for line in lines))
    size = lines[0].size
    if size >= looks.running * LARGER and len(said) <= HEADING and any(map(str.isalpha, said)):
        return Block(" ".join(said.split()), level=looks.level(size), page=page)
    if (numbered := _SECTION.fullmatch(said)) and " … " not in said:
        return Block(said, level=min(looks.level(looks.running) + numbered[1].count(".") - 1, 6), page=page)
    return Block(said, page=page)
