"""A file as its reader gets it: an open stream, unpacked where it was packed, and what the recipe says of it."""

from __future__ import annotations

import gzip
import io
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from aasut.documents.fault import UNPACKED, Fault

GZIP_MARK = b"\x1f\x8b"
BUFFER = 1 << 16  # bytes


@dataclass(frozen=True, slots=True)
class Wanted:
    """What `documents` of a recipe says of a file, as plain values; see recipe.field.Documents and Records."""

    format: str = "auto"
    encoding: str = "auto"
    pattern: str | None = None
    fields: tuple[str, ...] = ()
    title: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """`stream` can be sought. `path` is the file's own where nothing was unpacked, else None.

    `name` is the file's, without the ending of its packing. `unpacked`: bytes to which a packed file may unpack.
    """

    stream: BinaryIO
    name: str
    path: str | None
    unpacked: int
    packed: bool = False

    @property
    def ending(self) -> str:
        """What follows the last dot of the name, in small letters."""
        return os.path.splitext(self.name)[1].lower()

    def head(self, size: int) -> bytes:
        """The first bytes; the stream then stands at its start."""
        self.stream.seek(0)
        head = self.stream.read(size)
        self.stream.seek(0)
        return head


@contextmanager
def opened(path: str, unpacked: int) -> Iterator[Opened]:
    """The file, which must be a plain one. Raises Fault where it is not, may not be read, or is packed twice."""
    name = os.path.basename(path)
    with _plain(path) as raw:
        stream: BinaryIO = io.BufferedReader(raw, BUFFER)
        if _begins(stream, GZIP_MARK):
            inner = _Unpacked(stream, unpacked)
            unzipped = cast(BinaryIO, io.BufferedReader(inner, BUFFER))
            if _begins(unzipped, GZIP_MARK):
                raise Fault("a packed file in a packed file")
            stem = name[:-3] if name.lower().endswith(".gz") else name
            yield Opened(unzipped, stem, None, unpacked, packed=True)
        else:
            yield Opened(stream, name, path, unpacked)


def _begins(stream: BinaryIO, mark: bytes) -> bool:
    found = stream.read(len(mark)) == mark
    stream.seek(0)
    return found


def _plain(path: str) -> io.FileIO:
    # Without O_NONBLOCK, opening a FIFO would wait for its writer for ever.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        if stat.S_ISLNK(os.lstat(path).st_mode):
            raise Fault("a symbolic link")
        number = os.open(path, flags)
    except FileNotFoundError:
        raise Fault("no longer there") from None
    except PermissionError:
        raise Fault("no permission to read it") from None
    except OSError as error:
        raise Fault("cannot be opened", error.strerror or "") from None
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise Fault("not a plain file")
    return io.FileIO(number, "rb")


class _Unpacked(io.RawIOBase):
    """What a gzip file holds, up to `most` bytes."""

    def __init__(self, packed: BinaryIO, most: int) -> None:
        self.inner, self.most = gzip.GzipFile(fileobj=packed), most

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        with _faults():
            place = self.inner.seek(offset, whence)
        if place > self.most:
            raise Fault(UNPACKED)
        return place

    def readinto(self, buffer: Any, /) -> int:
        with _faults():
            count = self.inner.readinto(buffer)
        if self.inner.tell() > self.most:
            raise Fault(UNPACKED)
        return count


@contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise Fault("a broken gzip file", str(error)) from None
