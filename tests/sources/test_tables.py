"""Tables: every row is an example or counted by reason; what spoils a whole table is one clear line."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aasut.errors import AasutError, DataError, HashMismatch, RecipeError
from aasut.progress import Progress
from aasut.prompts import PromptTemplate
from aasut.recipe import Table
from aasut.sources import tables
from aasut.tasks import Classify
from aasut.types import Example

TASK = Classify(("negative", "positive"), PromptTemplate.of("{text}"))
HINDI = "यह फ़ोन बहुत अच्छा है"
VADER = {
    "source": "pypi-sdist:vaderSentiment==3.3.2#vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
    "!hutto_ICWSM_2014/amazonReviewSnippets_GroundTruth.txt",
    "sha256": "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    "format": "tsv",
    "encoding": "latin-1",
    "columns": ["id", "mean", "text"],
    "slots": {"text": "text"},
    "id": "id",
    "group": {"column": "id", "pattern": r"(\d+)_"},
    "label": {
        "column": "mean",
        "ranges": [{"label": "negative", "at_most": -0.5}, {"label": "positive", "at_least": 0.5}],
    },
}


def read(folder: Path, source: str, data: bytes | str | None = None, **fields: Any) -> tables.TableRows:
    """Write the file, then read it as a table of role pool unless `fields` say otherwise."""
    if data is not None:
        (folder / source).write_bytes(data.encode() if isinstance(data, str) else data)
    cache = fields.pop("cache", folder / "cache")
    settings = {"source": source, "slots": {"text": "text"}, "role": "pool"} | fields
    table = Table.model_validate(settings)
    result = tables.read(table, task=TASK, base=folder, progress=Progress(quiet=True), cache=cache)
    assert result.rows_in == len(result.examples) + sum(result.failed.values())
    return result


def texts(rows: tables.TableRows) -> list[str]:
    return [example.slots["text"] for example in rows.examples]


def fails(folder: Path, kind: type[AasutError], match: str, *args: Any, **fields: Any) -> None:
    with pytest.raises(kind, match=match) as caught:
        read(folder, *args, **fields)
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


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


def test_jsonl_labels_may_be_left_out(tmp_path: Path) -> None:
    data = '{"text": "a", "y": "POSITIVE"}\n{"text": "b"}\n{"text": "c", "y": null}\n'
    rows = read(tmp_path, "t.jsonl", data, label={"column": "y"})
    assert [e.answer for e in rows.examples] == ["positive", None, None]


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
    ranges = VADER["label"]["ranges"]  # type: ignore[index]
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


def test_a_text_longer_than_the_csv_modules_own_limit(tmp_path: Path) -> None:
    long = "word " * 100_000
    assert texts(read(tmp_path, "t.csv", f"text\n{long}\nnext\n")) == [long, "next"]


def test_whole_table_mistakes(tmp_path: Path) -> None:
    fails(tmp_path, DataError, r"gone\.csv is not there", "gone.csv")
    (tmp_path / "folder.csv").mkdir()
    fails(tmp_path, DataError, "is a folder", "folder.csv")
    fails(tmp_path, DataError, r"t\.csv is empty", "t.csv", "")
    fails(tmp_path, DataError, r"t\.csv is empty", "t.csv", "text\n")
    fails(tmp_path, DataError, r"no column 'text'; it has id, body\.", "t.csv", "id,body\n1,x\n")
    fails(tmp_path, DataError, r"no column 'text'; it has id, body\.", "t.tsv", "1\tx\n", columns=["id", "body"])
    fails(tmp_path, DataError, r"no column 'text'; it has id, body\.", "t.jsonl", '{"id": 1, "body": "x"}\n')
    pq.write_table(pa.table({"body": ["x"]}), tmp_path / "t.parquet")
    fails(tmp_path, DataError, r"no column 'text'; it has body\.", "t.parquet")
    fails(tmp_path, DataError, "two columns called 'text'", "t.csv", "text,text\na,b\n")
    fails(tmp_path, DataError, "no readable Parquet", "bad.parquet", "PAR1 or not")
    fails(tmp_path, DataError, "opens in line 3 is never closed", "t.csv", 'text\nfine\n"open\nmore\nmore\n')


def test_settings_that_do_not_fit(tmp_path: Path) -> None:
    fails(tmp_path, RecipeError, r"format of t\.dat is not known", "t.dat", "text\na\n")
    fails(tmp_path, RecipeError, "columns are for CSV", "t.jsonl", "{}", columns=["text"])
    fails(tmp_path, RecipeError, "parquet says its encoding itself", "t.parquet", "", encoding="latin-1")
    fails(tmp_path, RecipeError, "xml says its encoding itself", "t.xml", "", encoding="latin-1")
    fails(tmp_path, RecipeError, "no text encoding 'utf-9'", "t.csv", "text\na\n", encoding="utf-9")
    fails(tmp_path, RecipeError, "no text encoding 'base64'", "t.csv", "text\na\n", encoding="base64")


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


def test_text_that_cannot_be_read_on_in_the_given_encoding(tmp_path: Path) -> None:
    fails(tmp_path, DataError, "cannot be read as utf-16", "t.csv", b"text\nab\n\xd8\n", encoding="utf-16")


def test_a_label_that_is_not_in_the_list(tmp_path: Path) -> None:
    match = r"t\.csv, line 3: the label 'meh' is not in the list \(negative, positive\)\. Add it to task\.labels"
    fails(tmp_path, DataError, match, "t.csv", "text,y\na,positive\nb,meh\n", label={"column": "y"})


def test_a_group_pattern_that_finds_nothing(tmp_path: Path) -> None:
    match = r"line 3: the group pattern '\(\\\\d\+\)_' finds nothing in 'x_1'"
    fails(tmp_path, DataError, match, "t.csv", "id,text\n1_1,a\nx_1,b\n", group={"column": "id", "pattern": r"(\d+)_"})


def test_the_hash_of_a_file_is_checked(tmp_path: Path) -> None:
    data = b"text\na\n"
    right = hashlib.sha256(data).hexdigest()
    assert texts(read(tmp_path, "t.csv", data, sha256=right)) == ["a"]
    fails(tmp_path, HashMismatch, rf"t\.csv: SHA-256 is {right}", "t.csv", data, sha256="0" * 64)


def test_content_follows_the_file(tmp_path: Path) -> None:
    table = Table.model_validate({"source": "t.csv", "slots": {"text": "text"}, "role": "pool"})
    (tmp_path / "t.csv").write_text("text\na\n")
    before = tables.content(table, base=tmp_path)
    (tmp_path / "t.csv").write_text("text\nb\n")
    assert tables.content(table, base=tmp_path) != before


def test_a_source_distribution_needs_a_hash_and_a_member(tmp_path: Path) -> None:
    fails(tmp_path, RecipeError, "has no sha256", VADER["source"], format="tsv")
    fails(tmp_path, RecipeError, "is no source", "pypi-sdist:vaderSentiment==3.3.2", format="tsv", sha256="0" * 64)
    fails(tmp_path, RecipeError, "is no source", "pypi-sdist:../x==1#a!!b", format="tsv", sha256="0" * 64)


def test_a_real_table_out_of_a_source_distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fields: dict[str, Any] = {**VADER, "role": "both"}
    source = fields.pop("source")
    fails(tmp_path, HashMismatch, "vaderSentiment==3.3.2", source, **{**fields, "sha256": "0" * 64})
    rows = read(tmp_path, source, **fields)
    answered = [e for e in rows.examples if e.answer is not None]
    assert (rows.rows_in, rows.failed, len(answered)) == (3708, {}, 2985)
    assert len({e.group for e in answered}) == 298
    assert rows.examples[0].slots["text"] == "troubleshooting ad-2500 and ad-2600 no picture scrolling b/w."

    monkeypatch.setenv("PIP_RETRIES", "0")
    # From here on only the cache can give the table.
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert read(tmp_path, source, **fields) == rows

    cached = next((tmp_path / "cache").rglob("amazon*.txt"))
    assert cached.parent.parent == tmp_path / "cache" / "aasut" / "tables" / fields["sha256"]
    cached.write_bytes(cached.read_bytes()[:1000])  # a damaged cache is not believed
    with pytest.raises(AasutError):
        read(tmp_path, source, **fields)


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
