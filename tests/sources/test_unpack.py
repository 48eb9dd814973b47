"""Unpacking: plain files below the folder, nothing else, nowhere else, no bombs."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from aasut.errors import DataError
from aasut.sources.unpack import FREE, unpack
from packages import deb, link, tar


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if not p.is_dir()}


def special(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    return info


MEMBERS = [
    ("./a/one.txt", b"1"),
    ("a/two", b"22"),
    (link("a/soft", "one.txt"), b""),
    (link("a/out", "../../../../etc/passwd"), b""),
    (link("a/hard", "a/two", tarfile.LNKTYPE), b""),
    (special("a/pipe", tarfile.FIFOTYPE), b""),
    (special("a/device", tarfile.CHRTYPE), b""),
    ("a/two", b"last"),
    ("हिन्दी.txt", b"3"),
]


@pytest.mark.parametrize("kind", ["p.deb", "p.tar.gz"])
def test_only_plain_files_are_written(tmp_path: Path, kind: str) -> None:
    data = deb("p", "1", MEMBERS) if kind.endswith("deb") else tar(MEMBERS, "w:gz")
    (tmp_path / kind).write_bytes(data)
    sizes = unpack(tmp_path / kind, tmp_path / "out")
    assert files(tmp_path / "out") == {"a/one.txt": b"1", "a/two": b"last", "हिन्दी.txt": b"3"}
    assert sizes == {"a/one.txt": 1, "a/two": 4, "हिन्दी.txt": 1}
    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))


def test_links_in_a_zip_are_left_out(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "p.whl", "w") as packed:
        packed.writestr("a/one.txt", b"1")
        info = zipfile.ZipInfo("a/link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        packed.writestr(info, "/etc/passwd")
        packed.writestr("a/folder/", b"")
    assert unpack(tmp_path / "p.whl", tmp_path / "out") == {"a/one.txt": 1}
    assert files(tmp_path / "out") == {"a/one.txt": b"1"}


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/tmp/evil", ".."])
@pytest.mark.parametrize("kind", ["p.deb", "p.tar", "p.whl"])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path: Path, kind: str, name: str) -> None:
    path = tmp_path / kind
    if kind == "p.whl":
        with zipfile.ZipFile(path, "w") as packed:
            packed.writestr(name, b"x")
    else:
        path.write_bytes(deb("p", "1", [(name, b"x")]) if kind == "p.deb" else tar([(name, b"x")]))
    with pytest.raises(DataError, match="would write outside its folder"):
        unpack(path, tmp_path / "deep" / "out")
    assert {p.name for p in tmp_path.rglob("*") if not p.is_dir()} == {kind}


def test_a_bomb_is_refused_before_it_is_written(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "p.whl", "w", zipfile.ZIP_DEFLATED) as packed, packed.open("zeros", "w") as file:
        for _ in range(100):
            file.write(bytes(1 << 20))
    with pytest.raises(DataError, match="unpacks to more than 100 times its size"):
        unpack(tmp_path / "p.whl", tmp_path / "out")
    assert (tmp_path / "out" / "zeros").stat().st_size <= FREE + (1 << 21)


@pytest.mark.parametrize("data", [b"", b"no archive", tar([("a", b"x" * 5000)])[:900], tar([("a", b"x")], "w:xz")[:80]])
def test_a_broken_package_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "p.tar").write_bytes(data)
    with pytest.raises(DataError, match=r"p\.tar cannot be unpacked: "):
        unpack(tmp_path / "p.tar", tmp_path / "out")


def test_an_encrypted_or_altered_member_and_a_file_as_folder_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr("a", b"content")
    whole = buffer.getvalue()
    (tmp_path / "altered.whl").write_bytes(whole.replace(b"content", b"CONTENT"))
    place = whole.index(b"PK\x01\x02") + 8
    (tmp_path / "locked.whl").write_bytes(whole[:6] + b"\x01" + whole[7:place] + b"\x01" + whole[place + 1 :])
    (tmp_path / "both.tar").write_bytes(tar([("a", b"x"), ("a/b", b"x")]))
    for name in ("altered.whl", "locked.whl", "both.tar"):
        with pytest.raises(DataError, match=f"{name} cannot be unpacked: "):
            unpack(tmp_path / name, tmp_path / name.partition(".")[0])
