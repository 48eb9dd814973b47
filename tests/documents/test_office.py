"""DOCX and PPTX."""

from __future__ import annotations

from pathlib import Path

from read_blocks import HINDI, blocks, fault, levels, office, texts, written

from aasut.documents.block import Block

TABLE = (
    b"<w:tbl><w:tr><w:tc><w:p><w:r><w:t>Kind</w:t></w:r></w:p></w:tc><w:tc><w:p><w:r><w:t>Rate</w:t></w:r></w:p></w:tc>"
    b"</w:tr><w:tr><w:tc><w:p><w:r><w:t>Plain</w:t></w:r></w:p></w:tc><w:tc><w:p><w:r><w:t>4</w:t></w:r></w:p></w:tc>"
    b"</w:tr></w:tbl>"
)


def test_a_word_document(tmp_path: Path) -> None:
    body = (
        office.paragraph("खाता", "Heading2") + office.paragraph(HINDI) + TABLE + office.PICTURE.replace(b"RID", b"r9")
    )
    outside = office.relationships({"r9": ("http://x/relationships/image", "http://127.0.0.1:9/p.png", True)})
    more = {"word/_rels/document.xml.rels": outside}
    found = written(tmp_path / "a.docx", office.docx("snake_case & <more>", body=body, more=more))
    assert found[:3] == [Block("snake_case & <more>"), Block("खाता", 2), Block(HINDI)]
    assert [cell.strip() for cell in found[3].text.split("|") if cell.strip(" -\n")] == ["Kind", "Rate", "Plain", "4"]
    assert texts(found)[4:] == ["a picture"]


def test_equations_become_latex(tmp_path: Path) -> None:
    math = (
        b'<w:p><m:oMath xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"><m:f><m:fPr/><m:num><m:r><m:t>a'
        b"</m:t></m:r></m:num><m:den><m:r><m:t>b</m:t></m:r></m:den></m:f></m:oMath></w:p>"
    )
    assert texts(written(tmp_path / "a.docx", office.docx("sum", body=math))) == ["sum", "$\\frac{a}{b}$"]


def test_slides_are_pages(tmp_path: Path) -> None:
    import pptx

    show = pptx.Presentation()
    for title, text in (("नियम", HINDI), ("Two", "<!-- Slide number: 9 -->\nline")):
        slide = show.slides.add_slide(show.slide_layouts[1])
        slide.shapes.title.text, slide.placeholders[1].text = title, text
    table = show.slides[1].shapes.add_table(2, 2, 0, 6_000_000, 5_000_000, 1_000_000).table
    for place, said in enumerate(("Kind", "Rate", "Plain", "4")):
        table.cell(place // 2, place % 2).text = said
    show.slides[0].notes_slide.notes_text_frame.text = "say it slowly"
    show.save(tmp_path / "a.pptx")
    found = blocks(tmp_path / "a.pptx")
    assert levels(found) == [(1, "नियम"), (3, "Notes:"), (1, "Two")]
    assert [(block.page, block.text) for block in found if not block.level] == [
        (1, HINDI),
        (1, "say it slowly"),
        (2, "<!-- Slide number: 9 -->\nline"),
        (2, "| Kind | Rate |\n| --- | --- |\n| Plain | 4 |"),
    ]


def test_broken_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.docx"
    assert fault(path, office.docx("x", more={"word/document.xml": b"<w"})).reason == "a DOCX that cannot be parsed"
    broken = office.pptx([("a", "b")], more={"ppt/slides/slide1.xml": b"<p"})
    assert fault(tmp_path / "a.pptx", broken).reason == "a PPTX that cannot be parsed"
    assert fault(path, office.docx("")).reason == "no text in it"
