"""Every row is an example or counted by reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aasut.errors import DataError
from aasut.types import Example
from read_table import REVIEWS, fails, read

HINDI = "यह फ़ोन बहुत अच्छा है"


def test_csv_maps_columns(tmp_path: Path) -> None:
    rows = read(
        tmp_path,
        "t.csv",
        f'key,who,text,extra,verdict\r\na1,c/1,"{HINDI}, said ""he""",x, Positive \r\na2,c/2,"two\nlines",x,\r\n',
        slots={"text": "text", "by": "who"},
        id="key",
        group={"column": "who", "pattern": "([^/]+)/"},
        label={"column": "verdict"},
    )
    assert rows.examples == [
        Example("a1", {"text": f'{HINDI}, said "he"', "by": "c/1"}, "c", "positive"),
        Example("a2", {"text": "two\nlines", "by": "c/2"}, "c", None),
    ]
    assert rows.failed == {}


def test_rows_are_their_own_ids_and_groups_by_default(tmp_path: Path) -> None:
    rows = read(tmp_path, "t.csv", "text\none\n\n \nthree\n")
    assert [(e.id, e.group) for e in rows.examples] == [("1", "1"), ("3", "3")]
    assert rows.failed == {"empty input": 1}
    assert rows.first == {"empty input": 4}


def test_jsonl_labels_may_be_left_out(tmp_path: Path) -> None:
    data = '{"text": "a", "y": "POSITIVE"}\n{"text": "b"}\n{"text": "c", "y": null}\n'
    rows = read(tmp_path, "t.jsonl", data, label={"column": "y"})
    assert [e.answer for e in rows.examples] == ["positive", None, None]


def test_every_row_of_a_nasty_csv_is_accounted_for(tmp_path: Path) -> None:
    data = (
        b"id,text,mean\n"
        b"a,fine,0.9\n"
        b"b,caf\xe9,0.9\n"  # line 3
        b"c,too,many,0.9\n"  # 4
        b"d\n"  # 5
        b"\n"
        b'e,"shut" up,0.9\n'  # 7
        b'f,"spans\nlines",-0.9\n'  # 8, 9
        b"a,again,0.9\n"  # 10
        b"g,  ,0.9\n"  # 11
        b",nameless,0.9\n"  # 12
        b"h,no number,high\n"  # 13
        b"i,middling,0.1\n"  # 14
        b"j,none,\n"  # 15
        b"k,not finite,nan\n"  # 16
        b'l,"cut off'  # 17
    )
    ranges = REVIEWS["label"]["ranges"]
    rows = read(tmp_path, "t.csv", data, id="id", label={"column": "mean", "ranges": ranges})
    assert {e.id: e.answer for e in rows.examples} == {"a": "positive", "f": "negative", "i": None, "j": None}
    assert rows.rows_in == 14
    assert rows.failed == {
        "not valid utf-8": 1,
        "wrong number of fields": 2,
        "quotes out of place": 2,
        "id used before": 1,
        "empty input": 1,
        "no value in column id": 1,
        "label is no number": 2,
    }
    assert rows.first == {
        "not valid utf-8": 3,
        "wrong number of fields": 4,
        "quotes out of place": 7,
        "id used before": 10,
        "empty input": 11,
        "no value in column id": 12,
        "label is no number": 13,
    }


@pytest.mark.parametrize(
    ("data", "encoding", "guess"),
    [
        ("text\ncafé\nnaïve\nplain\n".encode("latin-1"), "utf-8", "try latin-1"),
        ("text\n“quoted”\n“so”\nplain\n".encode("windows-1252"), "utf-8", "try windows-1252"),
        (f"text\n{HINDI}\n".encode(), "ascii", "try utf-8"),
        (f"text\n{HINDI}\n".encode("utf-16"), "utf-8", "try utf-16"),
        ("text\nplain\n".encode("utf-16-le"), "utf-8", "try utf-16"),
    ],
)
def test_a_table_in_another_encoding(tmp_path: Path, data: bytes, encoding: str, guess: str) -> None:
    fails(tmp_path, DataError, rf"t\.csv is not {encoding}.*{guess}", "t.csv", data, encoding=encoding)


def test_a_label_that_is_not_in_the_list(tmp_path: Path) -> None:
    match = r"t\.csv, line 3: the label 'meh' is not in the list \(negative, positive\)\. Add it to task\.labels"
    fails(tmp_path, DataError, match, "t.csv", "text,y\na,positive\nb,meh\n", label={"column": "y"})


def test_a_group_pattern_that_finds_nothing(tmp_path: Path) -> None:
    match = r"line 3: the group pattern '\(\\\\d\+\)_' finds nothing in 'x_1'"
    fails(tmp_path, DataError, match, "t.csv", "id,text\n1_1,a\nx_1,b\n", group={"column": "id", "pattern": r"(\d+)_"})


def test_what_the_teacher_answered_stands_beside_the_slots(tmp_path: Path) -> None:
    lines = [
        {"text": "P0101", "said": " Mass air flow "},
        {"text": "P0102", "said": ""},
        {"text": "P0103"},
        {"text": "P0104", "said": [{"name": "look_up", "arguments": {"code": "पी०१"}}]},
        {"text": "P0105", "said": 12},
    ]
    data = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
    rows = read(tmp_path, "t.jsonl", data, role="pool", label=None, taught="said")
    calls = '[{"name": "look_up", "arguments": {"code": "पी०१"}}]'
    assert [example.taught for example in rows.examples] == ["Mass air flow", None, None, calls, "12"]
    assert all(example.answer is None for example in rows.examples)


def test_a_column_of_taught_answers_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="said"):
        read(tmp_path, "t.csv", b"text,other\na,b\n", role="pool", label=None, taught="said")
