"""Bad documents: broken, odd, hard or out to do harm. Each is a file; what may come of it is said beside it."""

from __future__ import annotations

import codecs
import io
import os
import tarfile
from pathlib import Path

from hostile_cases import bad_packed, bad_texts, office, pdfs
from hostile_cases.bad_file import BadFile, Lure, given, made
from hostile_cases.office import docx


def cases(large: int = 8 << 20) -> list[BadFile]:
    """All of them; `large`: bytes of long lines, at least; bombs unpack to some times that."""
    return [*_any(), *bad_texts.cases(large), *bad_packed.cases(large), *_places()]


def _any() -> list[BadFile]:
    """Files of no format that is read, or of another than their names say."""
    png = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(range(256)) * 8
    page = "<!doctype html><html><body><h1>Bill</h1><p>Twelve rupees.</p></body></html>"
    tarred = io.BytesIO()
    with tarfile.open(fileobj=tarred, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../escape.txt"), io.BytesIO(b""))
    return [
        given("empty.txt", b"", reason="no text"),
        given("blank.md", b" \n\t\n \r\n", reason="no text"),
        given("mark alone.txt", codecs.BOM_UTF8, reason="no text"),
        given("zeros.pdf", bytes(100_000), reason="not a document"),
        given("every byte.txt", bytes(range(256)) * 64, reason="not a document"),
        given("picture.png", png, reason="not a document"),
        given("picture.pdf", png, reason="not a document"),
        given("program", b"\x7fELF\x02\x01\x01" + bytes(500) + os.urandom(500), reason="not a document"),
        given("program.docx", b"MZ\x90\x00\x03" + bytes(500), reason="not a document"),
        given("page.pdf", page.encode(), may="read", text="Twelve rupees"),
        given("page.docx", page.encode(), may="read", text="Twelve rupees"),
        given("text.pdf", b"Only text.\n", reason="not what its ending says"),
        given("text.xlsx", b"a,b\n1,2\n", reason="not what its ending says"),
        made("office.txt", lambda _: docx("A letter."), may="read", text="A letter."),
        made("portable.html", lambda _: pdfs.pdf(["Hello there"]), may="read", text="Hello there"),
        given("letter.rtf", rb"{\rtf1\ansi Hello {\object\objdata 0105}}", reason="RTF"),
        given("letter.doc", office.OLE + bytes(3000), reason="old binary"),
        given(
            "locked.docx",
            office.OLE + bytes(500) + "EncryptedPackage".encode("utf-16-le") + bytes(500),
            "fail",
            "encrypted office file",
        ),
        given(
            "drawing.svg",
            b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script><text>x</text></svg>',
            reason="neither DocBook",
        ),
        given("page.ps", b"%!PS\n(/bin/sh) (r) file\nshowpage\n", reason="PostScript"),
        given("all.tar", tarred.getvalue(), reason="archive"),
        given("all.7z", b"7z\xbc\xaf\x27\x1c" + os.urandom(200), reason="archive"),
        given("code.pyc", b"\xa7\r\r\n" + bytes(12) + b"\xe3" + bytes(60), reason="not a document"),
    ]


def _places() -> list[BadFile]:
    """What is no plain file."""

    def unreadable(path: Path, lure: Lure) -> None:
        path.write_bytes(b"secret words\n")
        path.chmod(0)

    return [
        BadFile("link.txt", lambda path, lure: path.symlink_to(lure.secret), reason="symbolic link"),
        BadFile("dangling.txt", lambda path, _: path.symlink_to("nowhere"), reason="symbolic link"),
        BadFile("loop.txt", lambda path, _: path.symlink_to(path), reason="symbolic link"),
        BadFile("pipe.txt", lambda path, _: os.mkfifo(path), reason="plain file"),
        BadFile("folder.txt", lambda path, _: path.mkdir(), reason="plain file"),
        BadFile("missing.txt", lambda _path, _: None, reason="no longer there"),
        # The superuser may read all.
        BadFile("unreadable.txt", unreadable, "fail" if os.geteuid() else "read", "permission" if os.geteuid() else ""),
    ]
