"""What train must not repeat: the recipe's held-out sets, the documents of tune and test, and what was made of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from aasut.data.decontaminate import Held
from aasut.data.held_out import Entry
from aasut.progress import Progress
from aasut.synthesize.item import Item, Split
from aasut.types import Chunk

DOCUMENTS, ITEMS = "documents", "items"
AT_ONCE = 512  # texts looked at together


class HeldTexts:
    """See `overlap.Held`. embedder, cosine: as for `data.decontaminate.Held`."""

    def __init__(
        self,
        sets: Iterable[Entry],
        chunks: Iterable[Chunk],
        parts: Mapping[str, Split],
        items: Iterable[Item],
        *,
        embedder: Any | None,
        cosine: float,
        progress: Progress,
    ) -> None:
        entries = (*sets, *of_documents(chunks, parts), *of_items(items))
        self.held = Held(entries, embedder=embedder, cosine=cosine, progress=progress)

    def find(self, texts: Sequence[str]) -> list[str]:
        """For each text what it repeats, how and where that stands; "" where it repeats nothing."""
        found: list[str] = []
        for start in range(0, len(texts), AT_ONCE):
            matches = self.held.find([[text] for text in texts[start : start + AT_ONCE]])
            found += ["" if one is None else f"{one.why}: {one.set}, {one.place}" for one in matches]
        return found


def of_documents(chunks: Iterable[Chunk], parts: Mapping[str, Split]) -> Iterator[Entry]:
    """The chunks of documents in tune and test. Each stands by its own text alone: together they are no entry."""
    for chunk in chunks:
        split = parts[chunk.span.document]
        if split != "train":
            yield Entry(f"{split} {DOCUMENTS}", chunk.id, (chunk.text,))


def of_items(items: Iterable[Item]) -> Iterator[Entry]:
    """Items of tune and test, by their questions; short answers may well be the same."""
    for item in items:
        if item.split != "train":
            yield Entry(f"{item.split} {ITEMS}", item.id, item.questions or (item.text,))
