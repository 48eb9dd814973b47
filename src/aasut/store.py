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

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from aasut.errors import AasutError, ConservationError, StoreError
from aasut.types import Conservation

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
)

TIMINGS = "timings.json"  # measured times; stands outside the content hash


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


def digest(value: Any) -> str:
    """SHA-256 of plain data in canonical JSON."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def fingerprint_of(name: str, version: int, settings: Any, parents: Sequence[Artefact]) -> str:
    """What identifies a stage's result: the hash of its name, version and settings, and its parents' fingerprints."""
    plain = json.loads(json.dumps(settings, default=_plain))
    return digest([name, version, plain, [parent.fingerprint for parent in parents]])[:20]


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_hash(path: Path) -> str:
    """One hash over the names and bytes of all files below `path`, measured times aside."""
    files = sorted(p for p in path.rglob("*") if p.is_file() and p.name != TIMINGS)
    return digest([[p.relative_to(path).as_posix(), file_hash(p)] for p in files])


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write a file so that a kill leaves the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with disk_errors(path):
        with partial.open("wb") as file:
            file.write(data.encode("utf-8") if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the system's complaint about a full disk or lost permission into one clear line."""
    try:
        yield
    except AasutError:
        raise
    except Exception as error:
        number = _system_error(error)
        if number in _FULL or getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
            raise StoreError(
                f"No space left for {path}.", "Free some space and run the same command again: finished work is kept."
            ) from error
        if number in _UNWRITABLE:
            raise StoreError(
                f"{path} cannot be written: {os.strerror(number)}.", "Check that it is a folder, and its permissions."
            ) from error
        if number in _GONE and not path.exists():
            raise StoreError(
                f"{path} was deleted or moved while it was in use.",
                "Run the same command again: finished work is kept.",
            ) from error
        if isinstance(error, sqlite3.OperationalError):
            raise StoreError(
                f"{path} cannot be used: {error}.", "Check that the disk has space and may be written."
            ) from error
        raise


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_UNWRITABLE = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EIO,
)  # fmt: skip
_GONE = (errno.ENOENT, errno.ESTALE)


def _system_error(error: Exception) -> int:
    """The system's number of an error, 0 for none."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    # Libraries that are not written in Python pass the system's words on in errors of their own.
    found = re.search(r"\bos error (\d+)", str(error))
    return int(found[1]) if found else 0


class Store:
    """See the module's text. Open it as a context manager: it locks the folder for one process."""

    database: sqlite3.Connection
    _lock: IO[str]

    def __init__(self, root: Path) -> None:
        self.root = root

    def __enter__(self) -> Store:
        with disk_errors(self.root):
            (self.root / "artefacts").mkdir(parents=True, exist_ok=True)
            (self.root / "work").mkdir(exist_ok=True)
            self._lock = (self.root / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.database = connect(self.root / "store.db", MIGRATIONS)
        except BlockingIOError:
            self._lock.close()
            raise StoreError(
                f"Another aasut run is using {self.root}.", "Wait for it, or run in another folder."
            ) from None
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _at: object) -> None:
        self.database.close()
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
        settings = json.loads(json.dumps(settings, default=_plain))
        fingerprint = fingerprint_of(name, version, settings, parents)
        found = self.find(fingerprint)
        if found is not None:
            return found
        work = self.root / "work" / fingerprint
        with disk_errors(work):
            work.mkdir(exist_ok=True)
            started = time.monotonic()
            facts = build(work)
            for what, rows in facts.get("conservation", {}).items():
                check_conservation(f"{name}: {what}", rows)
            facts = json.loads(json.dumps(facts, default=_plain))
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
            with self.database:
                self.database.execute("DELETE FROM artefact WHERE fingerprint = ?", (fingerprint,))
                self.database.execute("DELETE FROM parent WHERE fingerprint = ?", (fingerprint,))
            return None
        return Artefact(row[0], fingerprint, path, row[1], json.loads(row[2]), row[3], reused=True)

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
        problems = []
        for fingerprint, stage, content in self.database.execute("SELECT fingerprint, stage, content FROM artefact"):
            path = self.root / "artefacts" / fingerprint
            if not path.is_dir():
                problems.append(f"{stage} {fingerprint}: its folder is gone")
            elif folder_hash(path) != content:
                problems.append(f"{stage} {fingerprint}: its files changed")
        return problems

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


def connect(path: Path, migrations: Sequence[str]) -> sqlite3.Connection:
    """Open a SQLite database in WAL mode and bring it up to the last migration.

    Raises StoreError where the file is no database, or was written by a newer aasut.
    """
    with disk_errors(path):
        database = sqlite3.connect(path, timeout=60)
    try:
        with disk_errors(path):
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            have = database.execute("PRAGMA user_version").fetchone()[0]
            if have > len(migrations):
                raise StoreError(f"{path} was written by a newer aasut.", "Upgrade aasut, or use another folder.")
            for number, script in enumerate(migrations[have:], have + 1):
                database.executescript(f"BEGIN; {script} PRAGMA user_version = {number}; COMMIT;")
    except sqlite3.DatabaseError as error:
        database.close()
        raise StoreError(f"{path} cannot be opened: {error}.", "Move it away if it is damaged.") from None
    except StoreError:
        database.close()
        raise
    return database


def _plain(value: Any) -> Any:
    if isinstance(value, Conservation):
        return value.as_dict()
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be recorded")
