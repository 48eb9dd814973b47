"""The run store: finished artefacts by fingerprint, with their lineage, in SQLite and plain folders.

A stage's fingerprint is the hash of its name, its version, its settings and its parents'
fingerprints. `stage` returns the artefact of that fingerprint if it is there, else builds it in a
working folder that survives a kill, and moves it into place when it is whole.

    <root>/store.db          what is there, made from what, how often a split was opened
    <root>/artefacts/<fp>/   files of a finished artefact
    <root>/work/<fp>/        files of an unfinished one, for the next attempt to go on from
    <root>/lock              held while a run is under way
    <root>/locks/<fp>.lock   held while a process beside that run works on a stage
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
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
from aasut.lock import alone, holder, take
from aasut.records import MIGRATIONS, Artefact, Entry, Records
from aasut.types import Conservation

__all__ = [
    "TIMINGS",
    "Artefact",
    "Store",
    "check_conservation",
    "connect",
    "digest",
    "disk_errors",
    "file_hash",
    "folder_hash",
    "write_atomically",
]


LOCKS = "locks"  # folder of the store


def fingerprint_of(name: str, version: int, settings: Any, parents: Sequence[Artefact]) -> str:
    """What identifies a stage's result: the hash of its name, version and settings, and its parents' fingerprints."""
    flat = json.loads(json.dumps(settings, default=plain))
    return digest([name, version, flat, [parent.fingerprint for parent in parents]])[:20]


class Store(Records):
    """See the module's text. Open it as a context manager: it locks the folder for one process.

    Opened `read_only` it takes no lock, changes nothing, and works while another process runs. Opened `beside`, it
    works in the store that the process which started this one holds, and which others may work in too: one at a time
    on a stage.
    """

    _lock: IO[str] | None = None

    def __init__(self, root: Path, *, read_only: bool = False, beside: bool = False) -> None:
        self.root, self.read_only, self.beside = root, read_only, beside

    def __enter__(self) -> Store:
        if self.read_only:
            self.database = self._read()
            return self
        if self.beside:
            if self.in_use() != f"process {os.getppid()}":
                raise StoreError(
                    f"{self.root} is not held by the process that started this one.", "Leave --beside out."
                )
            self.database = connect(self.root / "store.db", MIGRATIONS)
            return self
        with disk_errors(self.root):
            (self.root / "artefacts").mkdir(parents=True, exist_ok=True)
            (self.root / "work").mkdir(exist_ok=True)
        lock = take(self.root / "lock")
        if lock is None:
            who = self.in_use()
            raise StoreError(
                f"Another aasut run is using {self.root}{f' ({who})' if who else ''}.",
                "Wait for it, or run in another folder.",
            )
        try:
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
        """Who holds the folder, such as "process 1234"; "" where no run is under way."""
        return holder(self.root / "lock")

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
        with alone(self.root / LOCKS / f"{fingerprint}.lock") if self.beside else nullcontext():
            found = self.find(fingerprint)
            return found or self._made(fingerprint, name, version, settings, parents, build)

    def _made(
        self,
        fingerprint: str,
        name: str,
        version: int,
        settings: Any,
        parents: Sequence[Artefact],
        build: Callable[[Path], dict[str, Any]],
    ) -> Artefact:
        work = self.root / "work" / fingerprint
        with disk_errors(work):
            work.mkdir(exist_ok=True)
            self.begin(fingerprint, name, parents)
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
            made = Artefact(name, fingerprint, final, content, facts, seconds, reused=False)
            self.record(made, version, settings, parents)
        return made

    def made(self, name: str, version: int, settings: Any, parents: Sequence[Artefact]) -> bool:
        """Is the artefact of these settings and parents there?"""
        settings = json.loads(json.dumps(settings, default=plain))
        return self.find(fingerprint_of(name, version, settings, parents)) is not None

    def find(self, fingerprint: str) -> Artefact | None:
        """A finished artefact, None where there is none or its folder is gone."""
        found = self.recorded(fingerprint)
        if found is None or found.path.is_dir():
            return found
        if not self.read_only:
            self.forget([fingerprint])
        return None

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


def check_conservation(what: str, rows: Conservation) -> None:
    """Raise ConservationError unless rows in = kept + dropped + failed."""
    if not rows.balanced:
        raise ConservationError(
            f"{what}: {rows.rows_in} rows came in, but {rows.kept} kept, {sum(rows.dropped.values())} dropped and "
            f"{sum(rows.failed.values())} failed do not add up to that.",
            "This is a defect of aasut; please report it with the recipe.",
        )
