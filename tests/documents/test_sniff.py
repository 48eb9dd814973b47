"""Formats by content first, then by the name's ending."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from read_blocks import office, pdfs

from aasut.documents.fault import Fault
from aasut.documents.opened import opened
from aasut.documents.sniff import format_of

BOOK = b"<?xml version='1.0'?>\n<!-- c --><book><title>t</title></book>"
TYPED = b"<?xml version='1.0'?><!DOCTYPE chapter PUBLIC '-//OASIS//DTD DocBook XML V4.5//EN' 'x.dtd' [<!ENTITY a 'b'>]>"
PAGE = b"<!-- c -->\n<!DOCTYPE html>\n<html><body>x</body></html>"


def told(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with opened(str(path), 1 << 24) as file:
        return format_of(file)


@pytest.mark.parametrize(
    ("name", "data", "format"),
    [
        ("a.txt", pdfs.pdf(["x"]), "pdf"),
        ("a.pdf", b"junk before\n" + pdfs.pdf(["x"]), "pdf"),
        ("a", office.docx("x"), "docx"),
        ("a.docx", office.xlsx([["x"]]), "xlsx"),
        ("a.zip", office.pptx([("x", "y")]), "pptx"),
        ("a.pdf", PAGE, "html"),
        ("a", PAGE, "html"),
        ("a.xml", b"<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'><p>x</p></html>", "html"),
        ("a.htm", b"<p>only a piece</p>", "html"),
        ("a.docx", b"<div>saved as</div>", "html"),
        ("a.xml", BOOK, "docbook"),
        ("a", TYPED + b"<chapter>x</chapter>", "docbook"),
        ("a.xml", b"<?xml version='1.0'?><!DOCTYPE book [" + b"<!ENTITY a 'b'>" * 2000 + b"]><book/>", "docbook"),
        ("a.xml", "\ufeff<?xml version='1.0' encoding='utf-16'?><article/>".encode("utf-16-le"), "docbook"),
        ("a.docbook", b"plain", "docbook"),
        ("a.MD", b"<b>x</b>", "markdown"),
        ("a.markdown", b"x", "markdown"),
        ("a.csv", b"<a>,b\n", "csv"),
        ("a.tsv", b"a\tb\n", "tsv"),
        ("a.json", b"{}", "json"),
        ("a.jsonl", b"{}", "jsonl"),
        ("a.ndjson", b"{}", "jsonl"),
        ("a.csv.gz", gzip.compress(b"a,b\n", mtime=0), "csv"),
        ("a.gz", gzip.compress(PAGE, mtime=0), "html"),
        ("a.dbc", b"BO_ 1 x", "text"),
        ("README", "नियम".encode(), "text"),
        ("a.txt", b"<angle> brackets in a text", "text"),
        ("a.py", b"x < y", "text"),
        ("a.rst", b"<!-- x -->\nwords", "text"),
    ],
)  # fmt: skip
def test_formats(tmp_path: Path, name: str, data: bytes, format: str) -> None:
    assert told(tmp_path / name, data) == format


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.txt", b"", "no text in it"),
        ("a.txt", b" \n\t", "no text in it"),
        ("a.txt", bytes(9000), "not a document"),
        ("a.pdf", b"plain words", "not what its ending says"),
        ("a.epub", b"plain words", "not what its ending says"),
        ("a.pdf", b"\x89PNG\r\n\x1a\n\x00\x00\x00\r" + bytes(99), "not a document"),
        ("a.xml", b"plain words", "not what its ending says"),
        ("a.xml", b"<?xml version='1.0'?><project/>", "XML that is neither DocBook nor XHTML"),
        ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "XML that is neither DocBook nor XHTML"),
        ("a.xlsx", b"PK\x05\x06" + bytes(18), "a ZIP archive, not a document"),
        ("a.odt", office.zipped({"mimetype": b"application/vnd.oasis.opendocument"}), "a ZIP archive, not a document"),
        ("a.doc", office.OLE + bytes(600), "an old binary office file, which is not read"),
        ("a.docx", office.OLE + "EncryptedPackage".encode("utf-16-le"), "an encrypted office file"),
        ("a.rtf", rb"{\rtf1 x}", "RTF, which is not read"),
        ("a.ps", b"%!PS-Adobe", "PostScript, which is not read"),
        ("a.7z", b"7z\xbc\xaf\x27\x1c1", "an archive, not a document"),
        ("a.tar", bytes(257).replace(b"\0", b"x") + b"ustar\x0000", "an archive, not a document"),
    ],
)  # fmt: skip
def test_what_is_not_read(tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    with pytest.raises(Fault) as caught:
        told(tmp_path / name, data)
    assert caught.value.reason == reason
