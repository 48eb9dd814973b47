"""The run store: finished artefacts by fingerprint, with their lineage, in SQLite and plain folders.

A stage's fingerprint is the hash of its name, its version, its settings and its parents'
fingerprints. `stage` returns the artefact of that fingerprint if it is there, else builds it in a
working folder that survives a kill, and moves it into place when it is whole.

    <root>/store.db          what is there, made from what, how often a split was opened
    <root>/artefacts/<fp>/   files of a finished artefact
    <root>/work/<fp>/        files of an unfinished one, for the next attempt to go on from
    <root>/lock              held while a run is under way
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from aasut.errors import ConservationError, StoreError
from aasut.files import (
    TIMINGS,
    connect,
    connect_read_only,
    digest,
    disk_errors,
    file_hash,
    folder_hash,
    plain,
    write_atomically,
)
from aasut.types import Conservation

__all__ = [
    "MIGRATIONS",
    "TIMINGS",
    "Artefact",
    "Attempt",
    "Entry",
    "FinishedRun",
    "Store",
    "check_conservation",
    "connect",
    "digest",
    "disk_errors",
    "file_hash",
    "folder_hash",
    "write_atomically",
]

# Append-only: never edit an entry, add one.
MIGRATIONS = (
    """
    CREATE TABLE artefact (
        fingerprint TEXT PRIMARY KEY, stage TEXT NOT NULL, version INTEGER NOT NULL, settings TEXT NOT NULL,
        content TEXT NOT NULL, facts TEXT NOT NULL, created REAL NOT NULL, seconds REAL NOT NULL
    );
    CREATE TABLE parent (
        fingerprint TEXT NOT NULL REFERENCES artefact, position INTEGER NOT NULL, parent TEXT NOT NULL,
        PRIMARY KEY (fingerprint, position)
    );
    CREATE TABLE opening (split TEXT NOT NULL, stage TEXT NOT NULL, at REAL NOT NULL);
    """,
    """
    CREATE TABLE run (name TEXT NOT NULL, report TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (name, report));
    INSERT INTO run SELECT json_extract(settings, '$[0].name'), fingerprint, created FROM artefact
        WHERE stage = 'report' AND json_extract(settings, '$[0].name') IS NOT NULL;
    CREATE TABLE attempt (fingerprint TEXT PRIMARY KEY, stage TEXT NOT NULL, parents TEXT NOT NULL, at REAL NOT NULL);
    """,
)


@dataclass(frozen=True)
class Artefact:
    """A stage's finished result. `facts` is what the stage says of it; `content` hashes its files."""

    stage: str
    fingerprint: str
    path: Path
    content: str
    facts: dict[str, Any]
    seconds: float
    reused: bool


@dataclass(frozen=True)
class Entry:
    """What the store recorded of a finished artefact. `created` is in seconds since 1970."""

    fingerprint: str
    parents: tuple[str, ...]
    stage: str
    version: int
    content: str
    created: float
    seconds: float


def fingerprint_of(name: str, version: int, settings: Any, parents: Sequence[Artefact]) -> str:
    """What identifies a stage's result: the hash of its name, version and settings, and its parents' fingerprints."""
    flat = json.loads(json.dumps(settings, default=plain))
    return digest([name, version, flat, [parent.fingerprint for parent in parents]])[:20]


@dataclass(frozen=True)
class Attempt:
    """Work that was begun at `at` and is not finished."""

    fingerprint: str
    stage: str
    parents: tuple[str, ...]
    at: float


@dataclass(frozen=True)
class FinishedRun:
    """A run that reached its report: `report` is that artefact's fingerprint, `at` when it last did so."""

    name: str
    report: str
    at: float


