"""Recording exchanges beside the requests: what is put here is blotted and written by a thread, in short batches.

A commit follows at most about 40 ms after an exchange was put, and outlives the process. What waits is bounded; what
does not fit, or could not be written before the end, is counted as lost. While writing fails, what waits is tried
again, at longer and longer intervals.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from aasut.errors import AasutError, StoreError
from aasut.files import disk_errors
from aasut.gateway import schema
from aasut.gateway.assemble import whole
from aasut.gateway.exchange import Exchange
from aasut.gateway.keeper import Keeper
from aasut.gateway.redact import Redactor, dumped
from aasut.gateway.settings import Record

Kept = Callable[[str], None]

MOST_WAITING = 100_000
MOST_BYTES = 128 << 20
MOST_EVENTS = 1000
MOST_IN_COMMIT = 1000
GATHER_S = 0.02  # after the first exchange, more are waited for so long
SLICE_S = 0.015  # of work on what goes into one commit
# The writer rests after so many exchanges, so that the event loop gets at the interpreter; seldom where many wait.
REST_AFTER, REST_SELDOM, REST_S = 2, 16, 20e-6
FEW = 250
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 5.0


class _Waiting:
    """An exchange on its way to the disk; `kept` is called once."""

    __slots__ = ("body", "exchange", "kept", "size")

    def __init__(self, exchange: Exchange, kept: Kept | None, size: int) -> None:
        self.exchange, self.kept, self.size = exchange, kept, size
        self.body: schema.Body | None = None


class Recorder:
    """Writes to traffic.db in `folder`; `secrets` are blotted out wherever they stand, beside what the settings name.

    `failing` is "" or why nothing can be written just now; `written` and `lost` count exchanges, `waiting` those that
    are not on the disk yet, `noted` events. Raises StoreError where the store cannot be opened.
    """

    def __init__(
        self,
        folder: Path,
        settings: Record,
        secrets: Sequence[str] = (),
        *,
        most_waiting: int = MOST_WAITING,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self.failing = ""
        self.lost = self.written = self.waiting = self.noted = 0
        self._folder, self._path = folder, folder / schema.FILE
        self._bodies = settings.bodies
        self._redactor = Redactor(settings.redact, secrets)
        self._most_waiting, self._most_bytes = most_waiting, most_bytes
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        schema.open_to_write(folder).close()
        self._database: sqlite3.Connection | None = None
        self._file = (0, 0)
        self._queue: deque[_Waiting] = deque()
        self._held: list[_Waiting] = []  # taken from the queue and made ready, to be written next
        self._events: deque[schema.Event] = deque()
        self._promises: dict[str, schema.Promise] = {}
        self._bytes = 0
        self._lost_at, self._lost_before = 0.0, 0
        self._lock = threading.Lock()  # held for an instant, never while writing
        self._awake, self._hurry = threading.Event(), threading.Event()
        self._closing = False
        self._keeper = Keeper(folder, settings.keep_days, self.state)
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def put(self, exchange: Exchange, kept: Kept | None = None) -> None:
        """Take an exchange to be recorded; it must not be changed afterwards. Never waits, never raises.

        `kept` is called once: with "" after the commit, or with why it is not written, or not yet. That happens in
        the writer's thread, or within this call where it is known at once.
        """
        size = len(exchange.request) + len(exchange.response) + 1000
        item = _Waiting(exchange, kept, size)
        refused = ""
        with self._lock:
            if self._closing:
                refused = "the recorder is closed"
                self.lost += 1
            elif self.waiting >= self._most_waiting or (self.waiting and self._bytes + size > self._most_bytes):
                refused = self.failing or "more comes than can be written"
                self._fails(refused)
                self.lost += 1
            else:
                self.waiting += 1
                self._bytes += size
                self._queue.append(item)
                if self.failing:
                    refused, item.kept = self.failing, None
        if kept is not None:
            if refused:
                _tell(kept, refused)
            else:
                self._hurry.set()
        if not self._awake.is_set():
            self._awake.set()

    def event(self, kind: str, text: str) -> None:
        """Note what happened, in a word and a sentence."""
        with self._lock:
            self._note(kind, self._redactor.text(text))
        self._awake.set()

    def promise(self, certificate: str, run: str, risk: float, confidence: float) -> None:
        """Note what a certificate promises, so that its audits can be judged by whoever reads the store."""
        with self._lock:
            self._promises[certificate] = (run, risk, confidence, time.time())
        self._awake.set()

    def close(self) -> None:
        """Write what waits, and end. What cannot be written now is lost."""
        with self._lock:
            self._closing = True
        self._awake.set()
        self._hurry.set()
        self._thread.join()
        self._keeper.close()

    def state(self) -> dict[str, Any]:
        """How the recording goes, as plain data."""
        return {
            "pid": os.getpid(), "at": time.time(), "failing": self.failing, "written": self.written,
            "lost": self.lost, "waiting": self.waiting,
        }  # fmt: skip

    def _run(self) -> None:
        wait = FIRST_WAIT_S
        while True:
            self._awake.wait(1.0 if self.failing else None)
            if not self._closing:
                self._hurry.wait(GATHER_S)
            self._awake.clear()
            self._hurry.clear()
            closing = self._closing
            try:
                while self._queue or self._held or self._events or self._promises:
                    with disk_errors(self._path):
                        self._write()
                self._works()
                wait = FIRST_WAIT_S
            except Exception as error:  # nothing may end this thread; what waits is kept for the next try
                self._stops(error)
                if not closing:
                    self._hurry.wait(wait)
                    wait = min(wait * 2, LONGEST_WAIT_S)
                    self._awake.set()
            if closing:
                self._give_up()
                return

    def _write(self) -> None:
        """One commit of some of what waits."""
        database = self._opened()
        self._make_ready()
        batch, events, promises = self._held[:MOST_IN_COMMIT], list(self._events), dict(self._promises)
        with self._keeper.writing:
            try:
                schema.insert(database, [(item.exchange, item.body) for item in batch], events, promises)
                bad: dict[str, str] = {}
            except schema.UNFIT:
                bad = self._one_by_one(database, batch)
                schema.insert(database, [], events, promises)
        if not self._there():
            raise StoreError(f"{self._path} was deleted or moved.")
        self._done(batch, bad, len(events), promises)

    def _one_by_one(self, database: sqlite3.Connection, batch: list[_Waiting]) -> dict[str, str]:
        """Write a batch in which something fits no column; the ids of such exchanges, and what is wrong with them."""
        bad = {}
        for item in batch:
            try:
                schema.insert(database, [(item.exchange, item.body)])
            except schema.UNFIT as error:
                bad[item.exchange.id] = f"it cannot be written: {error}"
        return bad

    def _done(
        self, batch: list[_Waiting], bad: dict[str, str], events: int, promises: dict[str, schema.Promise]
    ) -> None:
        del self._held[: len(batch)]
        with self._lock:
            for _ in range(events):
                self._events.popleft()
            self.noted += events
            for certificate, promised in promises.items():
                if self._promises.get(certificate) == promised:
                    del self._promises[certificate]
            self.waiting -= len(batch)
            self._bytes -= sum(item.size for item in batch)
            self.written += len(batch) - len(bad)
            self.lost += len(bad)
        for item in batch:
            if item.kept is not None:
                _tell(item.kept, bad.get(item.exchange.id, ""))

    def _make_ready(self) -> None:
        """Take from the queue what fits into one commit."""
        until = time.monotonic() + SLICE_S
        while self._queue and len(self._held) < MOST_IN_COMMIT and time.monotonic() < until:
            item = self._queue.popleft()
            self._ready(item)
            self._held.append(item)
            if len(self._held) % (REST_AFTER if len(self._queue) < FEW else REST_SELDOM) == 0:
                time.sleep(REST_S)

    def _ready(self, item: _Waiting) -> None:
        """Blot an exchange out as it is to be written; of a stream, the answer in one piece."""
        x, short = item.exchange, self._redactor.short
        d = x.decision
        try:
            if self._bodies:
                item.body = (
                    self._redactor.body(x.request),
                    self._redactor.body(_in_one_piece(x)),
                    self._redactor.text(d.answer) if d is not None else "",
                )
            texts = (_sound(short(x.path)), _sound(short(x.model)), _sound(short(x.fault)))
        except Exception as error:  # what could not be looked through is not written
            item.body = None
            texts = ("", "", f"not_recorded: {type(error).__name__}")
        # Bodies are let go of here: while writing fails, the blotted ones alone wait.
        item.exchange = replace(x, request=b"", response=b"", path=texts[0], model=texts[1], fault=texts[2])
        if d is not None:
            item.exchange.decision = replace(d, answer="")

    def _opened(self) -> sqlite3.Connection:
        if self._database is not None and not self._there():
            self._shut()
        if self._database is None:
            if not self._folder.is_dir():
                raise StoreError(f"{self._folder} was deleted or moved.")
            self._database = schema.open_to_write(self._folder)
            self._file = _identity(self._path)
        return self._database

    def _there(self) -> bool:
        """Is what is open still what stands in the folder? SQLite itself would go on in a deleted file."""
        return _identity(self._path) == self._file and self._path.with_name(schema.FILE + "-wal").exists()

    def _shut(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            with suppress(sqlite3.Error):
                database.close()

    def _fails(self, why: str) -> None:
        """Raise the alarm, where it is not up; the lock is held."""
        if not self.failing:
            self.failing, self._lost_before = why, self.lost
            self._note("recording_failed", why)
        self._lost_at = time.monotonic()

    def _stops(self, error: Exception) -> None:
        why = error.message if isinstance(error, AasutError) else f"{type(error).__name__}: {error}"
        self._shut()
        with self._lock:
            self._fails(why)
            self.failing = why
            waiting = [item for item in (*self._held, *self._queue) if item.kept is not None]
            told = [item.kept for item in waiting if item.kept is not None]
            for item in waiting:
                item.kept = None
        for kept in told:
            _tell(kept, why)

    def _works(self) -> None:
        """All that waited is written: take the alarm back, unless something was lost a moment ago."""
        with self._lock:
            if self.failing and time.monotonic() - self._lost_at >= 1.0:
                self.failing = ""
                lost = self.lost - self._lost_before
                self._note("recording_again", f"{lost:,} exchanges were lost meanwhile.")
                self._awake.set()

    def _give_up(self) -> None:
        with self._lock:
            left = [*self._held, *self._queue]
            self.lost += len(left)
            self.waiting = 0
        for item in left:
            if item.kept is not None:
                _tell(item.kept, self.failing or "the recorder is closed")
        self._shut()

    def _note(self, kind: str, text: str) -> None:
        if len(self._events) < MOST_EVENTS:
            self._events.append((time.time(), kind, _sound(text)))


def _in_one_piece(x: Exchange) -> bytes:
    """The answer's body; of a stream's events what they say together, nothing where that is not known."""
    if not x.streamed or x.response.lstrip()[:1] in (b"{", b"["):
        return x.response
    found = whole(x.response)
    return b"" if found is None else dumped(found)


def _sound(text: str) -> str:
    """Text that can be written: halves of characters, which JSON can hold, become question marks."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _identity(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return found.st_dev, found.st_ino


def _tell(kept: Kept, why: str) -> None:
    with suppress(Exception):  # whoever waited may be gone, with its event loop
        kept(why)
