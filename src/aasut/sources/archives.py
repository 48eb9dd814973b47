"""Members of archives, and of archives inside them: tar (plain or compressed) and zip.

Only the named member is ever read; nothing is unpacked by the names that an archive holds.
"""

from __future__ import annotations

import lzma
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from aasut.errors import DataError
from aasut.store import disk_errors

_BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)


def extract(archive: Path, members: Sequence[str], target: Path) -> None:
    """Write `members[-1]` to `target`, whole or not at all; each member before it is an archive inside the last.

    Raises DataError for a member that is not there or is no plain file, and for a broken archive.
    """
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    trail = archive.name
    with ExitStack() as stack, disk_errors(target):
        inner: IO[bytes] = stack.enter_context(archive.open("rb"))
        for member in members:
            try:
                inner = stack.enter_context(_open(stack, inner, trail, member))
            except (*_BROKEN, RuntimeError) as error:
                raise _broken(trail, error) from None
            trail += f"!{member}"
        try:
            with partial.open("wb") as file:
                shutil.copyfileobj(inner, file, 1 << 20)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
        except _BROKEN as error:
            raise _broken(trail, error) from None
        finally:
            partial.unlink(missing_ok=True)


def _open(stack: ExitStack, file: IO[bytes], trail: str, member: str) -> IO[bytes]:
    """A member as a seekable file; `stack` keeps the archive open behind it."""
    if zipfile.is_zipfile(file):
        file.seek(0)
        packed = stack.enter_context(zipfile.ZipFile(file))
        if member not in packed.namelist() or member.endswith("/"):
            raise _missing(trail, member, packed.namelist())
        return packed.open(member)
    file.seek(0)
    tar = stack.enter_context(tarfile.TarFile.open(fileobj=file, mode="r:*"))
    found = next((info for info in tar if info.name == member), None)
    content = tar.extractfile(found) if found is not None and found.isreg() else None
    if content is None:
        raise _missing(trail, member, tar.getnames())
    return content


def _missing(trail: str, member: str, names: Sequence[str]) -> DataError:
    files = sorted(name for name in names if not name.endswith("/"))
    like = [name for name in files if Path(name).suffix == Path(member).suffix] or files
    shown = ", ".join(like[:5]) + (f" and {len(like) - 5} more" if len(like) > 5 else "")
    return DataError(f"{trail} holds no file {member}.", f"Name one that it holds, for example {shown or 'none'}.")


def _broken(trail: str, error: BaseException) -> DataError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return DataError(
        f"{trail} cannot be read as a tar or zip archive: {reason}.", "Put `!` after archives only, each as it is."
    )
