"""Held-out sets: every entry of every kind of file is read, or the run is stopped with the line that cannot be."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from aasut.data.held_out import Entry, identity, read
from aasut.errors import DataError
from aasut.progress import Progress
from aasut.recipe.field import HeldOut

QUIET = Progress(quiet=True)


def entries(tmp_path: Path, name: str, content: str | bytes, *columns: str) -> list[Entry]:
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return read([HeldOut(source=name, columns=list(columns))], tmp_path, QUIET)


def test_csv_with_all_columns_and_with_some(tmp_path: Path) -> None:
    content = 'question,answer,n\n"How, then?",So.,3\n,,\nवारंटी कितने साल की है?,तीन,4\n'
    assert entries(tmp_path, "a.csv", content) == [
        Entry("a.csv", "line 2", ("How, then?", "So.", "3")),
        Entry("a.csv", "line 4", ("वारंटी कितने साल की है?", "तीन", "4")),
    ]
    assert entries(tmp_path, "a.csv", content, "answer")[1].texts == ("तीन",)


def test_tsv_and_packed_files(tmp_path: Path) -> None:
    assert entries(tmp_path, "a.TSV", "q\ta\n1\tone two\n")[0].texts == ("1", "one two")
    packed = gzip.compress(b'{"q": "one"}\n')
    assert entries(tmp_path, "a.jsonl.gz", packed) == [Entry("a.jsonl.gz", "line 1", ("one",))]


def test_json_lines_with_conversations(tmp_path: Path) -> None:
    talk = {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}], "ok": True}
    content = json.dumps(talk) + "\n\n" + json.dumps({"messages": None, "n": 5, "z": 1.5}) + "\n"
    assert [entry.texts for entry in entries(tmp_path, "a.jsonl", content)] == [
        ("user", "Why?", "assistant", "So."), ("5", "1.5"),
    ]  # fmt: skip
    assert [entry.place for entry in entries(tmp_path, "a.jsonl", content, "n")] == ["line 3"]


def test_paragraphs_of_text(tmp_path: Path) -> None:
    content = "\ufeffone\ntwo\n\n  \n\tthree\r\n\r\nचार।"
    assert entries(tmp_path, "a.txt", content) == [
        Entry("a.txt", "line 1", ("one\ntwo\n",)), Entry("a.txt", "line 5", ("\tthree\n",)),
        Entry("a.txt", "line 7", ("चार।",)),
    ]  # fmt: skip
    assert entries(tmp_path, "notes.md", "# a\n\nb")[1].place == "line 3"


def test_several_sets_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/b.txt").write_text("b")
    (tmp_path / "a.txt").write_text("a")
    sets = [HeldOut(source="deep/b.txt"), HeldOut(source="a.txt")]
    assert [(entry.set, entry.texts) for entry in read(sets, tmp_path, QUIET)] == [
        ("deep/b.txt", ("b",)), ("a.txt", ("a",)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "columns", "reason"),
    [
        ("a.csv", "q,a\n1\n", [], "a.csv, line 2: wrong number of fields"),
        ("a.csv", "q,a\n1,2\n", ["x"], "no column 'x'"),
        ("a.jsonl", '{"q": 1}\n{"q": \n', [], "line 2: JSON that does not parse"),
        ("a.jsonl", '{"q": "a"}\n', ["x"], "no column 'x'"),
        ("a.csv", b"q\n\xff\n", [], "line 2: text that is no UTF-8"),
        ("a.txt", b"a\n\nb\xff\n", [], "line 3: text that is no UTF-8"),
        ("a.txt", "a\n".encode("utf-16"), [], "is UTF-16"),
        ("a.csv", "q\nwhat\n".encode("utf-16"), [], "UTF-16"),
        ("a.txt", "a", ["q"], "has no columns"),
        ("a.txt", " \n\n", [], "holds no text"),
        ("a.csv", "q,a\n", [], "holds no text"),
        ("a.jsonl", '{"q": null}\n', [], "holds no text"),
    ],
)
def test_what_cannot_be_read_is_not_passed_over(
    name: str, content: str | bytes, columns: list[str], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        entries(tmp_path, name, content, *columns)
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    for ask in (lambda sets: read(sets, tmp_path, QUIET), lambda sets: identity(sets, tmp_path)):
        with pytest.raises(DataError, match="There is no held-out set"):
            ask([HeldOut(source="a.csv")])


def test_identity_is_of_bytes_and_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("q,a\n1,2\n")
    one, other = [HeldOut(source="a.csv")], [HeldOut(source="a.csv", columns=["q"])]
    before = identity(one, tmp_path)
    assert before == identity(one, tmp_path) != identity(other, tmp_path)
    (tmp_path / "a.csv").write_text("q,a\n1,3\n")
    assert identity(one, tmp_path) != before
    assert identity([], tmp_path) == identity([], tmp_path / "elsewhere")
