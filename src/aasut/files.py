"""Files and databases that a kill, a full disk or a lost permission leaves whole; hashes of what they hold."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aasut.errors import AasutError, StoreError
from aasut.types import Conservation

TIMINGS = "timings.json"  # measured times; stands outside the content hash


def digest(value: Any) -> str:
    """SHA-256 of plain data in canonical JSON."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=plain)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


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
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG,
    errno.ELOOP, errno.EIO,
)  # fmt: skip
_GONE = (errno.ENOENT, errno.ESTALE)


def _system_error(error: Exception) -> int:
    """The system's number of an error, 0 for none."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    # Libraries that are not written in Python pass the system's words on in errors of their own.
    found = re.search(r"\bos error (\d+)", str(error))
    return int(found[1]) if found else 0


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


def connect_read_only(path: Path, migrations: Sequence[str]) -> sqlite3.Connection | None:
    """Open a database that exists so that nothing can be changed; None where an older aasut wrote it.

    Raises StoreError where the file is no database, or was written by a newer aasut.
    """
    # "immutable" does without the files that WAL mode lays beside the database, for folders that may not be written.
    for mode in ("mode=rw", "immutable=1"):
        try:
            database = sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, timeout=60)
            database.execute("PRAGMA query_only = ON")
            have = database.execute("PRAGMA user_version").fetchone()[0]
            database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        except sqlite3.OperationalError as error:
            reason: sqlite3.DatabaseError = error
        except sqlite3.DatabaseError as error:
            reason = error
            break
        else:
            if have == len(migrations):
                return database
            database.close()
            if have > len(migrations):
                raise StoreError(f"{path} was written by a newer aasut.", "Upgrade aasut, or use another folder.")
            return None
    raise StoreError(f"{path} cannot be opened: {reason}.", "Move it away if it is damaged.") from None


def plain(value: Any) -> Any:
    """What JSON cannot say by itself, as plain data; TypeError for what has no plain form."""
    if isinstance(value, Conservation):
        return value.as_dict()
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be recorded")
