"""Records: their names, their fields, and matches of a pattern."""

from __future__ import annotations

from pathlib import Path

import pytest
from read_blocks import HINDI, fault, texts, written

from aasut.documents import records
from aasut.documents.block import Block
from aasut.documents.opened import Wanted

CODES = 'DTC = {\n    "P0001": "Fuel Regulator Open",\n    "P0002": "ईंधन नियामक सीमा",\n    "x": "no code",\n}\n'
PATTERN = r'"(?P<code>[PBCU]\d{4})": "(?P<meaning>[^"]+)"'


def test_names_are_told_apart() -> None:
    names = records.Names()
    given = [names.name(title) for title in ("", "नियम", "नियम", "3", "", "a  b", "x" * 300, "1")]
    assert given == ["1", "नियम", "नियम (3)", "3", "5", "a b", "x" * 120, "1 (8)"]
    assert len(set(given)) == len(given)


def test_a_value_in_markdown() -> None:
    value: dict[str, object] = {
        "name": "Fire",
        "tags": ["a", "b"],
        "none": None,
        "no": [],
        "deep": {"x": 1, "y": {"z": True}},
    }
    value["of"] = [{"k": 1, "l": 2}, 3]
    assert list(records.lines(value)) == [
        "name: Fire", "tags: a, b", "deep:", "  - x: 1", "  - y:", "    - z: yes", "of:", "  - k: 1", "    - l: 2",
        "  - 3",
    ]  # fmt: skip


def test_chosen_fields_and_dotted_paths() -> None:
    value = {
        "system": {"text": {"value": HINDI}},
        "acts": [{"n": "Bite"}, {"n": "Claw"}, {"m": 1}],
        "id": 7,
        "a.b": "c",
    }
    wanted = Wanted(fields=("system.text.value", "acts.n", "a.b", "missing"), title="id")
    assert list(records.blocks(value, wanted, "7")) == [
        Block("7", 1, None, "7"),
        Block(f"value: {HINDI}\nn: Bite, Claw\nb: c", record="7"),
    ]
    assert texts(list(records.blocks(value, Wanted(fields=("system.text.value",)), None))) == [HINDI]
    assert list(records.blocks(value, Wanted(fields=("missing",)), None)) == []


def test_matches_are_records(tmp_path: Path) -> None:
    assert written(tmp_path / "codes.py", CODES, pattern=PATTERN, title="code") == [
        Block("P0001", 1, None, "P0001"),
        Block("meaning: Fuel Regulator Open", record="P0001"),
        Block("P0002", 1, None, "P0002"),
        Block("meaning: ईंधन नियामक सीमा", record="P0002"),
    ]


def test_a_record_may_have_a_name_that_its_text_has_not(tmp_path: Path) -> None:
    found = written(tmp_path / "a.py", CODES, pattern=PATTERN, fields=("meaning",), id="code")
    assert found == [
        Block("Fuel Regulator Open", record="P0001"),
        Block("ईंधन नियामक सीमा", record="P0002"),
    ]


def test_message_blocks_of_a_dbc_file(tmp_path: Path) -> None:
    text = (
        'BU_: A\n\nBO_ 34 Fault: 8 MRR\n SG_ One : 4|1@1+ (1,0) [0|1] "" X\n SG_ Two : 3|1@1+\n\nBO_ 35 Other: 4 MRR\n'
    )
    pattern = r"(?m)^BO_ (?P<id>\d+) (?P<message>\w+):.*(?P<signals>(?:\n SG_ .*)*)"
    found = written(tmp_path / "car.dbc", text, pattern=pattern, title="message", fields=("id", "signals"))
    assert [block.record for block in found if block.level] == ["Fault", "Other"]
    assert "SG_ Two" in found[1].text
    assert found[3].text == "id: 35"


@pytest.mark.parametrize("size", [50, 64, 99, 100, 101, 4096])
def test_matches_are_found_over_the_windows_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(records, "WINDOW", size)
    monkeypatch.setattr(records, "MATCH", 45)
    lines = [f"id {i}: text of {i * 7}\n" + "-" * (i % 23) + "\n" for i in range(300)]
    found = written(tmp_path / "a.txt", "".join(lines), pattern=r"(?m)^id (?P<n>\d+): (?P<t>.+)$(?=\n-*\n)", title="n")
    assert [block.record for block in found if block.level] == [str(i) for i in range(300)]
    assert [block.text for block in found if not block.level] == [f"t: text of {i * 7}" for i in range(300)]


def test_a_pattern_that_starts_the_file_matches_there_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "WINDOW", 64)
    monkeypatch.setattr(records, "MATCH", 16)
    found = written(tmp_path / "a.txt", "ab1 " * 100, pattern=r"\A(?P<x>ab\d)")
    assert [block.record for block in found] == ["1"]


def test_faults(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    assert fault(path, "no codes", pattern=PATTERN).reason == "no match of records.pattern"
    assert fault(path, CODES, pattern=PATTERN, title="kind").detail == "kind"
    assert fault(tmp_path / "a.html", "<html><p>x</p></html>", pattern=PATTERN).reason == "records.pattern is for text"
