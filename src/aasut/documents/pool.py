"""Reads files in this process: plain text, Markdown and CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TextIO

from aasut.documents.block import Block, File
from aasut.recipe.field import Documents, Reading

BATCH = 64


class Event(NamedTuple):
    """Blocks of a file in their order; the last one is `done`, with `fault` and `detail` where the file failed."""

    file: File
    blocks: list[Block]
    fault: str = ""
    done: bool = False
    detail: str = ""


def read(files: Sequence[File], sections: Sequence[Documents], reading: Reading) -> Iterator[Event]:
    """The blocks of all files, in the files' order."""
    for file in files:
        blocks: list[Block] = []
        try:
            with file.path.open(encoding="utf-8", newline="") as text:
                for block in (_rows if file.path.suffix == ".csv" else _paragraphs)(text):
                    blocks.append(block)
                    if len(blocks) == BATCH:
                        yield Event(file, blocks)
                        blocks = []
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            yield Event(file, [], "cannot be read", done=True, detail=str(error))
        else:
            yield Event(file, blocks, done=True)


def _paragraphs(text: TextIO) -> Iterator[Block]:
    lines: list[str] = []
    for line in text:
        heading = line.startswith("#")
        if (heading or not line.strip()) and lines:
            yield Block("".join(lines).strip("\n"))
            lines = []
        if heading:
            yield Block(line.lstrip("#").strip(), level=len(line) - len(line.lstrip("#")))
        elif line.strip():
            lines.append(line)
    if lines:
        yield Block("".join(lines).strip("\n"))


def _rows(text: TextIO) -> Iterator[Block]:
    for number, row in enumerate(csv.DictReader(text), 1):
        yield Block("\n".join(f"{name}: {value}" for name, value in row.items()), record=str(number))
