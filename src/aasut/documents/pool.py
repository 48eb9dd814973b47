"""Many files read at once, each in a process that it can harm at most; their blocks come in the files' order."""

from __future__ import annotations

import os
import selectors
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from aasut.documents.block import Block, File
from aasut.documents.opened import Wanted
from aasut.documents.process import START_S, Reader
from aasut.recipe.documents import Documents, Reading

HELD = 4 << 20  # characters of a file that are held until its turn comes; then its process waits
HELD_IN_ALL = 16 << 20  # from which no further file is given out
AHEAD = 64  # files read before their turn, at most, for each process
STOPPED = "gives nothing for reading.timeout_s"
DIED = "its reader's process died"


@dataclass(frozen=True, slots=True)
class Event:
    """Blocks of a file. `done` with its last ones; `fault` then says why it cannot be read, "" where it can.

    What came of a file that has a fault in the end is not to be used. `detail` tells more of the fault.
    """

    file: File
    blocks: list[Block]
    fault: str = ""
    done: bool = False
    detail: str = ""


@dataclass(slots=True)
class _Reading:
    """A file that is being read, or is read and waits for its turn."""

    file: File
    events: deque[Event] = field(default_factory=deque)
    held: int = 0  # characters
    done: bool = False


def read(files: Iterable[File], sections: Sequence[Documents], reading: Reading) -> Iterator[Event]:
    """Events of all files, one file after another as they are given, however many processes read.

    A file costs its own process at most: one that hangs, dies or takes all memory is listed and the next goes on.
    Raises DataError where no process starts.
    """
    pool = _Pool(iter(files), [wanted(section) for section in sections], reading)
    try:
        yield from pool.events()
    finally:
        pool.close()


def wanted(section: Documents) -> Wanted:
    """What a reader's process is told of a section."""
    records = section.records
    return Wanted(
        format=section.format,
        encoding=section.encoding,
        pattern=records.pattern if records else None,
        fields=tuple(records.fields) if records else (),
        title=records.title if records else None,
        id=records.id if records else None,
    )


class _Pool:
    def __init__(self, files: Iterator[File], sections: Sequence[Wanted], reading: Reading) -> None:
        self.files, self.sections, self.reading = files, sections, reading
        self.most = reading.processes or processors()
        self.readers: list[Reader] = []
        self.open: dict[int, _Reading] = {}  # by the file's number, from `turn` on
        self.turn = self.asked = 0
        self.more = True
        self.selector = selectors.DefaultSelector()

    def events(self) -> Iterator[Event]:
        while self._feed():
            current = self.open[self.turn]
            while current.events:
                event = current.events.popleft()
                current.held -= _size(event.blocks)
                before = time.monotonic()
                yield event
                for reader in self.readers:  # what the caller took is no delay of theirs
                    reader.since += time.monotonic() - before
            if current.done:
                del self.open[self.turn]
                self.turn += 1
            else:
                self._listen()

    def close(self) -> None:
        for reader in [*self.readers]:
            self._drop(reader)
        self.selector.close()

    def _feed(self) -> bool:
        """Give files to processes that have none; False where all files are done."""
        while self.more and len(self.open) < self.most * AHEAD:
            idle = next((reader for reader in self.readers if reader.number is None), None)
            if idle is None and len(self.readers) == self.most:
                break
            if sum(reading.held for reading in self.open.values()) > HELD_IN_ALL:
                break
            if (file := next(self.files, None)) is None:
                self.more = False
                break
            if idle is None:
                idle = Reader(self.reading)
                self.readers.append(idle)
            self.open[self.asked] = _Reading(file)
            idle.ask(self.asked, file.path, self.sections[file.source])
            idle.since = time.monotonic()
            self.asked += 1
        return bool(self.open)

    def _listen(self) -> None:
        """Take what the processes say, and end those that say nothing for too long."""
        watched = [reader for reader in self.readers if not self._waits(reader)]
        for reader in watched:
            self.selector.register(reader.output, selectors.EVENT_READ, reader)
        nearest = min((reader.since + self._patience(reader) for reader in watched), default=0.0)
        said = self.selector.select(max(nearest - time.monotonic(), 0.01))
        for reader in watched:
            self.selector.unregister(reader.output)
        for key, _ in said:
            self._take(key.data)
        for reader in watched:
            late = time.monotonic() - reader.since > self._patience(reader)
            if late and reader in self.readers and reader.number is not None:
                self._fail(reader, STOPPED, f"{self._patience(reader):g} s")

    def _waits(self, reader: Reader) -> bool:
        """Must a process wait, since what it gave is not wanted yet? Its clock then stands still."""
        waits = reader.number is not None and reader.number != self.turn and self.open[reader.number].held > HELD
        if waits:
            reader.since = time.monotonic()
        return waits

    def _patience(self, reader: Reader) -> float:
        if reader.number is None:
            return float("inf")
        return self.reading.timeout_s if reader.ready else max(self.reading.timeout_s, START_S)

    def _take(self, reader: Reader) -> None:
        try:
            messages = reader.messages()
        except ValueError:  # only a process that something has taken over says what is no JSON
            self._fail(reader, DIED, "what it said made no sense")
            return
        if messages:
            reader.since = time.monotonic()
        for message in messages:
            self._hear(reader, message)
        if reader.ended:
            if not reader.ready:
                raise reader.unready()
            if reader.number is not None:
                death = reader.death()
                self._fail(reader, STOPPED if death == "SIGXCPU" else DIED, death)
            elif reader in self.readers:
                self._drop(reader)

    def _hear(self, reader: Reader, message: list[Any]) -> None:
        assert reader.number is not None
        current = self.open[reader.number]
        if message[0] == "blocks":
            blocks = [Block(*block) for block in message[1]]
            current.events.append(Event(current.file, blocks))
            current.held += _size(blocks)
            return
        _, reason, detail, last = message
        current.events.append(Event(current.file, [], reason, True, detail))
        current.done = True
        reader.number = None
        if last:
            self._drop(reader)

    def _fail(self, reader: Reader, reason: str, detail: str) -> None:
        """End a process; the file that it read has this fault."""
        if reader.number is not None:
            current = self.open[reader.number]
            current.events.append(Event(current.file, [], reason, True, detail))
            current.done = True
        self._drop(reader)

    def _drop(self, reader: Reader) -> None:
        self.readers.remove(reader)
        reader.kill()


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _size(blocks: Sequence[Block]) -> int:
    return sum(len(block.text) for block in blocks)
