"""Where runs and the cache are: may they be written, is there room, does a database work there, is it free?"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from aasut.doctor.finding import Finding
from aasut.errors import AasutError
from aasut.files import connect
from aasut.records import MIGRATIONS
from aasut.runs.catalogue import STORE, amount
from aasut.sources.models import cache_root
from aasut.store import Store

ENOUGH = 5e9  # bytes
TYPICAL = "a run with a student of 135M parameters takes about 3 GB"


def examine(root: Path) -> Iterator[Finding]:
    """The folder of runs, then the cache."""
    yield from _folder("runs", root, "--root")
    yield from _store(root / STORE)
    try:
        cache = cache_root()
    except RuntimeError:
        problem = "There is no home folder to keep models in: set XDG_CACHE_HOME to a folder."
        yield Finding("cache", "nowhere", "fault", problem)
        return
    yield from _folder("cache", cache, "XDG_CACHE_HOME")


def _folder(name: str, folder: Path, option: str) -> Iterator[Finding]:
    """A folder, or the one in which it would be made."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    free = shutil.disk_usage(place).free
    text = f"{folder}, {amount(free)} free"
    if not place.is_dir():
        problem = f"{place} is a file, where {name} should have a folder: move it away, or set {option}."
        yield Finding(name, text, "fault", problem)
        return
    try:
        _write(place)
    except OSError as error:
        mend = "Free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "Give yourself permission"
        problem = f"{place} cannot be written: {error.strerror}. {mend}, or set {option} to another folder."
        yield Finding(name, text, "fault", problem)
        return
    if free < ENOUGH:
        problem = f"Only {amount(free)} are free for {name} in {folder}; {TYPICAL}. Free some, or set {option}."
        yield Finding(name, text, "fault", problem)
    else:
        yield Finding(name, f"{text}; {TYPICAL}" if name == "runs" else text)
    if name == "runs":
        yield _database(place, option)


def _write(folder: Path) -> None:
    """Really write a megabyte; OSError where that fails."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"\0" * 1_000_000)
        file.flush()
        os.fsync(file.fileno())


def _database(folder: Path, option: str) -> Finding:
    """Does SQLite keep a write-ahead log there, and do locks hold? Network folders often lack one or both."""
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".aasut-doctor-") as scratch:
            path = Path(scratch) / "test.db"
            with closing(connect(path, MIGRATIONS)) as database:
                mode = database.execute("PRAGMA journal_mode").fetchone()[0]
                with database:
                    database.execute("INSERT INTO opening VALUES ('a', 'b', 0)")
                with closing(sqlite3.connect(path)) as second:
                    seen = second.execute("SELECT COUNT(*) FROM opening").fetchone()[0]
            with (Path(scratch) / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (OSError, AasutError, sqlite3.Error) as error:
        reason = error.message if isinstance(error, AasutError) else str(error)
        problem = f"A database cannot be kept in {folder}: {reason.rstrip('.')}. Set {option} to a local disk."
        return Finding("database", "does not work", "fault", problem)
    if mode != "wal" or seen != 1:
        problem = (
            f"SQLite keeps no write-ahead log in {folder} (a network folder?), so that a kill could cost paid "
            f"answers: set {option} to a local disk."
        )
        return Finding("database", f"SQLite {sqlite3.sqlite_version}, no write-ahead log", "fault", problem)
    return Finding("database", f"SQLite {sqlite3.sqlite_version}, write-ahead log and locks work")


def _store(folder: Path) -> Iterator[Finding]:
    """The run store that is there, if one is."""
    if not (folder / "store.db").exists():
        yield Finding("store", "none yet")
        return
    try:
        with Store(folder, read_only=True) as store:
            held, runs = store.in_use(), len(store.runs())
    except AasutError as error:
        yield Finding("store", "cannot be used", "fault", str(error))
        return
    except sqlite3.DatabaseError as error:
        problem = f"{folder / 'store.db'} is damaged: {error}. aasut runs verify says more; move it away to start anew."
        yield Finding("store", "cannot be used", "fault", problem)
        return
    text = f"{runs:,} finished run{'' if runs == 1 else 's'}"
    if held:
        problem = f"{folder} is in use by {held}: a second run there is refused. Wait for it, or set --root."
        yield Finding("store", f"{text}, in use", "fault", problem)
    else:
        yield Finding("store", text)
