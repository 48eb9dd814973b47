"""Encodings: found where they can be, refused where they cannot; no byte is replaced."""

from __future__ import annotations

from pathlib import Path

import pytest
from read_blocks import HINDI, fault, texts, written

from aasut.documents.encoding import codec_of
from aasut.documents.opened import opened

GERMAN = "Für Überweisungen über größere Beträge gebührt eine Gebühr von fünf Euro.\n" * 10
RUSSIAN = "Для открытия счёта необходимо предъявить документ, удостоверяющий личность.\n" * 10


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_unicode_is_told_by_its_marks_and_zeros(tmp_path: Path, encoding: str) -> None:
    text = HINDI if encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32") else "plain words, many of them"
    data = text.encode(encoding)
    assert texts(written(tmp_path / "a.txt", data)) == [text]
    assert texts(written(tmp_path / "a.md", b"" + data)) == [text]


@pytest.mark.parametrize(("text", "encoding"), [(GERMAN, "cp1252"), (RUSSIAN, "cp1251")])
def test_older_encodings_are_guessed(tmp_path: Path, text: str, encoding: str) -> None:
    assert texts(written(tmp_path / "a.txt", text.encode(encoding))) == [text.rstrip()]


def test_a_declared_encoding_is_taken_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    assert texts(written(path, HINDI.encode("utf-16-le"), encoding="utf-16-le")) == [HINDI]
    assert texts(written(path, b"\xef\xbb\xbfwords", encoding="utf-8")) == ["words"]
    assert fault(path, "größer".encode("latin-1"), encoding="utf-8").reason == "not utf-8"
    assert fault(path, "words", encoding="klingon").reason == "documents.encoding is no encoding"
    assert fault(path, "words", encoding="base64").reason == "documents.encoding is no encoding"


def test_a_late_bad_byte_is_seen_before_anything_is_read(tmp_path: Path) -> None:
    data = (HINDI + "\n").encode() * 40_000
    path = tmp_path / "a.txt"
    path.write_bytes(data + b"\xff\n" + HINDI.encode())
    found = fault(path)
    assert found.reason == "text in no encoding that fits"
    told = int(found.detail.split()[-1].replace(",", ""))
    assert abs(told - len(data)) <= 4


def test_broken_utf_8_is_not_taken_for_another_encoding(tmp_path: Path) -> None:
    data = GERMAN.encode() + b"bad \xe4 byte\n" + GERMAN.encode()
    assert fault(tmp_path / "a.txt", data).reason == "text in no encoding that fits"


def test_a_letter_may_lie_over_the_pieces_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for shift in range(3):
        path.write_bytes(b"x" * shift + "क".encode() * 700_000)
        with opened(str(path), 1) as file:
            assert codec_of(file, "auto") == "utf-8"


def test_binary_is_no_text(tmp_path: Path) -> None:
    for data in (bytes(range(256)) * 40, b"\x00\x01\x02" * 500, b"text\x00" * 500, bytes(range(1, 32)) * 50):
        assert fault(tmp_path / "a.txt", data).reason == "not a document"
