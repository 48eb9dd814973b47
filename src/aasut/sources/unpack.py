"""Unpacking packages: plain files only, below one folder, and no more than a package may hold."""

from __future__ import annotations

import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from aasut.errors import DataError
from aasut.sources import debian

MOST_TIMES, FREE = 100, 1 << 26  # a package may unpack to so many times its size, and to so many bytes in any case
MOST_FILES = 1_000_000
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)
Member = tuple[str, IO[bytes]]


def unpack(package: Path, folder: Path) -> dict[str, int]:
    """Write the plain files of a wheel, a source distribution or a .deb below `folder`; their sizes by path, with `/`.

    Links are left out: what they lead to inside the package stands there under its own name. The last of two members
    of one name counts. Raises DataError for a broken package, for one that would write outside the folder, and for
    one that holds far more than it is large, a bomb.
    """
    most = max(package.stat().st_size * MOST_TIMES, FREE)
    sizes: dict[str, int] = {}
    try:
        with _members(package) as members:
            for name, content in members:
                path = _inside(package, name)
                sizes[path] = _write(content, folder / path, most)
                most -= sizes[path]
                if most < 0 or len(sizes) > MOST_FILES:
                    raise DataError(
                        f"{package.name} unpacks to more than {MOST_TIMES} times its size.",
                        "It is refused as a bomb: name another package, or unpack it yourself and name the folder.",
                    )
    except (*_BROKEN, RuntimeError, FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{package.name} cannot be unpacked: {reason}.", "Pin another file of this package.") from None
    return sizes


@contextmanager
def _members(package: Path) -> Iterator[Iterator[Member]]:
    if package.suffix == ".deb":
        with debian.opened(package) as archive:
            yield _of_tar(archive)
    elif zipfile.is_zipfile(package):
        with zipfile.ZipFile(package) as packed:
            yield _of_zip(packed)
    else:
        with tarfile.open(package, "r|*") as archive:
            yield _of_tar(archive)


def _of_tar(archive: tarfile.TarFile) -> Iterator[Member]:
    for info in archive:
        if info.isreg() and (content := archive.extractfile(info)) is not None:
            yield info.name, content


def _of_zip(packed: zipfile.ZipFile) -> Iterator[Member]:
    for info in packed.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if not info.is_dir() and kind in (0, stat.S_IFREG):
            with packed.open(info) as content:
                yield info.filename, content


def _inside(package: Path, name: str) -> str:
    """The path of a member, relative and without `.`."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
        raise DataError(
            f"{package.name} would write outside its folder: {name!r}.", "It is refused: name another package."
        )
    return path.as_posix()


def _write(content: IO[bytes], path: Path, most: int) -> int:
    """Write a file, up to the piece that passes `most` bytes; how many were written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        while file.tell() <= most and (piece := content.read(1 << 20)):
            file.write(piece)
        return file.tell()
