"""Debian packages, fetched as the machine's own apt finds them and read without installing them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from aasut.errors import DataError
from aasut.store import disk_errors

_PIN = re.compile(r"[a-z0-9][a-z0-9+.-]+(?::[a-z0-9-]+)?=[0-9][A-Za-z0-9.+:~-]*")
_ELSEWHERE = "Unpack the package's files into a folder elsewhere and name that folder as the source."


def download(name_version: str, folder: Path) -> Path:
    """Download one package with apt-get, which needs no root for that; nothing is installed and no script is run.

    Raises DataError for a bad pin, where there is no apt, and where it has no such package or version.
    """
    if not _PIN.fullmatch(name_version):
        raise DataError(
            f"{name_version!r} does not pin a Debian package.", "Write NAME=VERSION, for example nut-doc=2.8.0-7."
        )
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as work:
            result = _run(["apt-get", "--quiet", "download", name_version], Path(work))
            files = [path for path in Path(work).iterdir() if path.suffix == ".deb"]
            if result.returncode == 0 and len(files) == 1:
                return Path(shutil.copy(files[0], folder / files[0].name))  # apt links to files of a local repository
    raise DataError(
        f"apt-get could not get {name_version}: {_reason(result.stderr)}.",
        "Check the name and the version (apt-cache policy), and run apt-get update if the package lists are missing.",
    )


@contextmanager
def opened(package: Path) -> Iterator[tarfile.TarFile]:
    """The files of a package as a tar archive, to be read once from its start.

    Raises DataError where dpkg-deb is missing or cannot read the package.
    """
    command = ["dpkg-deb", "--fsys-tarfile", str(package)]
    with tempfile.TemporaryFile("w+") as said:
        try:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, env=_environment())
        except FileNotFoundError:
            raise _missing("dpkg-deb") from None
        with process:
            assert process.stdout is not None
            try:
                with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                    yield archive
                while process.stdout.read(1 << 16):  # what pads the archive, or dpkg-deb would miss a reader
                    pass
            except tarfile.TarError as error:
                process.stdout.close()
                process.wait()
                raise DataError(f"{package.name} cannot be read: {_said(said) or error}.", "Fetch it again.") from None
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            raise DataError(f"{package.name} cannot be read: {_said(said)}.", "Fetch it again.")


def _said(file: IO[str]) -> str:
    file.seek(0)
    return " ".join(file.read(400).split()).rstrip(".")


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, cwd=folder, env=_environment(), capture_output=True, text=True, errors="replace", check=False
        )
    except FileNotFoundError:
        raise _missing(command[0]) from None


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C.UTF-8"}  # answers in English


def _missing(program: str) -> DataError:
    return DataError(f"This machine has no {program}, which deb: sources need.", _ELSEWHERE)


def _reason(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("E: ") for line in lines if line.startswith("E: ")]
    return (errors or lines or ["it gave no reason"])[0].rstrip(".")
