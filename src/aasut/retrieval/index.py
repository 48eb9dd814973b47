"""An index over chunks on disk: which of them a question is about.

Words are weighed by BM25 (Robertson and Zaragoza 2009; the bm25s package, which keeps the scores of each word, Lù
2024), without stems or stop words, so that no language is favoured. Where a model of sentences is at hand, the cosine
of embeddings ranks too, and the two ranks are fused: 1 / (60 + rank), summed (Cormack, Clarke and Büttcher 2009).

    <folder>/index.json       what it is of; written last
    <folder>/chunks.jsonl     the chunks, and places.npy, where each begins
    <folder>/documents.json   ids of the documents; owners.npy: the number of each chunk's
    <folder>/words/           bm25s's own files
    <folder>/vectors.f16      float16 [chunks, width], where there is a model
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aasut import words
from aasut.errors import DataError, StoreError
from aasut.files import disk_errors, write_atomically
from aasut.progress import Progress, Step
from aasut.retrieval.chunks import Chunks, write
from aasut.types import Chunk, Conservation

FORMAT = 1
FUSION = 60  # of reciprocal rank fusion, as its authors set it
DEPTH = 100  # ranks of each part that are fused, at least
_AT_ONCE = 1024  # chunks embedded at once
_ROWS = 1 << 16  # vectors compared at once
_NO_WORDS = "no words"

Keep = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that a search found. `ranks`: its place, from 1, by `words` and by `meaning`, where it has one."""

    chunk: Chunk
    score: float
    ranks: Mapping[str, int]

    @property
    def citation(self) -> str:
        """Where a reader finds it: file (and record), page, headings."""
        span = self.chunk.span
        page = "" if span.page is None else f", page {span.page}"
        return span.document + page + (f", {' › '.join(span.headings)}" if span.headings else "")


def documents_of(parts: Mapping[str, str], *splits: str) -> Keep:
    """For `Index.search`: documents of these splits alone, so that nothing else is seen. parts: document to split."""
    return lambda document: parts.get(document) in splits


def build(
    chunks: Iterable[Chunk], folder: Path, embedder: Any | None = None, *, count: int = 0, progress: Progress
) -> dict[str, Any]:
    """Index the chunks that have words; returns facts. `embedder`: an engine.embed.Embedder. `count`: of the chunks,
    for the progress alone.

    Raises DataError where there is nothing to index.
    """
    tally = _Tally()
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "index.json").unlink(missing_ok=True)
        written = write(tally.of(chunks), folder)
        with progress.steps("index chunks", count) as step:
            width = _embed(written, folder, embedder, step)
        if not tally.rows:
            raise DataError("There is nothing to search: no chunk has a word.", "Check the documents.")
        tally.save(folder)
        facts = {
            "chunks": len(tally.rows),
            "documents": len(tally.documents),
            "words": len(tally.vocabulary),
            "width": width,
        }
        write_atomically(folder / "index.json", json.dumps({"format": FORMAT, **facts}))
    dropped = {_NO_WORDS: tally.empty} if tally.empty else {}
    kept = Conservation(len(tally.rows) + tally.empty, len(tally.rows), dropped)
    return {**facts, "conservation": {"index": kept}}