class Store:
    """See the module's text. Open it as a context manager: it locks the folder for one process.

    Opened `read_only` it takes no lock, changes nothing, and works while another process runs.
    """

    database: sqlite3.Connection
    _lock: IO[str] | None = None

    def __init__(self, root: Path, *, read_only: bool = False) -> None:
        self.root, self.read_only = root, read_only

    def __enter__(self) -> Store:
        if self.read_only:
            self.database = self._read()
            return self
        with disk_errors(self.root):
            (self.root / "artefacts").mkdir(parents=True, exist_ok=True)
            (self.root / "work").mkdir(exist_ok=True)
            lock = (self.root / "lock").open("a+")
        try:
            if not _lock_now(lock):
                raise StoreError(
                    f"Another aasut run is using {self.root}{_holder(lock)}.", "Wait for it, or run in another folder."
                )
            with disk_errors(self.root / "lock"):
                lock.truncate(0)
                os.write(lock.fileno(), f"{os.getpid()}\n".encode())  # no buffer: closing it could fail once more
            self.database = connect(self.root / "store.db", MIGRATIONS)
        except BaseException:
            lock.close()
            raise
        self._lock = lock
        return self

    def _read(self) -> sqlite3.Connection:
        path = self.root / "store.db"
        if not path.is_file():
            raise StoreError(
                f"There are no runs in {self.root.parent}.", "Make one with aasut run RECIPE, or name its --root."
            )
        database = connect_read_only(path, MIGRATIONS)
        if database is None:  # written by an older aasut
            with Store(self.root):
                pass
            database = connect_read_only(path, MIGRATIONS)
        assert database is not None
        return database

    def __exit__(self, _kind: object, error: BaseException | None, _at: object) -> None:
        self.database.close()
        if self._lock is not None:
            self._lock.close()
        if isinstance(error, sqlite3.DatabaseError):
            raise self._damaged(error) from error
        if isinstance(error, OSError) and Path(str(error.filename)).is_relative_to(self.root):
            with disk_errors(Path(str(error.filename))):
                raise error

    def _damaged(self, error: sqlite3.DatabaseError) -> StoreError:
        """Names the database in this folder that the error comes from."""
        which = self.root
        for path in sorted(self.root.glob("*.db")):
            try:
                with closing(sqlite3.connect(path)) as database:
                    whole = database.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok"
            except sqlite3.DatabaseError:
                whole = False
            which = which if whole else path
        return StoreError(
            f"{which} is damaged: {error}.",
            "Mend it with sqlite3's .recover, or move it away; the run then goes on without what it held.",
        )

    def in_use(self) -> str:
        """Who holds the folder: "process 1234", or "" where no run is under way."""
        path = self.root / "lock"
        if not path.is_file():
            return ""
        with path.open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _holder(lock).strip(" ()") or "another process"
        return ""

    def stage(
        self,
        name: str,
        version: int,
        settings: Any,
        parents: Sequence[Artefact],
        build: Callable[[Path], dict[str, Any]],
    ) -> Artefact:
        """The artefact of these settings and parents; `build(folder) -> facts` makes it where it is missing.

        Facts under "conservation" ({rows: Conservation}) are checked here: no stage can lose a row.
        """
        settings = json.loads(json.dumps(settings, default=plain))
        fingerprint = fingerprint_of(name, version, settings, parents)
        found = self.find(fingerprint)
        if found is not None:
            return found
        work = self.root / "work" / fingerprint
        with disk_errors(work):
            work.mkdir(exist_ok=True)
            with self.database:
                self.database.execute(
                    "INSERT OR REPLACE INTO attempt VALUES (?, ?, ?, ?)",
                    (fingerprint, name, json.dumps([p.fingerprint for p in parents]), time.time()),
                )
            started = time.monotonic()
            facts = build(work)
            for what, rows in facts.get("conservation", {}).items():
                check_conservation(f"{name}: {what}", rows)
            facts = json.loads(json.dumps(facts, default=plain))
            seconds = time.monotonic() - started
            content = folder_hash(work)
            final = self.root / "artefacts" / fingerprint
            if final.exists():  # files without a row: the database was lost or the move was not recorded
                shutil.rmtree(final)
            work.rename(final)
            with self.database:
                self.database.execute(
                    "INSERT INTO artefact VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        fingerprint,
                        name,
                        version,
                        json.dumps(settings),
                        content,
                        json.dumps(facts),
                        time.time(),
                        seconds,
                    ),
                )
                self.database.executemany(
                    "INSERT INTO parent VALUES (?, ?, ?)",
                    [(fingerprint, i, p.fingerprint) for i, p in enumerate(parents)],
                )
                self.database.execute("DELETE FROM attempt WHERE fingerprint = ?", (fingerprint,))
        return Artefact(name, fingerprint, final, content, facts, seconds, reused=False)

    def find(self, fingerprint: str) -> Artefact | None:
        """A finished artefact, None where there is none or its folder is gone."""
        row = self.database.execute(
            "SELECT stage, content, facts, seconds FROM artefact WHERE fingerprint = ?", (fingerprint,)
        ).fetchone()
        path = self.root / "artefacts" / fingerprint
        if row is None:
            return None
        if not path.is_dir():
            if not self.read_only:
                self.forget([fingerprint])
            return None
        return Artefact(row[0], fingerprint, path, row[1], json.loads(row[2]), row[3], reused=True)

    def entries(self) -> dict[str, Entry]:
        """Every finished artefact by its fingerprint."""
        parents: dict[str, list[str]] = {}
        for fingerprint, parent in self.database.execute("SELECT fingerprint, parent FROM parent ORDER BY position"):
            parents.setdefault(fingerprint, []).append(parent)
        rows = self.database.execute("SELECT fingerprint, stage, version, content, created, seconds FROM artefact")
        return {row[0]: Entry(row[0], tuple(parents.get(row[0], ())), *row[1:]) for row in rows}

    def settings(self, fingerprint: str) -> Any:
        """The settings, as plain data, that a finished artefact was made with."""
        row = self.database.execute("SELECT settings FROM artefact WHERE fingerprint = ?", (fingerprint,)).fetchone()
        return None if row is None else json.loads(row[0])

    def finished(self, name: str, report: Artefact) -> None:
        """Record that a run of this name reached this report."""
        with disk_errors(self.root), self.database:
            self.database.execute(
                "INSERT OR REPLACE INTO run VALUES (?, ?, ?)", (name, report.fingerprint, time.time())
            )

    def runs(self) -> list[FinishedRun]:
        """Every finished run, the newest first; those of one name differ in their report."""
        rows = self.database.execute("SELECT name, report, at FROM run ORDER BY at DESC, report")
        return [FinishedRun(*row) for row in rows]

    def attempts(self) -> dict[str, Attempt]:
        """Work that was begun and is not finished, by fingerprint."""
        rows = self.database.execute("SELECT fingerprint, stage, parents, at FROM attempt")
        return {row[0]: Attempt(row[0], row[1], tuple(json.loads(row[2])), row[3]) for row in rows}

    def forget(self, fingerprints: Collection[str], reports: Collection[str] = ()) -> None:
        """Delete the records of artefacts, of work begun and of the runs with these reports, all at once.

        Their files are left: without a record they are rubbish, which the next build or clean-up takes away.
        """
        with disk_errors(self.root), self.database:
            for table in ("artefact", "parent", "attempt"):
                self.database.executemany(
                    f"DELETE FROM {table} WHERE fingerprint = ?", [(name,) for name in fingerprints]
                )
            self.database.executemany("DELETE FROM run WHERE report = ?", [(name,) for name in reports])

    def lineage(self, artefact: Artefact) -> list[dict[str, Any]]:
        """The artefact and all it was made from, parents before children."""
        seen: dict[str, dict[str, Any]] = {}

        def visit(fingerprint: str) -> None:
            if fingerprint in seen:
                return
            parents = [
                row[0]
                for row in self.database.execute(
                    "SELECT parent FROM parent WHERE fingerprint = ? ORDER BY position", (fingerprint,)
                )
            ]
            for parent in parents:
                visit(parent)
            row = self.database.execute(
                "SELECT stage, version, content FROM artefact WHERE fingerprint = ?", (fingerprint,)
            ).fetchone()
            if row is not None:
                seen[fingerprint] = {
                    "stage": row[0],
                    "version": row[1],
                    "fingerprint": fingerprint,
                    "content": row[2],
                    "parents": parents,
                }

        visit(artefact.fingerprint)
        return list(seen.values())

    def verify(self) -> list[str]:
        """One line for each artefact whose files are missing or differ from what was recorded."""
        return [problem for entry in self.entries().values() if (problem := self.problem(entry))]

    def problem(self, entry: Entry) -> str:
        """What is wrong with an artefact's files, "" where nothing is."""
        path = self.root / "artefacts" / entry.fingerprint
        if not path.is_dir():
            return f"{entry.stage} {entry.fingerprint}: its folder is gone"
        try:
            same = folder_hash(path) == entry.content
        except OSError as error:
            return f"{entry.stage} {entry.fingerprint}: {error.filename} cannot be read: {error.strerror}"
        return "" if same else f"{entry.stage} {entry.fingerprint}: its files changed"

    def open_split(self, split: str, stage: str) -> None:
        """Record that the held-out split of this content hash is being looked at."""
        with self.database:
            self.database.execute("INSERT INTO opening VALUES (?, ?, ?)", (split, stage, time.time()))

    def openings(self, split: str) -> int:
        """How often a split was opened in this store."""
        row = self.database.execute("SELECT COUNT(*) FROM opening WHERE split = ?", (split,)).fetchone()
        return int(row[0])


def check_conservation(what: str, rows: Conservation) -> None:
    """Raise ConservationError unless rows in = kept + dropped + failed."""
    if not rows.balanced:
        raise ConservationError(
            f"{what}: {rows.rows_in} rows came in, but {rows.kept} kept, {sum(rows.dropped.values())} dropped and "
            f"{sum(rows.failed.values())} failed do not add up to that.",
            "This is a defect of aasut; please report it with the recipe.",
        )


def _lock_now(lock: IO[str]) -> bool:
    """Take the lock; once more after a moment, as who only looks whether a run is under way holds it for an instant."""
    for wait in (0.02, 0.0):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(wait)
    return False


def _holder(lock: IO[str]) -> str:
    """ " (process 1234)", from what the holder wrote into the lock file."""
    lock.seek(0)
    said = lock.read(20).strip()
    return f" (process {said})" if said.isdigit() else ""
