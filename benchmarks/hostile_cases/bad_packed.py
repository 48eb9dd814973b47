"""Bad archives, office files and PDFs."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from pathlib import Path

from hostile_cases import office, pdfs
from hostile_cases.bad_file import BadFile, Lure, given, made
from hostile_cases.office import CORE, docx, pptx, xlsx, zipped


def cases(large: int) -> list[BadFile]:
    """All of them."""
    return [*_archives(large), *_office(), *_pdf(large)]


def _archives(large: int) -> list[BadFile]:
    quine = gzip.compress(gzip.compress(b"text\n"))

    def bomb(path: Path, lure: Lure) -> None:
        with gzip.open(path, "wb", 6) as file:
            for _ in range(3 * large >> 20):
                file.write(b"word word word\n" * 69_906)

    def zeros(path: Path, lure: Lure) -> None:
        with gzip.open(path, "wb", 6) as file:
            for _ in range(3 * large >> 20):
                file.write(bytes(1 << 20))

    def lying(lure: Lure) -> bytes:
        """A member that unpacks to more than it declares."""
        body = CORE.replace(b"BODY", b"<w:p><w:r><w:t>" + b"x" * 5_000_000 + b"</w:t></w:r></w:p>")
        data = bytearray(docx("x", more={"word/document.xml": body}))
        for place in _all(data, b"PK\x01\x02"):
            struct.pack_into("<L", data, place + 24, 100)
        return bytes(data)

    return [
        given("cut.txt.gz", gzip.compress(b"words and words\n" * 5000)[:-50], reason="gzip"),
        given("scribbled.txt.gz", _scribbled(gzip.compress(os.urandom(5000).hex().encode())), reason="gzip"),
        given("checksum.txt.gz", gzip.compress(b"words\n" * 50)[:-8] + bytes(8), reason="gzip"),
        given("twice.txt.gz", quine, reason="packed file in a packed file"),
        given("tail.txt.gz", gzip.compress(b"words\n" * 50) + b"PK\x03\x04junk", reason="gzip"),
        BadFile("bomb.txt.gz", bomb, reason="unpacks"),
        BadFile("zeros.gz", zeros, may="fail"),
        made("letter.docx.gz", lambda _: gzip.compress(docx("A letter.")), may="read", text="A letter."),
        made("plain.zip", lambda _: zipped({"a.txt": b"text"}), reason="ZIP archive"),
        made("empty.docx", lambda _: zipped({}), reason="ZIP archive"),
        made("no parts.docx", lambda _: zipped({"[Content_Types].xml": b"<Types/>"}), reason="ZIP archive"),
        made("nested.docx", lambda _: zipped({"inner.docx": zipped({"inner.docx": docx("x")})}), reason="ZIP"),
        made("escape.docx", lambda lure: docx("x", more={f"../../../..{lure.canary}": b"x"}), reason="lead out"),
        made("absolute.docx", lambda lure: docx("x", more={lure.canary: b"x"}), reason="lead out"),
        made("drive.docx", lambda _: docx("x", more={"C:\\windows\\x.dll": b"x"}), reason="lead out"),
        made("backslash.pptx", lambda _: docx("x", more={"..\\..\\x": b"x"}), reason="lead out"),
        made("link.docx", lambda lure: docx("x", link=lure.secret), reason="links"),
        made("twice.docx", lambda _: docx("x", twice=True), reason="two members"),
        made("bomb.docx", lambda _: docx("x", more={"word/media/a.xml": b" " * (4 * large)}), reason="unpacks"),
        made("many.docx", lambda _: docx("x", more={f"m/{i}": b"" for i in range(21_000)}), reason="too many"),
        made("lying.docx", lying, reason=""),
        made("cut.docx", lambda _: docx("x")[:-100], reason="ZIP"),
        made("cut half.xlsx", lambda _: (whole := xlsx([["a"]]))[: len(whole) // 2], reason="ZIP"),
        made("locked member.docx", _locked, reason="encrypted"),
        made("method.docx", lambda _: _patched(docx("x"), 10, 99), reason="ZIP"),
        made("scribbled.docx", lambda _: _scribbled(docx("words " * 5000)), reason=""),
    ]


def _all(data: bytes | bytearray, mark: bytes) -> list[int]:
    places, place = [], data.find(mark)
    while place >= 0:
        places.append(place)
        place = data.find(mark, place + 1)
    return places


def _patched(data: bytes, offset: int, value: int) -> bytes:
    """A 16-bit field of all entries of a ZIP archive's directory set; offsets as in the directory."""
    changed = bytearray(data)
    for place in _all(data, b"PK\x01\x02"):
        struct.pack_into("<H", changed, place + offset, value)
    return bytes(changed)


