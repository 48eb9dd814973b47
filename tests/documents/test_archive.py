"""Office files are looked at before they are unpacked."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import pytest
from read_blocks import fault, office, texts, written

from aasut.documents import archive
from aasut.documents.opened import opened


def test_a_good_one(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_bytes(office.docx("words"))
    with opened(str(tmp_path / "a.docx"), 1 << 20) as file, archive.checked(file) as checked:
        assert "word/document.xml" in checked.namelist()


@pytest.mark.parametrize(
    "name", ["../x", "/x", "a/../../x", "..\\x", "\\x", "C:x", "c:\\x", "a/..", "..", "a\\..\\b", "//host/x"]
)
def test_paths_that_lead_out(tmp_path: Path, name: str) -> None:
    found = fault(tmp_path / "a.docx", office.docx("x", more={name: b"x"}))
    assert found.reason == "an archive with paths that lead out of it"


@pytest.mark.parametrize("name", ["a..b/x", "..a/x", "x..", "a b/ü.png", "word/media/....png"])
def test_dots_alone_do_no_harm(tmp_path: Path, name: str) -> None:
    assert texts(written(tmp_path / "a.docx", office.docx("words", more={name: b"x"}))) == ["words"]


def test_sizes_are_told_before_anything_is_unpacked(tmp_path: Path) -> None:
    data = office.docx("x", more={"word/media/bomb.png": bytes(3 << 20)})
    assert len(data) < 10_000
    assert fault(tmp_path / "a.docx", data, unpacked=3 << 20).reason == "unpacks to more than reading.unpacked_mb"
    assert texts(written(tmp_path / "a.docx", data)) == ["x"]


def test_a_member_gives_no_more_than_it_declares(tmp_path: Path) -> None:
    data = bytearray(office.docx("words " * 9000))
    place = -1
    while (place := data.find(b"PK\x01\x02", place + 1)) >= 0:
        struct.pack_into("<L", data, place + 24, 50)
    assert fault(tmp_path / "a.docx", bytes(data)).reason == "a broken ZIP archive"


def test_links_twins_locks_and_crowds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.docx"
    assert fault(path, office.docx("x", link="/etc/passwd")).reason == "an archive with links"
    assert fault(path, office.docx("x", twice=True)).reason == "an archive with two members of one name"
    locked = bytearray(office.docx("x"))
    locked[locked.find(b"PK\x01\x02") + 8] |= 1
    assert fault(path, bytes(locked)).reason == "an encrypted archive"
    monkeypatch.setattr(archive, "MEMBERS", 4)
    assert fault(path, office.docx("x")).reason == "an archive of too many members"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("part", ["word/document.xml", "word/styles.xml", "customXml/item1.xml", "_rels/.rels"])
def test_no_part_may_have_a_dtd(tmp_path: Path, part: str, encoding: str) -> None:
    text = f'<?xml version="1.0" encoding="{encoding}"?><!-- {"x" * 9000} --><!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'
    data = office.docx("x", more={part: text.encode(encoding)})
    assert fault(tmp_path / "a.docx", data).reason == "an office file with a DTD"


def test_broken_archives(tmp_path: Path) -> None:
    whole = office.docx("words " * 5000)
    for data in (whole[:-30], whole[: len(whole) // 2], b"PK\x03\x04" + bytes(500)):
        assert fault(tmp_path / "a.docx", data).reason == "a broken ZIP archive"
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    assert fault(tmp_path / "a.docx", empty.getvalue()).reason == "a ZIP archive, not a document"
