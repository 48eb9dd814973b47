"""Tables in Markdown, cut into blocks that each repeat the header."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

LARGEST = 8000  # characters of a block, where a row or an item allows it
WIDEST = 64  # columns; of wider rows only the filled cells are told
_BREAKS = re.compile(r"\s*[\r\n]+\s*")


class Table:
    """Takes rows of cells, gives texts of blocks. The first row is the header."""

    def __init__(self) -> None:
        self.head = ""
        self.rows: list[str] = []
        self.size = 0

    def add(self, cells: Sequence[str]) -> Iterator[str]:
        """A row; gives a block where one is full."""
        if not any(cell.strip() for cell in cells):
            return
        if len(cells) > WIDEST:
            cells = [cell for cell in cells if cell.strip()]
        line = f"| {' | '.join(map(_cell, cells))} |"
        if not self.head:
            self.head = f"{line}\n|{' --- |' * len(cells)}"
            return
        if self.rows and self.size + len(line) > LARGEST:
            yield from self.rest(keep=True)
        self.rows.append(line)
        self.size += len(line) + 1

    def rest(self, keep: bool = False) -> Iterator[str]:
        """The rows that are left; `keep` the header for those that follow."""
        if self.head and (self.rows or not keep):
            yield "\n".join([self.head, *self.rows])
        self.rows, self.size = [], 0
        if not keep:
            self.head = ""


def _cell(text: str) -> str:
    return _BREAKS.sub(" ", text.strip()).replace("|", "\\|")
