"""XLSX: sheets, rows, values; what is declared and what is there."""

from __future__ import annotations

import datetime
import itertools
from pathlib import Path

import openpyxl
from read_blocks import HINDI, blocks, fault, office, texts, written

from aasut.documents.block import Block


def test_sheets_are_headings_and_pages(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.title = "दरें"
    for row in (["Kind", "Rate", "Since"], [HINDI, 4.0, datetime.datetime(2024, 5, 1)], [], ["b|c", 0.5, True, None]):
        book.active.append(row)
    book.create_sheet("Empty")
    book.create_sheet("More").append(["only"])
    book.save(tmp_path / "a.xlsx")
    assert blocks(tmp_path / "a.xlsx") == [
        Block("दरें", 1, 1),
        Block(
            f"| Kind | Rate | Since |\n| --- | --- | --- |\n| {HINDI} | 4 | 2024-05-01 |\n| b\\|c | 0.5 | yes |", 0, 1
        ),
        Block("More", 1, 3),
        Block("| only |\n| --- |", 0, 3),
    ]


def test_many_rows_come_in_bounded_blocks(tmp_path: Path) -> None:
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("s")
    for i in range(5000):
        sheet.append([i, "words " * 5])
    book.save(tmp_path / "a.xlsx")
    found = blocks(tmp_path / "a.xlsx")
    assert max(map(len, texts(found))) < 9000
    rows = itertools.chain(*(text.split("\n")[2:] for text in texts(found[1:])))
    assert [row.split(" | ")[0].strip("| ") for row in rows] == [str(i) for i in range(1, 5000)]


def test_what_is_declared_is_not_believed(tmp_path: Path) -> None:
    assert texts(written(tmp_path / "a.xlsx", office.xlsx([["x"]], dimension="A1:XFD1048576"))) == [
        "Sheet",
        "| x |\n| --- |",
    ]
    assert texts(written(tmp_path / "a.xlsx", office.xlsx([["x"], ["y"]], dimension="A1"))) == [
        "Sheet",
        "| x |\n| --- |\n| y |",
    ]


def test_formulas_are_not_computed(tmp_path: Path) -> None:
    assert (
        texts(written(tmp_path / "a.xlsx", office.xlsx([["sum", "=1+1"], ["=2", "x"]])))[1]
        == "| sum |\n| --- |\n|  | x |"
    )


def test_faults(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    lacking = office.xlsx([["x"]], without="xl/worksheets/sheet1.xml")
    assert fault(path, lacking).reason == "an XLSX that lacks a sheet"
    assert fault(path, office.xlsx([["x"]], more={"xl/workbook.xml": b"<"})).reason == "an XLSX that cannot be parsed"
    wide = office.SHEET.format(dimension="A1", rows="".join(_far(row) for row in range(1, 10)))
    more = {"xl/worksheets/sheet1.xml": wide.encode()}
    assert fault(path, office.xlsx([["x"]], more=more), unpacked=100_000).reason.startswith("unpacks")


def _far(row: int) -> str:
    return f'<row r="{row}"><c r="XFD{row}"><v>1</v></c></row>'
