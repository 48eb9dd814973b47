"""Chunks on disk, of which any one is read without the others."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from aasut.types import Chunk, Span

CHUNKS, PLACES = "chunks.jsonl", "places.npy"


def of(plain: Mapping[str, Any]) -> Chunk:
    """The chunk of plain data, as `dataclasses.asdict` makes it."""
    span = plain["span"]
    where = Span(span["document"], span["start"], span["end"], span["page"], tuple(span["headings"]))
    return Chunk(plain["id"], plain["text"], where, plain["language"])


def write(chunks: Iterable[Chunk], folder: Path) -> Iterator[Chunk]:
    """Write chunks to a folder as they pass; where each begins is written after the last."""
    places = [0]
    with (folder / CHUNKS).open("wb") as file:
        for chunk in chunks:
            places.append(places[-1] + file.write(json.dumps(asdict(chunk), ensure_ascii=False).encode() + b"\n"))
            yield chunk
    np.save(folder / PLACES, np.array(places, dtype=np.int64))


class Chunks(Sequence[Chunk]):
    """The chunks of a folder, by number; the file is mapped into memory, not read."""

    def __init__(self, folder: Path) -> None:
        self.places = np.load(folder / PLACES, mmap_mode="r")
        with (folder / CHUNKS).open("rb") as file:
            self.bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __len__(self) -> int:
        return len(self.places) - 1

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        number %= len(self)
        return of(json.loads(self.bytes[self.places[number] : self.places[number + 1]]))
