"""Packages that tests make: wheels, Debian packages, and a repository of them that apt reads."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path


def tar(members: Sequence[tuple[str | tarfile.TarInfo, bytes]], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for member, data in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def deb(name: str, version: str, members: Sequence[tuple[str | tarfile.TarInfo, bytes]]) -> bytes:
    """A Debian package: an ar archive of its format's number, its control file and its files (deb(5))."""
    about = f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: n <n@n>\nDescription: x\n"
    parts = [
        ("debian-binary", b"2.0\n"),
        ("control.tar", tar([("./control", about.encode())])),
        ("data.tar", tar(members)),
    ]
    out = b"!<arch>\n"
    for part, data in parts:
        out += f"{part:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
    return out


def repository(root: Path, packages: Sequence[tuple[str, str, bytes]]) -> Path:
    """A repository of (name, version, file); gives apt's configuration (APT_CONFIG) that knows this one alone."""
    pool, state = root / "repository", root / "apt"
    for folder in (pool, state / "lists" / "partial", state / "archives" / "partial", state / "etc"):
        folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for name, version, data in packages:
        file = f"{name}_{version.replace(':', '%3a')}_all.deb"
        (pool / file).write_bytes(data)
        entries.append(
            f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: n <n@n>\nFilename: ./{file}\n"
            f"Size: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\nDescription: x\n"
        )
    (pool / "Packages").write_text("\n".join(entries))
    (state / "status").touch()
    (state / "etc" / "sources.list").write_text(f"deb [trusted=yes] file:{pool} ./\n")
    settings = {
        "Dir::State": state, "Dir::State::lists": state / "lists", "Dir::State::status": state / "status",
        "Dir::Cache": state, "Dir::Etc": state / "etc", "Dir::Etc::sourceparts": "-", "Dir::Etc::parts": "-",
        "Dir::Etc::main": "-", "APT::Sandbox::User": "",
    }  # fmt: skip
    config = state / "apt.conf"
    config.write_text("".join(f'{name} "{value}";\n' for name, value in settings.items()))
    return config


def update(config: Path) -> None:
    """Let apt read the repository."""
    subprocess.run(["apt-get", "update"], env={"APT_CONFIG": str(config), "PATH": "/usr/bin:/bin"}, check=True)


def wheel(name: str, members: dict[str, bytes], about: str = "") -> bytes:
    buffer = io.BytesIO()
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(buffer, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{about}")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return buffer.getvalue()


def publish(index: Path, name: str, file: str, data: bytes) -> None:
    """Put a file on a package's page of an index in a folder."""
    page = index / name
    page.mkdir(exist_ok=True)
    (page / file).write_bytes(data)
    with (page / "index.html").open("a") as html:
        html.write(f'<a href="{file}#sha256={hashlib.sha256(data).hexdigest()}">{file}</a><br>\n')
