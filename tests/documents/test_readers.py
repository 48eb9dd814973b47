"""What all readers have in common."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import get_args

import pytest
from read_blocks import HINDI, blocks, fault, office, texts, written

from aasut.documents import readers
from aasut.recipe.documents import Format


def test_each_format_of_a_recipe_has_a_reader() -> None:
    assert set(readers.READERS) == set(get_args(Format)) - {"auto"}
    for place in (*readers.READERS.values(), readers.MATCHES):
        module, name = place.split(":")
        assert callable(getattr(import_module(module), name))


def test_a_declared_format_is_taken(tmp_path: Path) -> None:
    assert texts(written(tmp_path / "a.txt", "a,b\n1,2\n", format="csv")) == ["a: 1\nb: 2"]
    assert texts(written(tmp_path / "a.md", "# no heading", format="text")) == ["# no heading"]
    assert fault(tmp_path / "a.md", format="xlsx").reason == "a broken ZIP archive"


def test_control_characters_and_empty_blocks_are_left_out(tmp_path: Path) -> None:
    assert texts(
        written(tmp_path / "a.txt", "\ufeffa\x1b[1mb\x7f" + " word" * 99 + "\n\n\ufeff\x07\n\n\tc\r\nd\r\n")
    ) == [
        "a[1mb" + " word" * 99,
        "\tc\nd",
    ]


def test_joiners_of_hindi_are_kept(tmp_path: Path) -> None:
    text = "क्\u200dष और क्\u200cष"
    assert texts(written(tmp_path / "a.txt", text)) == [text]


@pytest.mark.parametrize("letter", ["क्षि", "e\u0301\u0323", "ना", "x", "👩\u200d👧"])
def test_long_blocks_are_cut_between_letters(tmp_path: Path, letter: str) -> None:
    found = written(tmp_path / "a.jsonl", '{"a": "' + letter * 20_000 + '"}', fields=("a",))
    assert "".join(texts(found)) == letter * 20_000
    assert max(map(len, texts(found))) <= readers.LONGEST
    assert len(found) > 1
    assert all(len(text) % len(letter) == 0 for text in texts(found))


def test_long_blocks_are_cut_after_sentences_where_they_can(tmp_path: Path) -> None:
    found = written(tmp_path / "a.jsonl", '{"a": "' + (HINDI + " ") * 1000 + '"}', fields=("a",))
    assert len(found) > 2
    assert all(text.rstrip().endswith("।") for text in texts(found))
    assert all(block.level == 0 and block.record == "1" for block in found)


def test_text_of_packed_files_is_bounded_too(tmp_path: Path) -> None:
    data = office.xlsx([["a"]], shared=["long text " * 500], more={"xl/worksheets/sheet1.xml": office.SHEET.format(
        dimension="A1", rows="".join(f'<row r="{i}"><c r="A{i}" t="s"><v>0</v></c></row>' for i in range(1, 300))
    ).encode()})  # fmt: skip
    assert fault(tmp_path / "a.xlsx", data, unpacked=200_000).reason == "unpacks to more than reading.unpacked_mb"
    assert len("".join(texts(blocks(tmp_path / "a.xlsx")))) > 1_000_000
