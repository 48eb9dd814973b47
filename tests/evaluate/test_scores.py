from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from aasut.errors import DataError
from aasut.evaluate import scores
from aasut.prompts import PromptTemplate
from aasut.recipe.recipe import METRICS, Metric
from aasut.tasks import Classify, Extract, Generate

PROMPT = PromptTemplate.of("{text}")
TEXT = Generate(PROMPT, 99)
BOOK = {"name": "book", "arguments": {"city": "Pune", "nights": 2}}
MAIL = {"name": "mail", "arguments": {"to": "ann"}}


def tool(name: str, predicted: Any, gold: Any) -> float:
    """Score of one prediction."""
    said, wanted = (text if isinstance(text, str) else json.dumps(text) for text in (predicted, gold))
    return float(scores.of_items(name, TEXT, [said], [wanted])[0])


def test_the_recipe_may_name_what_there_is() -> None:
    named = set(get_args(Metric))
    assert named == set(scores.ITEM_SCORES) | {"macro_f1"}
    assert {name for names in METRICS.values() for name in names} == named
    assert {kind: names[0] for kind, names in METRICS.items()} == {
        "classify": "accuracy", "generate": "exact", "extract": "exact", "tools": "exact",
    }  # fmt: skip


def test_labels_text_and_fields() -> None:
    labels = Classify(("x", "y"), PROMPT)
    assert scores.of_items("accuracy", labels, ["x", "y", "y"], ["x", "x", "y"]).tolist() == [1, 0, 1]
    assert scores.of_items("exact", TEXT, ["a b ", "a c", ""], ["a b", "a b", "a b"]).tolist() == [1, 0, 0]
    found = scores.of_items("token_f1", TEXT, ["the cat sat", "A b", ""], ["the cat", "a b", "x"])
    assert found.tolist() == pytest.approx([4 / 5, 1, 0])
    shape = Extract(PROMPT, 9, '{"type": "object", "properties": {"a": {}, "b": {}}}')
    found = scores.of_items("fields", shape, ['{"a": 1, "b": 2}', ""], ['{"a": 1, "b": 3}', '{"a": 1}'])
    assert found.tolist() == [0.5, 0]


@pytest.mark.parametrize(
    "same",
    [
        {"name": "book", "arguments": {"nights": 2, "city": "Pune"}},
        {"name": "book", "arguments": '{"nights": 2.0, "city": "Pune"}'},
        [BOOK],
        {"id": "c1", "type": "function", "function": {"name": "book", "arguments": json.dumps(BOOK["arguments"])}},
    ],
)
def test_forms_of_one_call(same: Any) -> None:
    assert tool("tool_calls", same, BOOK) == 1
    assert tool("tool_names", same, BOOK) == 1


@pytest.mark.parametrize(
    ("predicted", "gold", "whole", "names"),
    [
        ({"name": "book", "arguments": {"city": "Pune", "nights": 3}}, BOOK, 0, 1),
        ({"name": "book", "arguments": {"city": "pune", "nights": 2}}, BOOK, 0, 1),
        ({"name": "book", "arguments": {"city": "Pune"}}, BOOK, 0, 1),
        ({"name": "Book", "arguments": BOOK["arguments"]}, BOOK, 0, 0),
        ([MAIL, BOOK], [BOOK, MAIL], 1, 1),  # their order does not matter
        (BOOK, [BOOK, MAIL], 2 / 3, 2 / 3),
        ([BOOK, BOOK], [BOOK], 2 / 3, 2 / 3),  # twice is once too often
        ([BOOK, BOOK], [BOOK, {"name": "book", "arguments": {}}], 1 / 2, 1),
        ({"name": "ping", "arguments": ""}, {"name": "ping"}, 1, 1),
        ("I have booked it.", BOOK, 0, 0),
        ('{"name": "book", "arguments": {"city": ', BOOK, 0, 0),
        ('{"name": "book", "arguments": "{broken"}', BOOK, 0, 0),
        ({"name": "book", "arguments": [1]}, BOOK, 0, 0),
        ([BOOK, 7], BOOK, 0, 0),
        ("Nothing to do.", "There is no hotel.", 1, 1),  # neither calls a tool
        (BOOK, "There is no hotel.", 0, 0),
        ("[]", "There is no hotel.", 1, 1),
        ("", "There is no hotel.", 0, 0),  # no answer is not an answer without a call
        ("[" * 100_000, BOOK, 0, 0),
    ],
)
def test_tool_calls(predicted: Any, gold: Any, whole: float, names: float) -> None:
    assert tool("tool_calls", predicted, gold) == pytest.approx(whole)
    assert tool("tool_names", predicted, gold) == pytest.approx(names)


def test_human_answers_without_any_call_are_refused() -> None:
    with pytest.raises(DataError, match="so that tool_names cannot be scored") as caught:
        scores.check(["exact", "tool_names"], ["a", "{}", "[]"])
    assert caught.value.remedy
    scores.check(["exact", "token_f1"], ["a", "{}"])
    scores.check(["exact", "tool_calls"], ["a", json.dumps(BOOK)])
