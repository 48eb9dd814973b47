"""CSV and TSV: a record a row."""

from __future__ import annotations

from pathlib import Path

import pytest
from read_blocks import fault, texts, written

from aasut.documents.block import Block

ROWS = 'code,meaning,नोट\nP1,"a, ""b""\nsecond line",हाँ\n\nP2,c,\n'


def test_rows_are_records(tmp_path: Path) -> None:
    assert written(tmp_path / "a.csv", ROWS, title="code") == [
        Block("P1", 1, None, "P1"),
        Block('meaning: a, "b"\nsecond line\nनोट: हाँ', record="P1"),
        Block("P2", 1, None, "P2"),
        Block("meaning: c", record="P2"),
    ]
    assert [block.record for block in written(tmp_path / "a.csv", ROWS)] == ["1", "2"]


def test_chosen_columns_in_their_order(tmp_path: Path) -> None:
    found = written(tmp_path / "a.csv", ROWS, fields=("नोट", "meaning"))
    assert texts(found)[0].startswith("नोट: हाँ\nmeaning: a")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_what_parts_the_header_parts_the_rows(tmp_path: Path, delimiter: str) -> None:
    found = written(tmp_path / "a.csv", f"a{delimiter}b\n1{delimiter}2\n")
    assert texts(found) == ["a: 1\nb: 2"]


def test_tsv_knows_no_quotes(tmp_path: Path) -> None:
    assert texts(written(tmp_path / "a.tsv", 'a\tb\n"1\tx "y" z\n')) == ['a: "1\nb: x "y" z']


def test_odd_rows_lose_nothing(tmp_path: Path) -> None:
    assert texts(written(tmp_path / "a.csv", "a,,a\n1,2,3,4\n5\n")) == ["a: 1\n2: 2\na 3: 3\n4: 4", "a: 5"]


def test_faults(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    assert fault(path, 'a,b\n1,"x\n2,y\n').reason == "a quote that is never closed"
    assert fault(path, 'a,b\n1,"x"y\n').reason == "quotes out of place"
    assert fault(path, ROWS, title="kind").reason == "a column that records.fields or title names is missing"
    assert fault(path, "a,b\n").reason == "no text in it"


def test_other_encodings(tmp_path: Path) -> None:
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        assert texts(written(tmp_path / "a.csv", ROWS.encode(encoding)))[1] == "code: P2\nmeaning: c"
