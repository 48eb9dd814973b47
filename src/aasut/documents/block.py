"""What a reader makes of a file: blocks of Markdown, one after another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class File:
    """A file to read: where it lies, its name in the corpus (unique, with `/`), and the number of its `documents`."""

    path: Path
    name: str
    source: int


@dataclass(frozen=True, slots=True)
class Block:
    """A heading, a paragraph, a list, a table or a piece of code, in Markdown, without line breaks at its ends.

    `level` is 1 to 6 for a heading, whose text comes without `#`, and 0 for all else. `page` counts from 1, None where
    a file has none. `record` names the record that it belongs to, None for the file as a whole.
    """

    text: str
    level: int = 0
    page: int | None = None
    record: str | None = None
