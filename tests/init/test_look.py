"""What columns are for: input, answers, names of rows, groups; and what answers tell of the task."""

# ruff: noqa: ARG005

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from aasut.init import answers
from aasut.init.look import Table, look
from prose import Prose


def rows(count: int = 200, **columns: Any) -> list[dict[str, Any]]:
    """A table; each column is made by a function of the row's number and prose."""
    prose = Prose(2)
    return [{name: make(n, prose) for name, make in columns.items()} for n in range(count)]


def seen(count: int = 200, **columns: Any) -> Table:
    found = look(rows(count, **columns))
    assert found is not None
    return found


def name(column: Any) -> str | None:
    return None if column is None else str(column.name)


TEXT = {"review": lambda n, p: p.sentence(12)}
LABEL = {"sentiment": lambda n, p: "good" if n % 3 else "bad"}


def test_a_plain_table() -> None:
    found = seen(id=lambda n, p: n, customer=lambda n, p: f"c{n // 4}", **TEXT, **LABEL)
    assert (name(found.text), name(found.answer), name(found.id), name(found.group)) == (
        "review",
        "sentiment",
        "id",
        "customer",
    )
    assert (found.kind, found.labels, found.groups) == ("classify", ("bad", "good"), 50)


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"a": lambda n, p: p.sentence(3), "b": lambda n, p: p.sentence(30)}, "b"),
        ({"title": lambda n, p: p.sentence(5), "notes": lambda n, p: p.sentence(10)}, "notes"),
        ({"text": lambda n, p: p.sentence(8), "notes": lambda n, p: p.sentence(12)}, "text"),
        ({"url": lambda n, p: f"https://example.com/{n}/{'x' * 90}", "b": lambda n, p: p.sentence(3)}, "b"),
        ({"uuid": lambda n, p: f"{random.Random(n).getrandbits(300):x}", "b": lambda n, p: p.sentence(3)}, "b"),
        ({"when": lambda n, p: f"2024-01-02 10:{n % 60:02d}:00.000000 +00:00", "b": lambda n, p: p.sentence(2)}, "b"),
        ({"same": lambda n, p: "the same long text in each and every row", "b": lambda n, p: p.sentence(4)}, "b"),
        ({"n": lambda n, p: n, "पाठ": lambda n, p: p.hindi(5)}, "पाठ"),
        ({"n": lambda n, p: n, "文": lambda n, p: "这个手机很好用电池也不错" + chr(0x4E00 + n)}, "文"),
        ({"question": lambda n, p: p.sentence(6), "answer": lambda n, p: p.sentence(40)}, "question"),
    ],
)
def test_the_input_is_the_long_varied_text(columns: dict[str, Any], text: str) -> None:
    assert name(seen(**columns).text) == text


@pytest.mark.parametrize("columns", [{"n": lambda n, p: n}, {"code": lambda n, p: f"A{n}"}, {"t": lambda n, p: ""}])
def test_a_table_without_text(columns: dict[str, Any]) -> None:
    assert look(rows(**columns)) is None


@pytest.mark.parametrize(
    ("columns", "label", "labels"),
    [
        ({"intent": lambda n, p: f"intent {n % 30}", "country": lambda n, p: ["de", "in"][n % 2]}, "intent", 30),
        ({"x": lambda n, p: ["yes", "no", "maybe"][n % 3]}, "x", 3),
        ({"label": lambda n, p: n % 2}, "label", 2),
        ({"label": lambda n, p: n % 2 == 0}, "label", 2),
        ({"label": lambda n, p: ["Yes", "yes", "no"][n % 3]}, "label", 2),
        ({"label": lambda n, p: ["yes", "no", None, ""][n % 4]}, "label", 2),
        ({"लेबल": lambda n, p: ["अच्छा", "बुरा"][n % 2]}, "लेबल", 2),
        ({"class": lambda n, p: f"K{n % 5}", "stars": lambda n, p: n % 5}, "class", 5),
    ],
)
def test_the_labels_are_few_values_that_come_back(columns: dict[str, Any], label: str, labels: int) -> None:
    found = seen(**TEXT, **columns)
    assert (found.kind, name(found.answer), len(found.labels)) == ("classify", label, labels)


@pytest.mark.parametrize(
    "columns",
    [
        {"code": lambda n, p: f"K{n % 60}"},
        {"label": lambda n, p: f"label {n}"},
        {"label": lambda n, p: "same"},
        {"day": lambda n, p: f"2024-01-{n % 28 + 1:02d}"},
        {"meta": lambda n, p: {"lang": "en"}},
        {"tags": lambda n, p: ["a", "b"]},
    ],
)
def test_other_columns_are_no_answers(columns: dict[str, Any]) -> None:
    found = seen(**TEXT, **columns)
    assert (found.kind, found.answer) == ("", None)


