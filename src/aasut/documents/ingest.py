"""The stage `documents`: files are found, read and cut, and what could not be used is listed with the reason.

    documents.jsonl   one Document a line
    chunks.jsonl      their Chunks, in the same order
    unread.jsonl      {file, reason} of files, and of documents in them, that were left out or could not be read

Everything streams: what is held at a time are a few chunks, and the names of the files.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from aasut.documents import pool
from aasut.documents.block import File
from aasut.documents.corpus import CHUNKS, DOCUMENTS, UNREAD, Corpus
from aasut.documents.find import Found, find
from aasut.errors import DataError
from aasut.progress import Progress, Step
from aasut.recipe.documents import Documents, Reading
from aasut.recipe.field import Chunks
from aasut.store import digest, disk_errors, file_hash
from aasut.types import Chunk, Conservation, Document, Span

VERSION = 1  # of what `build` writes: raised when the same settings would give other files
_SHOWN = 3  # files in a message
_APART = {"source", "licence"}  # where files lie, and what one may do with them, does not change what they say


class Wanted(Protocol):
    """What is read, and how: the recipe of a field, or `Texts`."""

    @property
    def documents(self) -> Sequence[Documents]: ...
    @property
    def reading(self) -> Reading: ...
    @property
    def chunks(self) -> Chunks: ...


@dataclass(frozen=True)
class Texts:
    """Documents that another recipe names, read as a field's are unless it says otherwise."""

    documents: Sequence[Documents]
    reading: Reading = field(default_factory=Reading)
    chunks: Chunks = field(default_factory=Chunks)


def settings(
    recipe: Wanted, base: Path, *, sections: Sequence[Documents] | None = None, cache: Path | None = None
) -> dict[str, Any]:
    """All that `build` depends on, the content of all files included: what identifies its result.

    Packages are fetched if need be. Raises DataError for a source that cannot be found.
    """
    sections = recipe.documents if sections is None else sections
    return {
        "documents": [section.model_dump(mode="json", exclude=_APART) for section in sections],
        "reading": recipe.reading.model_dump(mode="json", exclude={"processes"}),
        "chunks": recipe.chunks.characters,
        "content": _content(find(sections, base, Progress(quiet=True), cache)),
    }


def build(
    recipe: Wanted,
    base: Path,
    folder: Path,
    progress: Progress,
    *,
    sections: Sequence[Documents] | None = None,
    cache: Path | None = None,
) -> dict[str, Any]:
    """Read the recipe's documents, or other `sections` in the same way, and write the files named above.

    Returns facts: `conservation` of files and of documents; `characters` and `chunks`; `languages` (characters by
    code, "" where none was told); `formats` (files read, by stated format or ending) and `sources` (by number of the
    source). Raises DataError where a source cannot be found, where more than reading.max_failed of the files cannot be
    read, and where nothing was.
    """
    sections = recipe.documents if sections is None else sections
    found = find(sections, base, progress, cache)
    faults = [(out.name, out.reason) for out in found.failed]  # name and reason
    read: list[File] = []
    with disk_errors(folder), Corpus(folder, recipe.chunks.characters) as corpus:
        for out in (*found.dropped, *found.failed):
            corpus.leave_out(out.name, f"{out.reason}: {out.told}" if out.told else out.reason)
        with progress.steps("read documents, bytes", sum(map(_size, found.files))) as step:
            for file, events in groupby(pool.read(found.files, sections, recipe.reading), key=lambda event: event.file):
                fault = _read(corpus, file, sections[file.source], events, step)
                if fault:
                    faults.append((file.name, fault))
                else:
                    read.append(file)
    every = len(found.files) + len(found.dropped) + len(found.failed)
    dropped = Counter(out.reason for out in found.dropped)
    failed = Counter(reason for _, reason in faults)
    files = Conservation(every, len(read), dict(sorted(dropped.items())), dict(sorted(failed.items())))
    _check(recipe, files, corpus.counts["documents"], [name for name, _ in faults], folder / UNREAD)
    return {
        "conservation": {"files": files, "documents": corpus.conservation()},
        "characters": corpus.counts["characters"],
        "chunks": corpus.counts["chunks"],
        "languages": dict(sorted(corpus.languages.items())),
        "formats": dict(sorted(Counter(_format(file, sections[file.source]) for file in read).items())),
        "sources": dict(sorted(Counter(str(file.source) for file in read).items())),
    }


def load_documents(folder: Path) -> Iterator[Document]:
    """The documents that `build` wrote, one at a time."""
    with (folder / DOCUMENTS).open(encoding="utf-8", newline="\n") as file:
        for line in file:
            yield Document(**json.loads(line))


def load_chunks(folder: Path) -> Iterator[Chunk]:
    """The chunks that `build` wrote, one at a time, in the order of their documents."""
    with (folder / CHUNKS).open(encoding="utf-8", newline="\n") as file:
        for line in file:
            plain = json.loads(line)
            span = plain.pop("span")
            yield Chunk(**plain, span=Span(**span | {"headings": tuple(span["headings"])}))


def _read(corpus: Corpus, file: File, section: Documents, events: Iterator[pool.Event], step: Step) -> str:
    """Take one file's events; the reason why it failed, "" where it did not."""
    left, fault = _size(file), ""
    with corpus.file(file, section) as writer:
        for event in events:
            writer.add(event.blocks)
            fault = event.fault
            writer.fault = f"{fault}: {event.detail}" if event.detail else fault
            # How far a file is read is told by its text: roughly, but never more than there is.
            part = left if event.done else min(left, sum(len(block.text) for block in event.blocks))
            left -= part
            step.advance(part, file.name)
    return fault


def _content(found: Found) -> str:
    """A hash over the names and contents of all files; of those that are not read, over the reason."""
    files = [[file.name, file.source, _hash(file)] for file in found.files]
    return digest([files, *([[out.name, out.reason] for out in part] for part in (found.dropped, found.failed))])


def _hash(file: File) -> str:
    try:
        return file_hash(file.path)
    except OSError as error:  # the reader will say so of this file
        return f"{error.strerror}"


def _size(file: File) -> int:
    try:
        return file.path.stat().st_size
    except OSError:  # gone since: the reader will say so
        return 0


def _format(file: File, section: Documents) -> str:
    """The stated format, else the name's ending, without that of a gzip file."""
    if section.format != "auto":
        return section.format
    return PurePosixPath(file.name.lower().removesuffix(".gz")).suffix.removeprefix(".") or "no ending"


def _check(recipe: Wanted, files: Conservation, documents: int, bad: Sequence[str], listed: Path) -> None:
    asked = files.kept + len(bad)
    if len(bad) > recipe.reading.max_failed * asked:
        reasons = "; ".join(f"{reason}: {count}" for reason, count in files.failed.items())
        raise DataError(
            f"{len(bad)} of {asked} files cannot be read ({reasons}; such as {', '.join(bad[:_SHOWN])}), more than "
            f"reading.max_failed ({recipe.reading.max_failed:g}).",
            f"Mend them, leave them out by documents[].exclude, or raise reading.max_failed; all stand in {listed}.",
        )
    if not documents:
        raise DataError(
            f"There is no text in the documents: {files.kept} files were read.",
            "Look at documents[].source; scanned pages need text recognition (OCR) first.",
        )
