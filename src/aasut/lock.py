"""A lock on a file, which one process holds; the system takes it back when that process ends, however it ends."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from aasut.files import disk_errors


def take(path: Path) -> IO[str] | None:
    """The lock, held until the file is closed; None where another process has it. The holder's number stands in it.

    Who only looks (`holder`) has it for an instant, so it is tried again after a moment. Raises
    StoreError where the disk is full or may not be written.
    """
    with disk_errors(path):
        lock = path.open("a+")
    try:
        for wait in (0.01, 0.03, 0.06, 0.0):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(wait)
                continue
            with disk_errors(path):
                lock.truncate(0)
                os.write(lock.fileno(), f"{os.getpid()}\n".encode())  # no buffer: closing it could fail once more
            return lock
    except BaseException:
        lock.close()
        raise
    lock.close()
    return None


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """One process at a time inside; others wait. Raises StoreError where the disk is full or may not be written."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("a")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def holder(path: Path) -> str:
    """Who has the lock: "process 1234", "another process" where no number stands in it, "" where no one has it."""
    try:
        with path.open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                said = lock.read(20).strip()
                return f"process {said}" if said.isdigit() else "another process"
    except OSError:  # no lock yet, or one that may not be read
        pass
    return ""
