"""Opening: plain files alone, and what gzip packed up to a limit."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
from read_blocks import fault, texts, written

from aasut.documents.fault import Fault
from aasut.documents.opened import opened


def test_a_plain_file(tmp_path: Path) -> None:
    (tmp_path / "A.TXT").write_bytes(b"words")
    with opened(str(tmp_path / "A.TXT"), 1) as file:
        assert (file.name, file.path, file.ending, file.packed) == ("A.TXT", str(tmp_path / "A.TXT"), ".txt", False)
        assert file.head(3) == b"wor"
        assert file.stream.read() == b"words"


def test_a_packed_file_can_be_read_twice(tmp_path: Path) -> None:
    (tmp_path / "rows.csv.gz").write_bytes(gzip.compress(b"ab" * 50_000))
    with opened(str(tmp_path / "rows.csv.gz"), 100_000) as file:
        assert (file.name, file.path, file.ending, file.packed) == ("rows.csv", None, ".csv", True)
        assert file.stream.read() == file.stream.seek(0) * b"" + b"ab" * 50_000
        file.stream.seek(7)
        assert file.stream.read(2) == b"ba"


def test_the_limit_is_of_what_is_unpacked(tmp_path: Path) -> None:
    packed = gzip.compress(b"word " * 20_000)
    assert len(packed) < 1000
    assert fault(tmp_path / "a.txt.gz", packed, unpacked=99_999).reason == "unpacks to more than reading.unpacked_mb"
    with opened(str(tmp_path / "a.txt.gz"), 99_999) as file, pytest.raises(Fault):
        file.stream.read()
    with opened(str(tmp_path / "a.txt.gz"), 100_000) as file:
        assert len(file.stream.read()) == 100_000
    assert "".join(texts(written(tmp_path / "a.txt.gz", packed))).count("word") == 20_000


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: os.mkfifo(path), "not a plain file"),
        (lambda path: path.mkdir(), "not a plain file"),
        (lambda path: path.symlink_to("/etc/hostname"), "a symbolic link"),
        (lambda path: path.symlink_to(path), "a symbolic link"),
        (lambda _: None, "no longer there"),
    ],
)
def test_what_is_no_plain_file(tmp_path: Path, make, reason: str) -> None:  # type: ignore[no-untyped-def]
    make(tmp_path / "a.txt")
    with pytest.raises(Fault) as caught, opened(str(tmp_path / "a.txt"), 1):
        pass
    assert caught.value.reason == reason


def test_devices_are_no_files() -> None:
    with pytest.raises(Fault) as caught, opened("/dev/zero", 1):
        pass
    assert caught.value.reason == "not a plain file"


def test_broken_packing(tmp_path: Path) -> None:
    whole = gzip.compress(b"words and words\n" * 500)
    for data in (whole[:-9], whole[:30], whole[:-8] + bytes(8), whole + b"junk"):
        assert fault(tmp_path / "a.gz", data).reason == "a broken gzip file"
    assert fault(tmp_path / "a.gz", gzip.compress(whole)).reason == "a packed file in a packed file"
