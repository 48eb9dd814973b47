"""Rows as each format writes them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aasut.errors import DataError
from read_table import fails, read, texts

HINDI = "यह फ़ोन बहुत अच्छा है"


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    assert texts(read(tmp_path, "t.csv", b"\xef\xbb\xbftext\nfine\n")) == ["fine"]


def test_utf16(tmp_path: Path) -> None:
    assert texts(read(tmp_path, "t.tsv", f"text\r\n{HINDI}\r\n".encode("utf-16"), encoding="utf-16")) == [HINDI]


def test_tsv_has_no_quotes_and_the_last_column_takes_the_rest(tmp_path: Path) -> None:
    data = b'1\t0.5\t"open\tand caf\xe9 \x85 on\r\n2\tshort\n3\t-1\tlast, no end of line'
    rows = read(tmp_path, "t.txt", data, format="tsv", encoding="latin-1", columns=["id", "mean", "text"], id="id")
    assert texts(rows) == ['"open\tand café \x85 on', "last, no end of line"]
    assert rows.failed == {"wrong number of fields": 1}
    assert rows.first == {"wrong number of fields": 2}


def test_jsonl(tmp_path: Path) -> None:
    lines = [
        json.dumps({"text": HINDI, "n": 3, "good": True}),
        "{broken",
        "[" * 100_000,
        "[1]",
        json.dumps({"text": None, "n": 1}),
        json.dumps({"n": 1}),
        json.dumps({"text": ["a"], "n": 1}),
        '{"text": "half a pair \\ud800", "n": 1}',
        "",
        json.dumps({"text": "b\u2028c", "n": 4.5}, ensure_ascii=False),
    ]
    rows = read(tmp_path, "t.jsonl", "\n".join(lines), slots={"text": "text", "n": "n"})
    assert [dict(e.slots) for e in rows.examples] == [{"text": HINDI, "n": "3"}, {"text": "b\u2028c", "n": "4.5"}]
    assert rows.failed == {
        "JSON that does not parse": 2,
        "not a JSON object": 1,
        "no value in column text": 2,
        "no text in column text": 1,
        "not valid utf-8": 1,
    }
    assert rows.first["no value in column text"] == 5


def test_parquet(tmp_path: Path) -> None:
    bad = pa.array([b"good", b"caf\xe9", None, HINDI.encode(), b"fine"], pa.binary()).view(pa.string())
    mean = pa.array([0.7, 0.1, 0.2, float("nan"), 0.9])
    kind = pa.array([b"x", b"y", b"x", b"x", b"\xff"], pa.binary()).view(pa.string()).dictionary_encode()
    pq.write_table(pa.table({"text": bad, "mean": mean, "kind": kind, "unused": [1] * 5}), tmp_path / "t.parquet")
    rows = read(
        tmp_path,
        "t.parquet",
        slots={"text": "text", "kind": "kind"},
        label={"column": "mean", "ranges": [{"label": "positive", "at_least": 0.5}]},
    )
    assert [(e.id, dict(e.slots), e.answer) for e in rows.examples] == [
        ("1", {"text": "good", "kind": "x"}, "positive"),
        ("4", {"text": HINDI, "kind": "x"}, None),
    ]
    assert rows.failed == {"not valid utf-8": 2, "no value in column text": 1}
    assert rows.first == {"not valid utf-8": 2, "no value in column text": 3}


def test_a_text_longer_than_the_csv_modules_own_limit(tmp_path: Path) -> None:
    long = "word " * 100_000
    assert texts(read(tmp_path, "t.csv", f"text\n{long}\nnext\n")) == [long, "next"]


def test_text_that_cannot_be_read_on_in_the_given_encoding(tmp_path: Path) -> None:
    fails(tmp_path, DataError, "cannot be read as utf-16", "t.csv", b"text\nab\n\xd8\n", encoding="utf-16")


@pytest.mark.parametrize("delimiter", [";", "|", "\t"])
def test_a_csv_with_another_delimiter(tmp_path: Path, delimiter: str) -> None:
    data = f'id{delimiter}text\r\n1{delimiter}"a{delimiter}b,\nc"\r\n'
    assert texts(read(tmp_path, "t.csv", data, delimiter=delimiter)) == [f"a{delimiter}b,\nc"]


@pytest.mark.parametrize("name", ["t.csv.gz", "T.CSV.GZ", "t.tsv.gz", "t.jsonl.gz"])
def test_a_packed_table(tmp_path: Path, name: str) -> None:
    plain = json.dumps({"text": HINDI}) if "jsonl" in name else f"text\n{HINDI}"
    assert texts(read(tmp_path, name, gzip.compress(plain.encode()))) == [HINDI]


def test_a_packed_table_that_is_cut_off(tmp_path: Path) -> None:
    whole = gzip.compress("\n".join(["text", *(str(n**3) for n in range(9999))]).encode())
    fails(tmp_path, DataError, r"t\.csv\.gz is a broken gzip file", "t.csv.gz", whole[: len(whole) // 2])