@pytest.mark.parametrize(
    ("make", "ranges"),
    [
        (lambda n, p: n % 5 + 1, (("negative", None, 2.0), ("positive", 4.0, None))),
        (lambda n, p: f"{n % 5 + 1}.0", (("negative", None, 2.0), ("positive", 4.0, None))),
        (lambda n, p: (n % 81 - 40) / 10, (("negative", None, -0.5), ("positive", 0.5, None))),
    ],
)
def test_a_rating_becomes_two_labels_with_a_gap(make: Any, ranges: Any) -> None:
    found = seen(**TEXT, rating=make)
    assert (found.kind, found.labels, found.ranges) == ("classify", ("negative", "positive"), ranges)


def test_free_text_and_objects_as_answers() -> None:
    found = seen(question=lambda n, p: p.sentence(6), answer=lambda n, p: p.sentence(20))
    assert (found.kind, name(found.answer)) == ("generate", "answer")
    for make in (lambda n, p: {"a": n}, lambda n, p: json.dumps({"a": n})):
        found = seen(**TEXT, output=make)
        assert (found.kind, name(found.answer)) == ("extract", "output")


def test_names_of_rows_and_groups() -> None:
    found = seen(**TEXT, review_id=lambda n, p: n // 3, row_id=lambda n, p: f"x{n}")
    assert (name(found.id), name(found.group), found.groups) == ("row_id", "review_id", 67)
    found = seen(**TEXT, id=lambda n, p: f"{n // 4}_{n % 4}")
    assert (name(found.id), name(found.group), found.groups) == ("id", "id", 50)
    assert found.group_pattern == r"(.+?)[_\-./:#]\d+$"
    found = seen(**TEXT, id=lambda n, p: n // 2)  # not unique: it names no row
    assert (name(found.id), name(found.group)) == (None, "id")
    found = seen(**TEXT, customer=lambda n, p: n)  # unique: it keeps nothing together
    assert name(found.group) is None
    found = seen(**TEXT, customer=lambda n, p: "c" if n % 2 else "")
    assert name(found.group) is None


def test_duplicates_and_contradictions() -> None:
    found = seen(100, text=lambda n, p: f"some text {n % 80}", label=lambda n, p: "a" if n < 90 else "b")
    assert (found.duplicates, found.conflicts) == (20, 10)


def test_other_candidates_are_named() -> None:
    found = seen(**TEXT, title=lambda n, p: p.sentence(3), **LABEL, country=lambda n, p: ["de", "in"][n % 2])
    assert (found.other_texts, found.other_labels) == (("title",), ("country",))


# --- answers


def test_labels_among_answers() -> None:
    said = ["spam", "Spam.", '"ham"', "ham", "SPAM"] * 20 + ["I cannot tell."]
    found = answers.of(said, 100)
    assert found is not None
    assert (found.kind, dict(found.labels), found.rare) == ("classify", {"ham": 40, "spam": 60}, 1)


def test_objects_among_answers() -> None:
    draw = random.Random(1)
    said = [json.dumps({"item": f"i{n}", "size": draw.choice("SML"), "count": n, "price": n / 4 if n % 2 else n,
                        "gift": n % 2 == 0, "tags": ["a", "b"], "to": {"name": "x"}}
                       | ({"note": "n"} if n % 5 == 0 else {}) | {"code": None if n % 3 else f"c{n}"})
            for n in range(50)]  # fmt: skip
    found = answers.of([*said, f"```json\n{said[0]}\n```", "Sorry."], 100)
    assert found is not None
    assert (found.kind, found.rare) == ("extract", 1)
    assert found.schema == {
        "type": "object",
        "properties": {
            "item": {"type": "string"},
            "size": {"type": "string", "enum": ["L", "M", "S"]},
            "count": {"type": "integer"},
            "price": {"type": "number"},
            "gift": {"type": "boolean"},
            "tags": {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}},
            "to": {
                "type": "object",
                "properties": {"name": {"type": "string", "enum": ["x"]}},
                "required": ["name"],
                "additionalProperties": False,
            },
            "note": {"type": "string"},
            "code": {"type": ["null", "string"]},
        },
        "required": ["item", "size", "count", "price", "gift", "tags", "to", "code"],
        "additionalProperties": False,
    }


def test_free_text_and_too_few_answers() -> None:
    prose = Prose(3)
    found = answers.of([prose.sentence(15) for _ in range(30)], 100)
    assert found is not None
    assert (found.kind, found.count) == ("generate", 30)
    assert answers.of(["a", "b"] * 4 + ["", " "], 100) is None
    assert answers.of([f"answer {n}" for n in range(50)], 100).kind == "generate"  # type: ignore[union-attr]
