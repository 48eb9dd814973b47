"""Tables in Markdown."""

from __future__ import annotations

from aasut.documents.table import LARGEST, WIDEST, Table


def made(rows: list[list[str]]) -> list[str]:
    table = Table()
    return [text for row in rows for text in table.add(row)] + list(table.rest())


def test_a_small_table() -> None:
    assert made([["a", "b"], ["", ""], ["1\n2", "x|y"]]) == ["| a | b |\n| --- | --- |\n| 1 2 | x\\|y |"]
    assert made([["alone"]]) == ["| alone |\n| --- |"]
    assert made([]) == []


def test_each_block_repeats_the_header_and_no_row_is_lost() -> None:
    found = made([["number", "text"], *([str(i), "word " * 20] for i in range(1000))])
    assert len(found) > 5
    assert all(text.startswith("| number | text |\n| --- | --- |\n| ") for text in found)
    assert max(map(len, found)) <= LARGEST + 200
    numbers = [line.split(" | ")[0].strip("| ") for text in found for line in text.split("\n")[2:]]
    assert numbers == [str(i) for i in range(1000)]


def test_of_wide_rows_the_filled_cells() -> None:
    row = [""] * (WIDEST + 5)
    row[3], row[-1] = "x", "far"
    assert made([["a"], row]) == ["| a |\n| --- |\n| x | far |"]