class _Tally:
    """Words and documents by number, of the chunks that passed."""

    def __init__(self) -> None:
        self.vocabulary: dict[str, int] = {}
        self.documents: dict[str, int] = {}
        self.owners: list[int] = []
        self.rows: list[list[int]] = []  # numbers of each chunk's words
        self.empty = 0

    def of(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """The chunks with words, each counted as it passes."""
        for chunk in chunks:
            found = words.words(_read(chunk))
            if not found:
                self.empty += 1
                continue
            self.rows.append([self.vocabulary.setdefault(word, len(self.vocabulary)) for word in found])
            self.owners.append(self.documents.setdefault(chunk.span.document, len(self.documents)))
            yield chunk

    def save(self, folder: Path) -> None:
        import bm25s

        model = bm25s.BM25()
        tokenized = bm25s.tokenization.Tokenized(ids=self.rows, vocab=self.vocabulary)
        model.index(tokenized, create_empty_token=False, show_progress=False)
        shutil.rmtree(folder / "words", ignore_errors=True)
        model.save(folder / "words", show_progress=False)
        np.save(folder / "owners.npy", np.array(self.owners, dtype=np.int32))
        (folder / "documents.json").write_text(json.dumps(list(self.documents), ensure_ascii=False), encoding="utf-8")


def _embed(chunks: Iterator[Chunk], folder: Path, embedder: Any | None, step: Step) -> int:
    """Write the vectors of the chunks that pass; returns their width, 0 for none."""
    vectors = folder / "vectors.f16"
    vectors.unlink(missing_ok=True)
    if embedder is None:
        for _ in chunks:
            step.advance()
        return 0
    with vectors.open("wb") as file:
        texts: list[str] = []
        for chunk in chunks:
            texts.append(_read(chunk))
            if len(texts) == _AT_ONCE:
                file.write(embedder.embed(texts).astype(np.float16).tobytes())
                step.advance(len(texts))
                texts = []
        file.write(embedder.embed(texts).astype(np.float16).tobytes())
        step.advance(len(texts))
    return int(embedder.width)


def _read(chunk: Chunk) -> str:
    """What is compared with a question: the headings above a chunk say what it is about, often better than itself."""
    return "\n".join([*chunk.span.headings, chunk.text])


class Index:
    """A finished index. Its files are mapped into memory; what a search touches is read."""

    def __init__(self, folder: Path, embedder: Any | None) -> None:
        import bm25s

        self.embedder = embedder
        self.chunks = Chunks(folder)
        self.owners = np.load(folder / "owners.npy", mmap_mode="r")
        self.documents: list[str] = json.loads((folder / "documents.json").read_text(encoding="utf-8"))
        self.words = bm25s.BM25.load(folder / "words", mmap=True, show_progress=False)
        if embedder is not None:
            self.vectors = np.memmap(folder / "vectors.f16", np.float16, "r", shape=(len(self.chunks), embedder.width))

    @classmethod
    def open(cls, folder: Path, embedder: Any | None = None) -> Index:
        """The index in a folder. Raises StoreError where it is not whole, or was made without this model."""
        try:
            made = json.loads((folder / "index.json").read_text(encoding="utf-8"))
            if made["format"] != FORMAT:
                raise StoreError(f"{folder} holds an index of another aasut.", "Make it again.")
            if embedder is not None and made["width"] != embedder.width:
                raise StoreError(f"The index {folder} was made without this model of sentences.", "Make it again.")
            return cls(folder, embedder)
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise StoreError(f"{folder} holds no whole index: {error}.", "Make it again.") from error

    def __len__(self) -> int:
        return len(self.chunks)

    def search(self, query: str, k: int = 5, keep: Keep | None = None) -> list[Hit]:
        """The k chunks that best fit a query, best first; fewer where fewer do. Equal ones come in their order.

        `keep` says of a document's id whether its chunks may be found. A query without words finds nothing; one whose
        words no chunk has finds by meaning alone.
        """
        asked = words.words(query)
        if not asked or k < 1:
            return []
        depth = max(DEPTH, k)
        ranked = {"words": self._best(self._by_words(asked), depth, keep, least=0.0)}
        if self.embedder is not None:
            ranked["meaning"] = self._best(self._by_meaning(self.embedder, query), depth, keep, least=-np.inf)
        ranks: dict[int, dict[str, int]] = {}
        for part, numbers in ranked.items():
            for rank, number in enumerate(numbers, 1):
                ranks.setdefault(number, {})[part] = rank
        scores = {number: sum(1 / (FUSION + rank) for rank in of.values()) for number, of in ranks.items()}
        best = sorted(scores, key=lambda number: (-scores[number], number))[:k]
        return [Hit(self.chunks[number], scores[number], ranks[number]) for number in best]

    def _by_words(self, asked: Sequence[str]) -> Any:
        """BM25 of each chunk; 0 where it has none of the words."""
        known = [self.words.vocab_dict[word] for word in asked if word in self.words.vocab_dict]
        return self.words.get_scores_from_ids(known) if known else np.zeros(len(self), dtype=np.float32)

    def _by_meaning(self, embedder: Any, query: str) -> Any:
        """Cosine of each chunk."""
        asked = embedder.embed([query], query=True)[0]
        blocks = (self.vectors[start : start + _ROWS] for start in range(0, len(self), _ROWS))
        return np.concatenate([block.astype(np.float32) @ asked for block in blocks])

    def _best(self, scores: Any, count: int, keep: Keep | None, *, least: float) -> list[int]:
        """Numbers of the chunks with the highest scores over `least` that may be found, at most `count`."""
        open_, taken = np.flatnonzero(scores > least), list[int]()
        while len(open_) and len(taken) < count:
            lot = min(len(open_), 4 * count)
            bound = np.partition(scores[open_], len(open_) - lot)[len(open_) - lot]
            ahead = scores[open_] >= bound  # with all that are level with the last
            for number in open_[ahead][np.argsort(-scores[open_[ahead]], kind="stable")]:
                if keep is None or keep(self.documents[self.owners[number]]):
                    taken.append(int(number))
            open_ = open_[~ahead]
        return taken[:count]
