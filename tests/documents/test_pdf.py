"""PDF: pages, headings by size, paragraphs by distance, running heads; with matplotlib's files and handmade ones."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from read_blocks import fault, levels, pdfs, texts, written

BODY = [(11, "The running text of this page is long enough to be"), (11, "taken for what most letters are.")]
WORDS = ["", "one", "two", "three", "four", "five"]
LETTERS = {"A": "ख", "B": "ा", "C": "त", "D": "न", "E": "ि", "F": "य", "G": "म", " ": " "}


def page(number: int, *more: tuple[int, str]) -> list[tuple[int, str]]:
    return [
        (9, f"Bank manual {number}"),
        (11, ""),
        *more,
        *BODY,
        (11, ""),
        (11, f"Paragraph {WORDS[number]}."),
        (9, str(number)),
    ]


def test_pages_headings_and_paragraphs(tmp_path: Path) -> None:
    data = pdfs.pdf(
        [page(1, (22, "Accounts")), page(2, (15, "Opening one")), page(3, (15, "2.1 Closing")), page(4), page(5)]
    )
    found = written(tmp_path / "a.pdf", data)
    assert levels(found) == [(1, "Accounts"), (2, "Opening one"), (2, "2.1 Closing")]
    assert [block.page for block in found if block.level] == [1, 2, 3]
    assert [block.text for block in found if block.page == 4] == [
        "\n".join(line for _, line in BODY),
        "Paragraph four.",
    ]
    assert "manual" not in "".join(texts(found)), "the running head was kept"


def test_numbered_sections_of_the_text_s_own_size(tmp_path: Path) -> None:
    lines = [(20, "Title"), *BODY, (11, ""), (11, "2.8.1 Extra Settings"), (11, ""), *BODY]
    contents = [(11, "2.8.2 Other Things . . . . . . . . . . . . 17"), (11, "")]
    found = written(tmp_path / "a.pdf", pdfs.pdf([lines, contents + BODY]))
    assert levels(found) == [(1, "Title"), (3, "2.8.1 Extra Settings")]
    assert "2.8.2 Other Things … 17" in texts(found)


def test_hindi_by_the_font_s_own_map(tmp_path: Path) -> None:
    found = written(tmp_path / "a.pdf", pdfs.pdf(["ABCB DEFG"], letters=LETTERS))
    assert texts(found) == ["खाता नियम"]
    assert found[0].page == 1


def test_a_file_of_matplotlib_packed_with_gzip(tmp_path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with matplotlib.rc_context({"pdf.fonttype": 42}):
        figure = pyplot.figure()
        figure.text(0.1, 0.8, "Interest is paid yearly, größer", fontsize=12)
        figure.savefig(tmp_path / "a.pdf")
        pyplot.close(figure)
    found = written(tmp_path / "b.pdf.gz", gzip.compress((tmp_path / "a.pdf").read_bytes()))
    assert texts(found) == ["Interest is paid yearly, größer"]


def test_what_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    assert fault(path, pdfs.locked()).reason == "an encrypted PDF"
    assert fault(path, b"%PDF-1.4 junk").reason == "a PDF that cannot be parsed"
    assert fault(path, pdfs.pdf([""])).reason == "no text in it"
    assert fault(path, b"plain", format="pdf").reason == "a PDF that cannot be parsed"


def test_a_page_that_does_not_parse_is_not_passed_over(tmp_path: Path) -> None:
    broken = pdfs.pdf(["first words", "second words"], kids="[5 0 R 99 0 R]")
    assert fault(tmp_path / "a.pdf", broken).reason == "a PDF with pages that cannot be parsed"


@pytest.mark.parametrize("text", ["5", "xii"])
def test_a_page_of_a_number_alone_keeps_it(tmp_path: Path, text: str) -> None:
    assert texts(written(tmp_path / "a.pdf", pdfs.pdf([text]))) == [text]
