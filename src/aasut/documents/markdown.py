"""Markdown and plain text, streamed: lines become headings, paragraphs, lists, tables and code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TextIO

from aasut.documents.block import Block
from aasut.documents.encoding import text
from aasut.documents.opened import Opened, Wanted

LINE = 1 << 16  # characters of a line read at a time: a longer one comes in pieces
PARAGRAPH = 1 << 13  # characters from which a paragraph ends with its line
_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+|$)(.*?)(?:[ \t]+#+)?[ \t]*$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_UNDERLINE = re.compile(r" {0,3}(=+|-{2,})[ \t]*$")
_RULE = re.compile(r" {0,3}([-*_])([ \t]*\1){2,}[ \t]*$")
_FRONT = re.compile(r"title\s*:\s*(.+)", re.IGNORECASE)


def read(file: Opened, wanted: Wanted) -> Iterator[Block]:
    """Blocks of a Markdown file. Of its front matter, the title alone is kept."""
    with text(file, wanted.encoding) as lines:
        yield from blocks(_front(whole_lines(lines)))


def read_text(file: Opened, wanted: Wanted) -> Iterator[Block]:
    """Blocks of a plain text: what stands between empty lines, as it stands."""
    with text(file, wanted.encoding) as lines:
        paragraph: list[str] = []
        size = 0
        for line in whole_lines(lines):
            if line.strip():
                paragraph.append(line)
                size += len(line)
            if paragraph and (not line.strip() or size > PARAGRAPH):
                yield Block("\n".join(paragraph))
                paragraph, size = [], 0
        if paragraph:
            yield Block("\n".join(paragraph))


def whole_lines(stream: TextIO) -> Iterator[str]:
    """Lines without their ends; one that is longer than LINE comes as several."""
    while line := stream.readline(LINE):
        yield line.rstrip("\r\n")


def fenced(code: str) -> str:
    """Code between fences that do not stand in it."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`{3,}", code)), default=0))
    return f"{fence}\n{code}\n{fence}"


def blocks(lines: Iterable[str]) -> Iterator[Block]:
    """Headings (ATX and Setext), fenced code and, between empty lines, the rest."""
    kept: list[str] = []
    size = 0
    fence = ""
    for line in lines:
        if fence:
            kept.append(line)
            size += len(line)
            if line.strip() == fence or (line.strip().startswith(fence) and not line.strip().strip(fence[0])):
                fence = ""
                yield Block("\n".join(kept))
                kept, size = [], 0
            elif size > PARAGRAPH:
                yield Block("\n".join([*kept, fence]))
                kept, size = [fence], 0
            continue
        opens, heading = _FENCE.match(line), _HEADING.match(line)
        under = _UNDERLINE.match(line) if len(kept) == 1 else None
        ends = opens or heading or not line.strip() or size > PARAGRAPH
        if under and not kept[0].lstrip().startswith(("|", ">", "- ", "* ")):
            yield Block(kept[0].strip(), level=1 if under[1][0] == "=" else 2)
            kept, size = [], 0
            continue
        if ends and kept:
            yield Block("\n".join(kept))
            kept, size = [], 0
        if heading:
            if heading[2].strip():
                yield Block(heading[2].strip(), level=len(heading[1]))
        elif line.strip() and not (not kept and _RULE.match(line)):
            kept.append(line)
            size = len(line) + size
            fence = opens[1] if opens else ""
    if kept:
        yield Block("\n".join(kept))


def _front(lines: Iterator[str]) -> Iterator[str]:
    """The lines with YAML front matter replaced by its title, as a heading."""
    first = next(lines, None)
    if first is None:
        return
    if first.rstrip() != "---":
        yield first
        yield from lines
        return
    matter: list[str] = []
    for line in lines:
        if line.rstrip() in ("---", "..."):
            titles = [found[1].strip().strip("\"'") for entry in matter if (found := _FRONT.match(entry))]
            yield from (f"# {title}" for title in titles[:1])
            break
        matter.append(line)
        if len(matter) > 200:  # no front matter: a rule and a long text
            yield from matter
            break
    else:
        yield from matter
    yield from lines
