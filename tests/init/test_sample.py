"""Files of which nothing is known: format, encoding, delimiter, header and rows are found, or one line says why not."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import read_table
from aasut.errors import DataError
from aasut.init import sample
from aasut.init.sample import Sample, take
from prose import Prose

ROWS = [{"id": f"r{n}", "text": text, "label": "ab"[n % 2]} for n, text in enumerate(
    ["यह फ़ोन, \"अच्छा\" है", "two\nlines; of text", "caf\u00e9 \u2013 na\u00efve", "tab\there | bar"] * 5)]  # fmt: skip
WESTERN = [row | {"text": row["text"].replace("यह फ़ोन", "Gerät größer").replace("अच्छा", "schön").replace("है", "!")}
           for row in ROWS]  # fmt: skip


def table(rows: list[dict[str, str]], delimiter: str = ",", end: str = "\r\n", quoting: int = csv.QUOTE_MINIMAL) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter, lineterminator=end, quoting=quoting)  # type: ignore[arg-type]
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def look(folder: Path, name: str, data: bytes) -> Sample:
    (folder / name).write_bytes(data)
    found = take(folder / name)
    assert not found.whole or found.total == len(found.rows) + found.faults.total()
    return found


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("name", ["t.csv", "t.txt", "t"])
def test_the_delimiter_is_found(tmp_path: Path, delimiter: str, end: str, name: str) -> None:
    found = look(tmp_path, name, table(ROWS, delimiter, end).encode())
    assert (found.rows, found.kind, found.delimiter, found.header) == (ROWS, "csv", delimiter, True)
    assert found.columns == ("id", "text", "label")
    assert (found.whole, found.total, found.faults.total()) == (True, 20, 0)


@pytest.mark.parametrize(
    ("rows", "codec", "encoding"),
    [
        (ROWS, "utf-8", "utf-8"),
        (ROWS, "utf-8-sig", "utf-8"),
        (ROWS, "utf-16", "utf-16"),
        (ROWS, "utf-16-le", "utf-16-le"),
        (ROWS, "utf-32", "utf-32"),
        (WESTERN, "windows-1252", "windows-1252"),
        ([row | {"text": row["text"].replace("\u2013", "-")} for row in WESTERN], "latin-1", "latin-1"),
    ],
)
def test_the_encoding_is_found(tmp_path: Path, rows: list[dict[str, str]], codec: str, encoding: str) -> None:
    if codec == "utf-16-le":  # without a mark it is known by its zero bytes, of which plain letters have most
        rows = [row | {"text": f"text {row['id']}"} for row in rows]
    found = look(tmp_path, "t.csv", table(rows).encode(codec))
    assert (found.encoding, found.rows) == (encoding, rows)


def test_a_few_bad_bytes_do_not_change_the_encoding(tmp_path: Path) -> None:
    data = table(ROWS * 5).encode() + b"x,caf\xe9,a\r\n"
    assert look(tmp_path, "t.csv", data).encoding == "utf-8"


def test_tsv_without_quotes(tmp_path: Path) -> None:
    found = look(tmp_path, "t.tsv", b'id\ttext\n1\tsaid "so\n2\t"open\n')
    assert (found.kind, found.rows) == ("tsv", [{"id": "1", "text": 'said "so'}, {"id": "2", "text": '"open'}])


def test_lines_end_where_the_reader_of_tables_ends_them(tmp_path: Path) -> None:
    data = b"id\ttext\n1\tone\rline\n2\tanother\n"
    found = look(tmp_path, "t.tsv", data)
    assert found.rows == [{"id": "1", "text": "one\rline"}, {"id": "2", "text": "another"}]
    assert read_table.texts(read_table.read(tmp_path, "t.tsv", data)) == ["one\rline", "another"]


def test_one_column_with_marks_in_it(tmp_path: Path) -> None:
    lines = ["one, two", "three; four", "five, six, seven", "eight"] * 5
    found = look(tmp_path, "t.csv", "\n".join(["text", *lines]).encode())
    assert found.rows == [{"text": line} for line in lines]
    assert found.kind == "tsv"


@pytest.mark.parametrize("first", ['1,"a text, long",x', 'good phone,"it is, well",positive', "a,,b"])
def test_a_first_line_of_data_is_no_header(tmp_path: Path, first: str) -> None:
    lines = [first] + [f'{n},"some text, {n}",{"positive" if n % 2 else "x"}' for n in range(20)]
    found = look(tmp_path, "t.csv", "\n".join(lines).encode())
    assert (found.header, found.columns, len(found.rows)) == (False, ("column_1", "column_2", "column_3"), 21)


def test_rows_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    data = table(ROWS).encode() + b'x,"shut" up,a\r\nx,y\r\nx,y,z,w\r\n'
    found = look(tmp_path, "t.csv", data)
    assert (len(found.rows), found.faults) == (20, {"quotes out of place": 1, "wrong number of fields": 2})


def test_jsonl(tmp_path: Path) -> None:
    lines = [json.dumps(row, ensure_ascii=False) for row in ROWS]
    found = look(tmp_path, "t.jsonl", "\n".join([*lines, "{broken", "[1]", ""]).encode())
    assert (found.kind, found.rows, found.columns) == ("jsonl", ROWS, None)
    assert found.faults == {"JSON that does not parse": 1, "not a JSON object": 1}
    assert look(tmp_path, "t.json", "\n".join(lines).encode()).kind == "jsonl"


@pytest.mark.parametrize("name", ["log.jsonl", "log.jsonl.gz", "log"])
def test_a_log_of_chat(tmp_path: Path, name: str) -> None:
    rows: list[Any] = [{"messages": [{"role": "user", "content": f"{n}"}]} for n in range(9)] + [{"level": "info"}]
    data = "\n".join(json.dumps(row) for row in rows).encode()
    found = look(tmp_path, name, gzip.compress(data) if name.endswith("gz") else data)
    assert (found.kind, found.rows) == ("chat", rows)


def test_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a", "यह", None], "n": [1, 2, 3]}), tmp_path / "t.parquet")
    found = take(tmp_path / "t.parquet")
    assert (found.kind, found.total, found.whole) == ("parquet", 3, True)
    assert found.rows == [{"text": "a", "n": 1}, {"text": "यह", "n": 2}, {"text": None, "n": 3}]
    (tmp_path / "t.parquet").rename(tmp_path / "nameless")
    assert take(tmp_path / "nameless").kind == "parquet"


REFUSED: dict[str, tuple[str, bytes, str]] = {
    "empty": ("t.csv", b"", "is empty"),
    "blank": ("t.csv", b"\n \n", "is empty"),
    "empty gzip": ("t.csv.gz", gzip.compress(b""), "is empty"),
    "header alone": ("t.csv", b"id,text,label\n", r"a header \(id, text, label\) but no rows"),
    "zero bytes": ("t.csv", bytes(range(256)) * 20, "is no text file"),
    "noise": ("t.csv", random.Random(1).randbytes(5000).replace(b"\0", b"\1"), "is no text file"),
    "another script's encoding": ("t.csv", ("текст,метка\n" + "это хороший телефон,да\n" * 20).encode("cp1251"),
                                  "its encoding cannot be told"),
    "image": ("t.csv", b"\x89PNG\r\n\x1a\n" + bytes(200), "is no text file"),
    "pdf": ("t.csv", b"%PDF-1.7\n%", "is a PDF"),
    "one JSON list": ("t.json", b'[{"text": "a"}]', "is one JSON list"),
    "jsonl that is none": ("t.jsonl", b"text,label\na,b\n", "does not hold one JSON object a line"),
    "broken gzip": ("t.csv.gz", gzip.compress(table(ROWS).encode())[:-30], "is a broken gzip file"),
    "broken parquet": ("t.parquet", b"PAR1 and nothing more", "is no readable Parquet file"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_looked_at_is_one_line(tmp_path: Path, case: str) -> None:
    name, data, says = REFUSED[case]
    with pytest.raises(DataError, match=says) as caught:
        look(tmp_path, name, data)
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


def test_no_file_a_folder_and_a_spreadsheet(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "t.xlsx", "w") as packed:
        packed.writestr("sheet.xml", "x")
    pq.write_table(pa.table({"messages": [[{"role": "user", "content": "a"}]]}), tmp_path / "chat.parquet")
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "none.parquet")
    for path, says in [
        ("gone.csv", "is not there"),
        ("", "is a folder"),
        ("t.xlsx", "a zip archive, as spreadsheets are"),
        ("chat.parquet", "holds chat requests as Parquet"),
        ("none.parquet", "holds no rows"),
    ]:
        with pytest.raises(DataError, match=says) as caught:
            take(tmp_path / path)
        assert caught.value.remedy


def test_of_a_large_file_rows_from_all_over_are_taken(tmp_path: Path) -> None:
    prose = Prose(1)
    texts = [prose.document(150).replace('"', '""') for _ in range(500)]
    with (tmp_path / "big.csv").open("w", encoding="utf-8", newline="") as file:  # sorted by label, and with line ends
        file.write("id,text,label\r\n")
        file.writelines(f'{n},"{texts[n % 500]}\n\nno, ""{n}""",{n // 50_000}\r\n' for n in range(200_000))
    found = take(tmp_path / "big.csv")
    assert (found.whole, found.spread, found.kind) == (False, True, "csv")
    assert {row["label"] for row in found.rows} == {"0", "1", "2", "3"}
    assert len(found.rows) <= sample.ROWS
    assert 190_000 < found.total < 210_000
    assert found.faults.total() < 5
    assert all(row["text"].endswith(f'no, "{row["id"]}"') for row in found.rows)
    assert len({row["id"] for row in found.rows}) == len(found.rows)


def test_of_a_large_log_and_a_large_parquet_file_too(tmp_path: Path) -> None:
    with (tmp_path / "big.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"n": n, "text": "x" * 400}) + "\n" for n in range(130_000))
    found = take(tmp_path / "big.jsonl")
    assert (found.whole, found.spread, found.kind) == (False, True, "jsonl")
    assert {row["n"] // 13_000 for row in found.rows} == set(range(10))
    assert 125_000 < found.total < 135_000
    assert found.faults.total() == 0
    columns = pa.table({"n": list(range(100_000)), "text": ["x y"] * 100_000})
    pq.write_table(columns, tmp_path / "big.parquet", row_group_size=10_000)
    found = take(tmp_path / "big.parquet")
    assert (found.whole, found.spread, found.total) == (False, True, 100_000)
    assert {row["n"] // 10_000 for row in found.rows} == set(range(10))
    pq.write_table(columns, tmp_path / "one.parquet")
    assert take(tmp_path / "one.parquet").spread is False
