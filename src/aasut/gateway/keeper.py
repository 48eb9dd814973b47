"""The store's upkeep, beside the writer: moving commits into the database file, and deleting bodies that are too old.

How the recording goes is also written to recording.json, over what stands there: that works on a full disk too.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from pathlib import Path
from typing import Any

from aasut.errors import AasutError
from aasut.gateway import schema

STATE = "recording.json"
STATE_BYTES = 1024
LOOK_S = 1.0
FORGET_EVERY_S = 600.0
LARGE_LOG = 4 << 20  # bytes of commits that are not in the database file yet
WINDOW = 500  # exchanges whose bodies are deleted at once
LATE_S = 3600.0  # an exchange is written so long after it came at most


class Keeper:
    """A thread that looks after the store once a second. `writing` is held by whoever writes to it in this process."""

    def __init__(self, folder: Path, keep_days: float | None, state: Callable[[], dict[str, Any]]) -> None:
        self.writing = threading.Lock()
        self._folder, self._days, self._state = folder, keep_days, state
        self._forgot = 0.0
        _write_over(folder / STATE, state() | {"running": True})  # its room is taken before the disk is full
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder-upkeep", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look once more, and end."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        last: dict[str, Any] = {}
        while True:
            ended = self._end.wait(LOOK_S)
            state = self._state() | {"running": not ended}
            if {**state, "at": 0} != {**last, "at": 0}:
                _write_over(self._folder / STATE, state)
                last = state
            with suppress(sqlite3.Error, OSError, AasutError):  # the writer says it when the disk fails
                self._move()
                if self._days is not None and time.monotonic() - self._forgot >= FORGET_EVERY_S and not ended:
                    with closing(schema.open_to_write(self._folder)) as database:
                        forget(database, time.time() - self._days * 86400, self.writing, self._end)
                    self._forgot = time.monotonic()
            if ended:
                return

    def _move(self) -> None:
        log = self._folder / f"{schema.FILE}-wal"
        if not log.exists() or log.stat().st_size < LARGE_LOG:
            return
        with closing(sqlite3.connect(self._folder / schema.FILE, timeout=1, isolation_level=None)) as database:
            # Nearly all of it while the writer goes on; the rest is moved fast, and the log begins anew.
            database.execute("PRAGMA wal_checkpoint(PASSIVE)")
            with self.writing:
                database.execute("PRAGMA wal_checkpoint(PASSIVE)")


def forget(
    database: sqlite3.Connection,
    before: float,
    writing: AbstractContextManager[Any] | None = None,
    stop: threading.Event | None = None,
) -> int:
    """Delete bodies of exchanges that came before this time, and give the space back; how many. Counts stay.

    It goes in short transactions, so that a gateway can write between them.
    """
    writing, stop = writing or nullcontext(), stop or threading.Event()
    deleted = 0
    last = (database.execute("SELECT MIN(n) FROM body").fetchone()[0] or 1) - 1
    while not stop.is_set():
        found = database.execute("SELECT n, at FROM exchange WHERE n > ? ORDER BY n LIMIT ?", (last, WINDOW)).fetchall()
        if not found or min(at for _, at in found) > before + LATE_S:
            break
        last = found[-1][0]
        if old := [(n,) for n, at in found if at < before]:
            with writing:
                database.execute("BEGIN IMMEDIATE")
                try:
                    deleted += database.executemany("DELETE FROM body WHERE n = ?", old).rowcount
                    database.execute("COMMIT")
                except BaseException:
                    if database.in_transaction:
                        database.execute("ROLLBACK")
                    raise
                database.executescript("PRAGMA incremental_vacuum")  # `execute` would end it after one page
            stop.wait(0.005)
    return deleted


def _write_over(path: Path, state: dict[str, Any]) -> None:
    with suppress(OSError):
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.pwrite(file, json.dumps(state).encode()[:STATE_BYTES].ljust(STATE_BYTES), 0)
        finally:
            os.close(file)
