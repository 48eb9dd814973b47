"""Small office files, made part by part, so that any part can be made wrong."""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_R = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_MODES = {True: "External", False: "Internal"}
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
CORE = f'<w:document xmlns:w="{_W}" xmlns:r="{_R}"><w:body>BODY</w:body></w:document>'.encode()
PICTURE = (
    b"<w:p><w:r><w:drawing><wp:inline "
    b'xmlns:wp="http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing">'
    b'<wp:docPr id="1" name="p" descr="a picture"/><a:graphic '
    b'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/'
    b'main"><a:graphicData><pic:pic xmlns:pic="http://schemas.openxmlformats.org/drawingml/2006/picture"><pic:blipFill>'
    b'<a:blip r:link="RID"/></pic:blipFill></pic:pic></a:graphicData></a:graphic></wp:inline></w:drawing></w:r></w:p>'
)
SHEET = f'<worksheet xmlns="{MAIN}"><dimension ref="{{dimension}}"/><sheetData>{{rows}}</sheetData></worksheet>'


def zipped(members: Mapping[str, bytes]) -> bytes:
    """A ZIP archive of these members."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return packed.getvalue()


def relationships(related: Mapping[str, tuple[str, str, bool]]) -> bytes:
    """A part of relationships: id to (type, target, whether it lies outside)."""
    lines = "".join(
        f'<Relationship Id="{name}" Type="{kind}" Target="{target}" TargetMode="{_MODES[outside]}"/>'
        for name, (kind, target, outside) in related.items()
    )
    return f'<Relationships xmlns="{_PACKAGE}/relationships">{lines}</Relationships>'.encode()


def paragraph(text: str, style: str = "") -> bytes:
    """A paragraph of a DOCX."""
    styled = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{styled}<w:r><w:t xml:space='preserve'>{escape(text)}</w:t></w:r></w:p>".encode()


def docx(
    text: str,
    *,
    body: bytes = b"",
    prolog: bytes = b"",
    more: Mapping[str, bytes] | None = None,
    link: str = "",
    twice: bool = False,
) -> bytes:
    """A Word document of one paragraph and `body`, other members besides or instead, a link or a member twice."""
    document = prolog + CORE.replace(b"BODY", (paragraph(text) if text else b"") + body)
    styles = "".join(
        f'<w:style w:type="paragraph" w:styleId="Heading{i}"><w:name w:val="heading {i}"/></w:style>'
        for i in range(1, 4)
    )
    members = {
        "[Content_Types].xml": (
            f'<Types xmlns="{_PACKAGE}/content-types"><Default Extension="rels" ContentType="application/vnd.'
            'openxmlformats-package.relationships+xml"/><Override PartName="/word/document.xml" '
            'ContentType="application/'
            'vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>'
        ).encode(),
        "_rels/.rels": relationships({"rId1": (f"{_R}/officeDocument", "word/document.xml", False)}),
        "word/_rels/document.xml.rels": relationships({"rId1": (f"{_R}/styles", "styles.xml", False)}),
        "word/styles.xml": f'<w:styles xmlns:w="{_W}">{styles}</w:styles>'.encode(),
        "word/document.xml": document,
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (members | dict(more or {})).items():
            archive.writestr(name, data)
        if link:
            member = zipfile.ZipInfo("word/media/image1.png")
            member.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(member, link)
        if twice:
            other = zipfile.ZipInfo("word/document.xmk")
            archive.writestr(other, CORE.replace(b"BODY", paragraph("another text")))
    return packed.getvalue().replace(b"word/document.xmk", b"word/document.xml")


def xlsx(
    rows: Sequence[Sequence[object]],
    *,
    dimension: str = "",
    more: Mapping[str, bytes] | None = None,
    without: str = "",
    shared: Sequence[str] = (),
) -> bytes:
    """A workbook of one sheet, written by openpyxl, with members added, replaced or left out, and shared strings."""
    import openpyxl

    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(list(row))
    data = _changed(_saved(book), more or {}, without, dimension)
    if not shared:
        return data
    override = (
        b'<Override PartName="/xl/sharedStrings.xml" ContentType="application/vnd.openxmlformats-officedocument.'
        b'spreadsheetml.sharedStrings+xml"/></Types>'
    )
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        types = archive.read("[Content_Types].xml").replace(b"</Types>", override)
    strings = f'<sst xmlns="{MAIN}">{"".join(f"<si><t>{escape(text)}</t></si>" for text in shared)}</sst>'
    return _changed(data, {"[Content_Types].xml": types, "xl/sharedStrings.xml": strings.encode()}, "", "")


def pptx(
    slides: Sequence[tuple[str, str]], *, more: Mapping[str, bytes] | None = None, without: str = "", picture: str = ""
) -> bytes:
    """A presentation of slides with a title and a text, written by python-pptx; `picture`: one that lies outside."""
    import pptx as library

    show = library.Presentation()
    for title, text in slides:
        slide = show.slides.add_slide(show.slide_layouts[1])
        slide.shapes.title.text = title
        slide.placeholders[1].text = text
        if picture:
            slide.part.relate_to(picture, f"{_R}/image", is_external=True)
    return _changed(_saved(show), more or {}, without, "")


def _saved(made: object) -> bytes:
    packed = io.BytesIO()
    made.save(packed)  # type: ignore[attr-defined]
    return packed.getvalue()


def _changed(data: bytes, more: Mapping[str, bytes], without: str, dimension: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist() if name != without}
    if dimension:
        sheet = members["xl/worksheets/sheet1.xml"]
        start = sheet.index(b'<dimension ref="') + 16
        members["xl/worksheets/sheet1.xml"] = sheet[:start] + dimension.encode() + sheet[sheet.index(b'"', start) :]
    return zipped(members | dict(more))
