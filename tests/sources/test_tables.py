"""Where a table comes from, and what spoils a whole one: one clear line."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aasut.errors import AasutError, DataError, HashMismatch, RecipeError
from aasut.recipe import Table
from aasut.sources import tables
from read_table import REVIEWS, fails, read, texts


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
    fails(tmp_path, RecipeError, "has no sha256", REVIEWS["source"], format="tsv")
    fails(tmp_path, RecipeError, "is no file", "pypi-sdist:vaderSentiment==3.3.2", format="tsv", sha256="0" * 64)
    fails(tmp_path, RecipeError, "is no file", "pypi-sdist:../x==1#a!!b", format="tsv", sha256="0" * 64)


def test_a_real_table_out_of_a_source_distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fields: dict[str, Any] = {**REVIEWS, "role": "both"}
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
