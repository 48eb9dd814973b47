"""What was read, written down as it comes: documents, their chunks, and what was left out with the reason.

A file that fails leaves nothing of itself, and a document that repeats an earlier one or is empty no chunks: the files
are cut back to where they were.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aasut.documents import language
from aasut.documents.block import Block, File
from aasut.documents.chunk import Chunker
from aasut.recipe.documents import Documents
from aasut.types import Chunk, Conservation, Document

DOCUMENTS, CHUNKS, UNREAD = "documents.jsonl", "chunks.jsonl", "unread.jsonl"
EMPTY, REPEATED = "no text", "the same text as another document"
CACHE_KB = 16384  # of the table of texts that came before; what is beyond lies on disk


class Lines:
    """A file of JSON lines that can be cut back to a place where it was."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("wb")
        self.bytes = 0

    def write(self, value: dict[str, Any]) -> None:
        line = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        self.bytes += self.file.write(line)

    def cut(self, place: int) -> None:
        """Take back all that came after `place`, a number of bytes."""
        if place < self.bytes:
            self.file.seek(place)
            self.file.truncate()
            self.bytes = place


class Corpus:
    """The stage's files, open for writing. `most` is how many characters a chunk may have."""

    def __init__(self, folder: Path, most: int) -> None:
        self.most = most
        self.documents, self.chunks, self.unread = (Lines(folder / name) for name in (DOCUMENTS, CHUNKS, UNREAD))
        self.seen = sqlite3.connect("", isolation_level=None)  # a private table, on disk where it is large
        self.seen.execute(f"PRAGMA cache_size = -{CACHE_KB}")
        self.seen.execute("CREATE TABLE text (digest BLOB PRIMARY KEY, document TEXT) WITHOUT ROWID")
        self.counts: Counter[str] = Counter()
        self.languages: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()

    def __enter__(self) -> Corpus:
        return self

    def __exit__(self, *_: object) -> None:
        self.seen.close()
        for lines in (self.documents, self.chunks, self.unread):
            lines.file.close()

    def leave_out(self, name: str, reason: str) -> None:
        """List a file or a document that is not used."""
        self.unread.write({"file": name, "reason": reason})

    @contextmanager
    def file(self, file: File, section: Documents) -> Iterator[FileWriter]:
        """Takes one file's blocks; see FileWriter."""
        marks = [(lines, lines.bytes) for lines in (self.documents, self.chunks, self.unread)]
        self.seen.execute("SAVEPOINT file")
        writer = FileWriter(self, file, section)
        yield writer
        if writer.fault:
            self.seen.execute("ROLLBACK TO file")
            for lines, place in marks:
                lines.cut(place)
            self.leave_out(file.name, writer.fault)
        else:
            writer.finish()
            self.counts += writer.counts
            self.languages += writer.languages
            self.dropped += writer.dropped
        self.seen.execute("RELEASE file")

    def first(self, digest: bytes, document: str) -> str:
        """The document that has this text already, or this one, which has it from now on."""
        new = self.seen.execute("INSERT OR IGNORE INTO text VALUES (?, ?)", (digest, document)).rowcount
        if new:
            return document
        with closing(self.seen.execute("SELECT document FROM text WHERE digest = ?", (digest,))) as rows:
            return str(rows.fetchone()[0])

    def conservation(self) -> Conservation:
        """Of the documents in files that were read."""
        rows_in = self.counts["documents"] + self.dropped.total()
        return Conservation(rows_in, self.counts["documents"], dict(sorted(self.dropped.items())))


class FileWriter:
    """Writes the documents of one file: a record each, or the file as a whole. Set `fault` and nothing of it stays."""

    def __init__(self, corpus: Corpus, file: File, section: Documents) -> None:
        self.corpus, self.name, self.section = corpus, file.name, section
        self.group = re.compile(section.group) if section.group is not None else None
        self.counts: Counter[str] = Counter()
        self.languages: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.record: str | None = None
        self.chunker: Chunker | None = None
        self.fault = ""

    def add(self, blocks: Sequence[Block]) -> None:
        for block in blocks:
            if self.chunker is None or block.record != self.record:
                self._end()
                self._begin(block.record)
            assert self.chunker is not None
            self._write(self.chunker.add(block))

    def finish(self) -> None:
        """The file has ended. One without any block is an empty document."""
        if self.chunker is None:
            self._begin(None)
        self._end()

    def _begin(self, record: str | None) -> None:
        self.record = record
        self.chunker = Chunker(self.name if record is None else f"{self.name}#{record}", self.corpus.most)
        self.start = self.corpus.chunks.bytes
        self.text = hashlib.sha256()
        self.spoken: Counter[str] = Counter()

    def _write(self, chunks: Iterator[Chunk]) -> None:
        for chunk in chunks:
            told = self.section.language or language.tell(chunk.text)
            self.spoken[told] += len(chunk.text)
            self.text.update(chunk.text.encode("utf-8", "replace"))
            self.corpus.chunks.write(_plain(chunk, told))

    def _end(self) -> None:
        if self.chunker is None:
            return
        self._write(self.chunker.end())
        name, characters = self.chunker.document, self.chunker.characters
        first = self.corpus.first(self.text.digest(), name) if characters else ""
        if first == name:
            told = language.main(self.spoken)
            self.corpus.documents.write(asdict(Document(name, self.name, self._group(name), told, characters)))
            self.counts += Counter(documents=1, chunks=self.chunker.number, characters=characters)
            self.languages[told] += characters
        else:
            self.corpus.chunks.cut(self.start)
            self.dropped[REPEATED if first else EMPTY] += 1
            self.corpus.leave_out(name, f"{REPEATED}: {first}" if first else EMPTY)
        self.chunker = None

    def _group(self, document: str) -> str:
        found = self.group.search(document) if self.group is not None else None
        return (found[1] if found is not None else "") or document


def _plain(chunk: Chunk, told: str) -> dict[str, Any]:
    """A chunk as plain data; `dataclasses.asdict` would take half of the time of all that is done here."""
    span = chunk.span
    place = {
        "document": span.document,
        "start": span.start,
        "end": span.end,
        "page": span.page,
        "headings": span.headings,
    }
    return {"id": chunk.id, "text": chunk.text, "span": place, "language": told}
