"""One split, and what is written of it: a kind gets its chunks, and those like them, through the shelf of one split."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from aasut.errors import DataError
from aasut.recipe.field import Kind
from aasut.store import digest
from aasut.synthesize.item import Item, Split
from aasut.synthesize.quotes import sentences
from aasut.types import Chunk, Message

LOOKED_AT = 3  # chunks that a search finds, one of which may be the one that is searched from


class Found(Protocol):
    """What a search finds."""

    @property
    def chunk(self) -> Chunk:
        """The chunk."""


class Search(Protocol):
    """What `retrieval.index.Index` does: the `k` chunks that fit a query best, of documents that `keep` lets pass."""

    def search(self, query: str, k: int = 5, keep: Callable[[str], bool] | None = None) -> Sequence[Found]:
        """The best first."""


class Shelf:
    """The documents of one split, and what `teacher`, an identity, writes of their chunks; `parts`: document to split.

    `bound`: the teacher's engine follows the schema of each request, so that a quote can be bound to the sentences of
    its chunk; behind an API a schema of its own for each call costs too much.
    """

    def __init__(
        self,
        split: Split,
        parts: Mapping[str, Split],
        teacher: str,
        language: str | None = None,
        index: Search | None = None,
        bound: bool = False,
    ) -> None:
        self.split, self.teacher, self.bound = split, teacher, bound
        self._documents = frozenset(document for document, of in parts.items() if of == split)
        self._language, self._index = language, index

    def language(self, chunk: Chunk) -> str:
        """The language that is written in about a chunk."""
        return self._language or chunk.language

    def quotable(self, chunk: Chunk) -> list[str]:
        """The sentences that a quote is bound to; none where it is not."""
        return sentences(chunk.text) if self.bound else []

    def near(self, text: str, chunk: Chunk) -> Chunk | None:
        """The chunk of this split, other than `chunk`, that a search finds first for a text; None for none."""
        if self._index is None:
            return None
        hits = self._index.search(text, LOOKED_AT, self._documents.__contains__)
        return next((hit.chunk for hit in hits if hit.chunk.id != chunk.id), None)

    def item(
        self,
        kind: Kind,
        prompt: str,
        number: int,
        chunks: Sequence[Chunk],
        turns: Sequence[Message],
        evidence: Sequence[str] = (),
    ) -> Item:
        """What was written of chunks of this split, the `number`th by this prompt. Raises DataError for others."""
        strange = [chunk for chunk in chunks if chunk.span.document not in self._documents]
        if strange:
            raise DataError(
                f"The chunk {strange[0].id} is not of {self.split}: nothing may be written of it beside that split.",
                "This is a fault of aasut: please report it.",
            )
        spans = tuple(chunk.span for chunk in chunks)
        places = [[span.document, span.start, span.end] for span in spans]
        name = digest([kind, places, prompt, number])[:20]
        said, language = tuple(turns), self.language(chunks[0])
        return Item(name, kind, self.split, said, spans, prompt, self.teacher, tuple(evidence), language)


def slots_of(*chunks: Chunk) -> dict[str, str]:
    """What fills the slots `source` and `text` of a prompt: where chunks stand, for a reader, and what they say."""
    sources = [" › ".join((chunk.span.document, *chunk.span.headings)) for chunk in chunks]
    return {"source": "; ".join(sources), "text": "\n\n".join(chunk.text.strip() for chunk in chunks)}
