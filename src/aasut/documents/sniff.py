"""Which format a file has: by its content first, then by the ending of its name."""

from __future__ import annotations

import codecs
import re

from aasut.documents.archive import checked
from aasut.documents.docbook_names import ELEMENTS
from aasut.documents.encoding import MARKS, is_binary
from aasut.documents.fault import EMPTY, NOT_A_DOCUMENT, Fault
from aasut.documents.opened import Opened

HEAD = 8192  # bytes looked at
ENDINGS = {
    ".md": "markdown", ".markdown": "markdown", ".mdown": "markdown", ".csv": "csv", ".tsv": "tsv", ".tab": "tsv",
    ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".html": "html", ".htm": "html", ".xhtml": "html",
    ".docbook": "docbook", ".dbk": "docbook",
}  # fmt: skip
SOLID = {".pdf": "PDF", ".docx": "DOCX", ".pptx": "PPTX", ".xlsx": "XLSX", ".docm": "DOCX", ".pptm": "PPTX",
         ".xlsm": "XLSX", ".doc": "Word", ".ppt": "PowerPoint", ".xls": "Excel", ".odt": "OpenDocument",
         ".ods": "OpenDocument", ".odp": "OpenDocument", ".epub": "EPUB"}  # fmt: skip
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_OTHERS = (
    (b"{\\rtf", "RTF, which is not read"),
    (b"%!PS", "PostScript, which is not read"),
    (b"7z\xbc\xaf\x27\x1c", "an archive, not a document"),
    (b"Rar!\x1a\x07", "an archive, not a document"),
    (b"BZh", "an archive, not a document"),
    (b"\xfd7zXZ\x00", "an archive, not a document"),
    (b"\x28\xb5\x2f\xfd", "an archive, not a document"),
    (b"!<arch>\n", "an archive, not a document"),
)
_OFFICE = (
    (b"wordprocessingml", "docx", "word/document.xml"),
    (b"ms-word", "docx", "word/document.xml"),
    (b"presentationml", "pptx", "ppt/presentation.xml"),
    (b"ms-powerpoint", "pptx", "ppt/presentation.xml"),
    (b"spreadsheetml", "xlsx", "xl/workbook.xml"),
    (b"ms-excel", "xlsx", "xl/workbook.xml"),
)
_PROLOG = re.compile(r"\s*(<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^\[>]*(\[.*?\]\s*)?>)", re.DOTALL | re.IGNORECASE)
_TYPE = re.compile(r"\s*<!DOCTYPE\s+([\w.-]+)", re.IGNORECASE)
_ROOT = re.compile(r"\s*<(?:([A-Za-z_][\w.-]*):)?([A-Za-z_][\w.-]*)[\s/>]")


def format_of(file: Opened) -> str:
    """One of recipe.field.Format. Raises Fault for what is no document, and where content and ending disagree."""
    head = file.head(HEAD)
    if not head.strip(b"\0 \t\r\n"):
        raise Fault(EMPTY if not head.strip() else NOT_A_DOCUMENT)
    if b"%PDF-" in head[:1024]:
        return "pdf"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _office(file)
    if head.startswith(_OLE):
        raise Fault(_old(file))
    for mark, reason in _OTHERS:
        if head.startswith(mark):
            raise Fault(reason)
    if head[257:262] == b"ustar":
        raise Fault("an archive, not a document")
    return _marked_up(file, _rough(head)) or _by_ending(file, head)


def _by_ending(file: Opened, head: bytes) -> str:
    if file.ending in SOLID and is_binary(head):
        raise Fault(NOT_A_DOCUMENT, "binary")
    if (kind := SOLID.get(file.ending)) is not None:
        raise Fault("not what its ending says", f"no {kind}")
    return ENDINGS.get(file.ending, "text")


def _office(file: Opened) -> str:
    with checked(file) as archive:
        names = set(archive.namelist())
        if "[Content_Types].xml" not in names:
            raise Fault("a ZIP archive, not a document")
        types = archive.read("[Content_Types].xml")
        for _, kind, member in _OFFICE:
            if member in names:
                return kind
        for mark, kind, _ in _OFFICE:
            if mark in types:
                return kind
    raise Fault("a ZIP archive, not a document")


def _old(file: Opened) -> str:
    """An encrypted office file lies in the container of the old ones."""
    directory = file.head(1 << 20)
    if "EncryptedPackage".encode("utf-16-le") in directory:
        return "an encrypted office file"
    return "an old binary office file, which is not read"


def _rough(head: bytes) -> str:
    """The head as text, good enough to see its markup."""
    for mark, codec in MARKS:
        if head.startswith(mark):
            return codecs.getincrementaldecoder(codec)("replace").decode(head)
    return head.decode("latin-1")


def _marked_up(file: Opened, head: str) -> str | None:
    """html or docbook, None for what begins with no markup."""
    place, prolog = 0, ""
    while found := _PROLOG.match(head, place):
        place = found.end()
        prolog += found[0].lower()
    root = _ROOT.match(head, place)
    ending = ENDINGS.get(file.ending)
    if ending in ("markdown", "csv", "tsv", "json", "jsonl"):
        return None
    if "<!doctype html" in prolog or (root and root[2].lower() in ("html", "head", "body")):
        return "html"
    if root and not (ending or prolog or file.ending == ".xml" or "xmlns" in head[place : place + 500]):
        return "html" if file.ending in SOLID and "</" in head else None
    if root is None:
        # A document type may be longer than what is looked at.
        named = _TYPE.match(head, place)
        if "docbook" in prolog or (named and (named[1] in ELEMENTS or "docbook" in head.lower())):
            return "docbook"
        if file.ending == ".xml":
            raise Fault("not what its ending says", "no XML")
        return ending
    if root[2] in ELEMENTS or "docbook" in prolog or "docbook.org/ns/docbook" in head:
        return "docbook"
    if ending:
        return ending
    raise Fault("XML that is neither DocBook nor XHTML", ascii(root[2])[:80])