def _locked(lure: Lure) -> bytes:
    return _patched(docx("x"), 8, 1)


def _scribbled(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(byte ^ 0xA5 for byte in data[middle : middle + 300]) + data[middle + 300 :]


def _office() -> list[BadFile]:
    dtd = b'<!DOCTYPE w:document [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    deep = b"<w:tbl><w:tr><w:tc>" * 5000
    external = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"

    def related(lure: Lure) -> bytes:
        return office.relationships(
            {"rId9": (f"{external}/attachedTemplate", lure.url, True), "rId8": (f"{external}/image", lure.url, True),
             "rId7": (f"{external}/image", f"file://{lure.secret}", True)}
        )  # fmt: skip

    def pictured(lure: Lure) -> bytes:
        body = office.PICTURE.replace(b"RID", b"rId8") + office.PICTURE.replace(b"RID", b"rId7")
        return docx("plain words", body=body, more={"word/_rels/document.xml.rels": related(lure)})

    def fields(lure: Lure) -> bytes:
        field = f'<w:p><w:fldSimple w:instr="INCLUDETEXT {lure.secret}"><w:r><w:t>field</w:t></w:r></w:fldSimple></w:p>'
        dde = f'<w:p><w:r><w:instrText>DDEAUTO /bin/sh "-c touch {lure.canary}"</w:instrText></w:r></w:p>'
        return docx("plain words", body=(field + dde).encode())

    def sheet(rows: str, dimension: str = "A1") -> dict[str, bytes]:
        return {"xl/worksheets/sheet1.xml": office.SHEET.format(dimension=dimension, rows=rows).encode()}

    def sparse(lure: Lure) -> bytes:
        rows = '<row r="1048576"><c r="XFD1048576" t="inlineStr"><is><t>far away</t></is></c></row>'
        return xlsx([["a"]], more=sheet(rows))

    def wide(lure: Lure) -> bytes:
        row = "".join(f'<row r="{i}"><c r="XFD{i}"><v>1</v></c></row>' for i in range(1, 3000))
        return xlsx([["a"]], more=sheet(row))

    def repeated(lure: Lure) -> bytes:
        """One long text, shown by many cells."""
        cells = "".join(f'<row r="{i}"><c r="A{i}" t="s"><v>0</v></c></row>' for i in range(1, 4000))
        return xlsx([["a"]], more=sheet(cells), shared=["long text " * 3000])

    return [
        made(
            "macros.docm",
            lambda _: docx("plain words", more={"word/vbaProject.bin": office.OLE + bytes(999)}),
            "read",
            text="plain words",
        ),
        made(
            "template.docx",
            lambda lure: docx("plain words", more={"word/_rels/settings.xml.rels": related(lure)}),
            "read",
            text="plain words",
        ),
        made("pictures.docx", pictured, may="either"),
        made("fields.docx", fields, may="read", text="plain words"),
        made("html part.docx", lambda _: docx("plain words", body=b'<w:altChunk r:id="rId9"/>'), "either"),
        made("dtd.docx", lambda _: docx("x", prolog=dtd), reason="DTD"),
        made("dtd of styles.docx", lambda _: docx("x", more={"word/styles.xml": dtd + b"<w:styles/>"}), reason="DTD"),
        made(
            "dtd in utf16.docx",
            lambda _: docx(
                "x",
                more={
                    "word/styles.xml": ('<?xml version="1.0" encoding="utf-16"?>' + dtd.decode() + "<a/>").encode(
                        "utf-16"
                    )
                },
            ),
            reason="DTD",
        ),
        made("deep.docx", lambda _: docx("x", body=deep), reason=""),
        made("no body.docx", lambda _: docx("x", more={"word/document.xml": b"<w:document"}), reason="DOCX"),
        made("empty body.docx", lambda _: docx(""), reason="no text"),
        made(
            "map.docx",
            lambda _: docx("plain words", more={"mammoth/style-map": b"p => script:fresh"}),
            "read",
            text="plain words",
        ),
        made("sparse.xlsx", sparse, may="read", text="far away"),
        made("declared.xlsx", lambda _: xlsx([["small table"]], dimension="A1:XFD1048576"), "read", text="small table"),
        made("wide.xlsx", wide, may="fail", reason="unpacks"),
        made("repeated.xlsx", repeated, reason="unpacks"),
        made(
            "formulas.xlsx",
            lambda lure: xlsx(
                [
                    ["plain", f'=WEBSERVICE("{lure.url}")'],
                    [f"=cmd|'/c touch {lure.canary}'!A1", f'=HYPERLINK("{lure.url}")'],
                ]
            ),
            may="read",
            text="plain",
        ),
        made(
            "links.xlsx",
            lambda lure: xlsx(
                [["plain words"]],
                more={
                    "xl/externalLinks/externalLink1.xml": b"<externalLink/>",
                    "xl/externalLinks/_rels/externalLink1.xml.rels": related(lure),
                },
            ),
            may="read",
            text="plain words",
        ),
        made(
            "macros.xlsm",
            lambda _: xlsx([["plain words"]], more={"xl/vbaProject.bin": office.OLE}),
            "read",
            text="plain words",
        ),
        made(
            "laughs.xlsx",
            lambda _: xlsx(
                [["a"]],
                shared=["x"],
                more={
                    "xl/theme/theme1.xml": b'<!DOCTYPE sst [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><sst>&b;</sst>'
                },
            ),
            reason="DTD",
        ),
        made("no sheet.xlsx", lambda _: xlsx([["a"]], without="xl/worksheets/sheet1.xml"), reason="lacks a sheet"),
        made(
            "bad cells.xlsx",
            lambda _: xlsx([["a"]], more=sheet('<row r="x"><c r="?"><v>nan</v></c></row>')),
            may="either",
        ),
        made("slides.pptx", lambda _: pptx([("Title", "plain words")]), may="read", text="plain words"),
        made("no slide.pptx", lambda _: pptx([("T", "x")], without="ppt/slides/slide1.xml"), reason="PPTX"),
        made("bad slide.pptx", lambda _: pptx([("T", "x")], more={"ppt/slides/slide1.xml": b"<p:sld"}), reason="PPTX"),
        made("linked.pptx", lambda lure: pptx([("T", "plain words")], picture=lure.url), may="either"),
        made("forged.pptx", lambda _: pptx([("T", "<!-- Slide number: 7 -->")]), may="read", text="Slide number"),
    ]


def _pdf(large: int) -> list[BadFile]:
    whole = pdfs.pdf(["plain words"])
    bomb = pdfs.pdf([], streams=[zlib.compress(b"BT /F1 9 Tf (word word) Tj ET\n" * (large // 30), 9)])

    def acting(lure: Lure) -> bytes:
        return pdfs.pdf(["plain words"], catalog=(
            f"/OpenAction << /S /Launch /F (/bin/sh) /P (-c 'touch {lure.canary}') >> /AA << /O << /S /URI "
            f"/URI ({lure.url}) >> >> /Names << /JavaScript << /Names [(a) << /S /JavaScript /JS "
            f"(app.launchURL\\('{lure.url}'\\)) >>] >> >>"))  # fmt: skip

    def reaching(lure: Lure) -> bytes:
        return pdfs.pdf(["plain words"], more=[f"<< /Type /Filespec /F ({lure.secret}) >>",
                        f"<< /Length 0 /F ({lure.secret}) >> stream\n\nendstream"])  # fmt: skip

    return [
        given("cut.pdf", whole[: len(whole) // 3], may="either"),
        given("header alone.pdf", b"%PDF-1.7\n", reason="PDF"),
        given("junk.pdf", b"%PDF-1.4\n" + os.urandom(20_000), reason="PDF"),
        given("no table.pdf", whole[: whole.rfind(b"xref")], may="either"),
        given("no pages.pdf", pdfs.pdf([]), may="fail"),
        given("locked.pdf", pdfs.locked(), reason="encrypted"),
        given("loop.pdf", pdfs.pdf(["x"], kids="[2 0 R 2 0 R]"), may="either"),
        given("own parent.pdf", pdfs.pdf(["x"], kids="[1 0 R]"), may="either"),
        given("count.pdf", pdfs.pdf(["plain words"], count=2_000_000_000), may="either"),
        given("deep.pdf", pdfs.pdf(["x"], more=["[" * 100_000 + "]" * 100_000]), may="either"),
        given("bomb.pdf", bomb, may="either"),
        given("bombs.pdf", pdfs.pdf([], streams=[zlib.compress(zlib.compress(bytes(large), 9), 9)], filters=2), "fail"),
        made("acting.pdf", acting, may="read", text="plain words"),
        made("reaching.pdf", reaching, may="read", text="plain words"),
        given("huge page.pdf", pdfs.pdf(["plain words"], box="[-1e30 -1e30 1e30 1e30]"), may="either"),
        given("negative length.pdf", whole.replace(b"/Length ", b"/Length -"), may="either"),
        given("self form.pdf", pdfs.self_drawing(), may="either"),
        given("mapped.pdf", pdfs.pdf(["ABC"], letters={"A": "\ud800", "B": "न", "C": "\u0000"}), may="either"),
    ]
