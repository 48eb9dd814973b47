"""Members of archives: only the named one is read, and nothing lands beside the target."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from aasut.errors import DataError
from aasut.sources.archives import extract


def tar_bytes(files: dict[str, bytes], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def zip_bytes(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in files.items():
            packed.writestr(name, data)
    return buffer.getvalue()


def test_descends_through_tar_and_zip(tmp_path: Path) -> None:
    table = bytes(range(256)) * 5000
    inner = tar_bytes({"deep/t.csv": table, "deep/other.csv": b"no"}, "w:xz")
    (tmp_path / "outer.tar.gz").write_bytes(tar_bytes({"a/readme": b"", "a/in.zip": zip_bytes({"b/c.txz": inner})}))
    target = tmp_path / "out" / "t.csv"
    target.parent.mkdir()
    extract(tmp_path / "outer.tar.gz", ["a/in.zip", "b/c.txz", "deep/t.csv"], target)
    assert target.read_bytes() == table
    assert [path.name for path in target.parent.iterdir()] == ["t.csv"]


def test_a_member_is_written_to_the_target_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar_bytes({"../../evil.csv": b"x"}, "w"))
    target = tmp_path / "deep" / "er" / "t.csv"
    target.parent.mkdir(parents=True)
    extract(tmp_path / "a.tar", ["../../evil.csv"], target)
    assert target.read_bytes() == b"x"
    assert not (tmp_path / "evil.csv").exists()


@pytest.mark.parametrize("archive", ["a.tar.gz", "a.zip"])
def test_a_missing_member_is_named_with_those_present(tmp_path: Path, archive: str) -> None:
    files = {"x/one.csv": b"1", "x/two.txt": b"2"}
    (tmp_path / archive).write_bytes(zip_bytes(files) if archive.endswith("zip") else tar_bytes(files))
    with pytest.raises(DataError, match=rf"{archive} holds no file x/three\.csv\. Name one .* x/one\.csv\."):
        extract(tmp_path / archive, ["x/three.csv"], tmp_path / "t.csv")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        link = tarfile.TarInfo("t.csv")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
    with pytest.raises(DataError, match=r"holds no file t\.csv"):
        extract(tmp_path / "a.tar", ["t.csv"], tmp_path / "t.csv")
    assert not (tmp_path / "t.csv").exists()


def test_a_member_that_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(tar_bytes({"t.csv": b"a,b\n"}))
    with pytest.raises(DataError, match=r"a\.tar\.gz!t\.csv cannot be read as a tar or zip archive"):
        extract(tmp_path / "a.tar.gz", ["t.csv", "deeper.csv"], tmp_path / "t.csv")


def test_a_cut_archive_leaves_nothing_behind(tmp_path: Path) -> None:
    import random

    whole = tar_bytes({"t.csv": random.Random(1).randbytes(3_000_000)})
    (tmp_path / "a.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cannot be read as a tar or zip archive"):
        extract(tmp_path / "a.tar.gz", ["t.csv"], tmp_path / "t.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]
