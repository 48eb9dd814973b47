"""JSON and JSON Lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from read_blocks import HINDI, fault, texts, written

from aasut.documents import json_text
from aasut.documents.block import Block


def test_one_object_is_one_document(tmp_path: Path) -> None:
    spell = {"name": "अग्निबाण", "description": HINDI, "level": 3}
    assert written(tmp_path / "a.json", json.dumps(spell)) == [
        Block(f"name: अग्निबाण\ndescription: {HINDI}\nlevel: 3"),
    ]
    assert written(tmp_path / "a.json", json.dumps(spell), title="name", fields=("description",)) == [
        Block("अग्निबाण", 1, None, "अग्निबाण"),
        Block(HINDI, record="अग्निबाण"),
    ]


@pytest.mark.parametrize("piece", [1, 2, 7, 1000])
def test_a_list_is_read_an_element_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr(json_text, "PIECE", piece)
    values = [{"n": 12345, "t": "a]b,{"}, "word", 678, [1, [2, 3]], {"deep": {"x": "नियम"}}]
    found = written(tmp_path / "a.json", " \n" + json.dumps(values, indent=1) + "\n ")
    assert [(block.record, block.text) for block in found] == [
        ("1", "n: 12345\nt: a]b,{"), ("2", "word"), ("3", "678"), ("4", "- 1\n- 2\n  - 3"), ("5", "deep:\n  - x: नियम"),
    ]  # fmt: skip


@pytest.mark.parametrize("piece", [1, 2, 3, 5, 8])
def test_a_number_may_lie_over_a_window_s_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr(json_text, "PIECE", piece)
    values = list(range(1000, 1300))
    assert texts(written(tmp_path / "a.json", json.dumps(values))) == [str(value) for value in values]


def test_lines_are_records(tmp_path: Path) -> None:
    found = written(tmp_path / "a.jsonl", '{"a": "x"}\n\n{"a": "x", "b": 2}\n', title="a")
    assert [(block.record, block.text) for block in found] == [("x", "x"), ("x (2)", "x"), ("x (2)", "b: 2")]


@pytest.mark.parametrize(
    "text", ['{"a": 1', "[1, 2", "[1 2]", "[1,]", "[1] 2", "{} {}", "nonsense", '{"a": "b\n"}', "[,1]"]
)
def test_what_does_not_parse(tmp_path: Path, text: str) -> None:
    assert fault(tmp_path / "a.json", text).reason == "JSON that does not parse"


def test_faults(tmp_path: Path) -> None:
    deep = fault(tmp_path / "a.json", "[" * 100_000)
    assert deep.reason == "nested too deeply"
    bad = fault(tmp_path / "a.jsonl", '{"a": 1}\n{"a"\n')
    assert (bad.reason, bad.detail[:6]) == ("JSON that does not parse", "line 2")
    assert fault(tmp_path / "a.json", "{}").reason == "no text in it"
    assert fault(tmp_path / "a.json", r'{"a": "\ud800"}').reason == "half of a surrogate pair in it"
    assert texts(written(tmp_path / "a.json", r'{"a": "\ud83d\ude00"}')) == ["a: \U0001f600"]
