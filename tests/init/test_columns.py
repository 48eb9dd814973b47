"""What a column holds is measured, and told apart from what looks like it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import read_table
from aasut.init.columns import Column, as_text, profile


def column(*cells: Any) -> Column:
    (found,) = profile([{"x": cell} for cell in cells])
    return found


def kinds(found: Column) -> set[str]:
    return {kind for kind in ("text", "label", "code", "date") if getattr(found, f"is_{kind}")}


def test_values_are_counted_and_measured() -> None:
    found = column("ab cd", " ab cd ", "", None, float("nan"), "7", '{"a": 1}')
    assert (found.rows, found.filled, found.distinct) == (7, 4, 3)
    assert dict(found.counts) == {"ab cd": 2, "7": 1, '{"a": 1}': 1}
    assert (found.characters, found.words) == ((5 + 5 + 1 + 8) / 4, (2 + 2 + 1 + 2) / 4)
    assert (found.numbers, found.objects, found.varied) == (1 / 4, 1 / 4, 3 / 4)
    assert not found.nested
    assert column({"a": 1}, "x").nested
    assert column("inf", "nan", "1e3", "-2").numbers == 2 / 4
    assert column('{"a"', "[1]", '{"a": 2}').objects == 1 / 3


def test_columns_come_in_the_order_of_the_rows_and_gaps_are_empty_cells() -> None:
    found = profile([{"b": 1}, {"a": "x", "b": None}])
    assert [(c.name, c.rows, c.filled) for c in found] == [("b", 2, 1), ("a", 2, 1)]


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["it broke at once", "works as it should"], {"text"}),
        (["बहुत अच्छा", "खराबफ़ोन"], {"text"}),
        (["good", "bad"] * 20, {"label"}),
        (["3", "4", "5"] * 20, {"label"}),
        ([f"K{n}" for n in range(30)], {"code"}),
        ([f"2024-01-{n:02d}" for n in range(1, 29)], {"code", "date"}),
        ([f"{n}.5" for n in range(30)] * 4, {"code"}),
        ([f"https://example.com/page {n}" for n in range(30)], set()),
        ([{"a": "some words"}, {"a": "more words"}] * 20, set()),
        (["good" * 20, "bad" * 25] * 20, set()),
        (["once", "each"], set()),
    ],
)
def test_kinds_of_columns(cells: list[Any], kind: set[str]) -> None:
    assert kinds(column(*cells)) == kind


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("text", True),
        ("review_text", True),
        ("reviewText", True),
        ("TEXT", True),
        ("context", False),
        ("texture", False),
    ],
)
def test_a_name_is_told_by_its_words(name: str, named: bool) -> None:
    (found,) = profile([{name: "x"}])
    assert found.named(("text", "body")) == named


@pytest.mark.parametrize("cell", ["a b", 3, 4.5, True])
def test_cells_are_texts_as_the_reader_of_tables_takes_them(tmp_path: Path, cell: Any) -> None:
    read = read_table.read(tmp_path, "t.jsonl", json.dumps({"text": cell}))
    assert read_table.texts(read) == [as_text(cell)]
