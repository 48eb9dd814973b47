from __future__ import annotations

import json
from typing import Any

import pytest

from aasut.prompts import PromptTemplate
from aasut.tasks import Classify, Extract, Generate, answer_text, fields, make


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("positive", "positive"),
        (" Positive.\n", "positive"),
        ('"negative"', "negative"),
        ("**NEGATIVE**", "negative"),
        ("`positive` ", "positive"),
        ("C++.", "C++."),
        ("c++.", "C++."),
        ("'tis", "'tis"),
        ('"\'tis"', "'tis"),
        ("positive or negative", None),
        ("pos", None),
        ("positively", None),
        ("", None),
        ("...", None),
    ],
)
def test_answers_are_found_in_text(said: str, answer: str | None) -> None:
    assert Classify(("negative", "positive", "C++.", "'tis"), PromptTemplate.of("{text}")).parse(said) == answer


def test_correct_goes_item_by_item() -> None:
    task = Classify(("no", "yes"), PromptTemplate.of("{text}"))
    assert task.correct(["yes", "no", "yes"], ["yes", "yes", "yes"]) == [True, False, True]
    with pytest.raises(ValueError):
        task.correct(["yes"], ["yes", "no"])


def test_an_answer_continues_the_prompt_with_one_space() -> None:
    assert answer_text("Sentiment:", "good") == " good"
    assert answer_text("Sentiment: ", "good") == "good"
    assert answer_text("Sentiment:\n", "good") == "good"
    assert answer_text("", "good") == "good"


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "count": {"type": "integer"},
        "price": {"type": "number"},
        "parts": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"part": {"type": "string"}, "broken": {"type": "boolean"}},
                "required": ["part"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["name"],
    "additionalProperties": False,
}


def extract(schema: Any = SCHEMA) -> Extract:
    return Extract(PromptTemplate.of("{text}"), 64, json.dumps(schema))


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ('{"name":"lens"}', '{"name": "lens"}'),
        ('{\n  "count" : 2,\n  "name" : "lens"\n}', '{"name": "lens", "count": 2}'),
        ('{"count": 1.0, "name": "a", "price": 1.0}', '{"name": "a", "count": 1, "price": 1}'),
        ('{"name": "a", "price": 1.50}', '{"name": "a", "price": 1.5}'),
        ('{"name": "a", "price": -0.0}', '{"name": "a", "price": 0}'),
        ('{"name": "a", "price": 1e2}', '{"name": "a", "price": 100}'),
        ('{"name": "a", "price": 1e300}', '{"name": "a", "price": 1e+300}'),
        ('{"name": "caf\\u00e9 \\ud83d\\udc08"}', '{"name": "café 🐈"}'),
        ('{"name": " two  spaces "}', '{"name": " two  spaces "}'),
        (
            '{"parts": [{"broken": true, "part": "strap"}, {"part": "cap"}], "name": "lens"}',
            '{"name": "lens", "parts": [{"part": "strap", "broken": true}, {"part": "cap"}]}',
        ),
    ],
)
def test_json_has_one_written_form(given: str, written: str) -> None:
    assert extract().canonical(given) == written
    assert extract().canonical(written) == written


@pytest.mark.parametrize(
    "given",
    [
        "", "{", "lens", "null", "[]", '["name"]', "{}", '{"count": 2}', '{"name": 3}', '{"name": "a", "count": 1.5}',
        '{"name": "a", "count": true}', '{"name": "a", "colour": "red"}', '{"name": "a", "parts": [{"broken": true}]}',
        '{"name": "a", "price": NaN}', '{"name": "a", "price": Infinity}', '{"name": "a", "price": -Infinity}',
        '{"name": "a", "price": 1e999}', '{"name": "half a pair: \\ud83d"}', '{"name": "a"', '{"name": "a"} and',
        '{"name": "a"}{"name": "b"}', '{"name": ' + "[" * 100_000, '{"name": "a", "count": ' + "9" * 9_999 + "}",
    ],
    ids=range(23),
)  # fmt: skip
def test_what_is_no_answer_in_json_is_refused(given: str) -> None:
    assert extract().canonical(given) is None


@pytest.mark.parametrize(
    "said",
    [
        '{"count": 2, "name": "lens"}',
        '```json\n{"name": "lens",\n "count": 2.0}\n```',
        'Here it is: {"name":"lens","count":2}. Anything else?',
        '\n\n {"name": "lens", "count": 2}\n',
    ],
)
def test_json_is_found_in_what_a_model_says(said: str) -> None:
    assert extract().parse(said) == '{"name": "lens", "count": 2}'


@pytest.mark.parametrize(
    "said", ["", "lens", "}{", '{"name": "a"', "name}", '{"count": 2}', '{"name": "a"} {"name": "b"}']
)
def test_a_model_that_says_no_json_or_two_gives_no_answer(said: str) -> None:
    assert extract().parse(said) is None


POINTING = {
    "type": "object",
    "properties": {
        "who": {"$ref": "#/$defs/person"},
        "also": {"anyOf": [{"$ref": "#/$defs/person"}, {"type": "null"}]},
        "more": {"type": "array", "items": {"allOf": [{"$ref": "#/$defs/person"}]}},
    },
    "$defs": {
        "person": {"type": "object", "properties": {"surname": {"type": "string"}, "first": {"type": "string"}}},
    },
}


def test_the_order_of_fields_is_followed_through_references() -> None:
    person, turned = '{"surname": "b", "first": "a"}', '{"first": "a", "surname": "b"}'
    task = extract(POINTING)
    for body in ('{"who": %s}', '{"also": %s}', '{"more": [%s]}', '{"who": %s, "also": null}'):
        assert task.canonical(body % turned) == body % person
    assert task.canonical('{"who": {"other": 1, "first": "a", "another": 2}}') == (
        '{"who": {"first": "a", "another": 2, "other": 1}}'
    )


def test_texts_are_equal_up_to_the_space_around_them() -> None:
    task = Generate(PromptTemplate.of("{text}"), 9)
    assert task.parse(" Two\nlines \n") == task.canonical("Two\nlines") == "Two\nlines"
    assert task.correct(["a ", "A", "a b"], ["a", "a", "a  b"]) == [True, False, False]
    for nothing in ("", " \n\t", "half a pair: \ud83d"):
        assert task.canonical(nothing) is task.parse(nothing) is None


@pytest.mark.parametrize(
    ("said", "wanted", "near"),
    [
        ("the cat sat", "The cat sat", 1.0),
        ("the cat", "the cat sat", 0.8),
        ("the the the the", "the cat", 1 / 3),
        ("sat cat", "cat sat", 1.0),
        ("dog", "cat", 0.0),
        ("", "cat", 0.0),
    ],
)
def test_texts_are_as_near_as_the_words_that_both_have(said: str, wanted: str, near: float) -> None:
    assert Generate(PromptTemplate.of("{text}"), 9).similarity(said, wanted) == pytest.approx(near)


@pytest.mark.parametrize(
    ("said", "wanted", "near"),
    [
        ('{"a": 1, "b": [1, 2]}', '{"a": 1, "b": [1, 2]}', 1.0),
        ('{"a": 1, "b": [1, 2]}', '{"a": 1, "b": [2, 1]}', 0.5),
        ('{"a": 1, "c": 2}', '{"a": 1, "b": 2}', 1 / 3),
        ('{"a": "1"}', '{"a": 1}', 0.0),
        ('{"a": true}', '{"a": 1}', 0.0),
        ('{"a": null}', '{}', 0.0),
        ("", '{"a": 1}', 0.0),
        ("{}", "{}", 1.0),
    ],
)  # fmt: skip
def test_json_is_as_near_as_the_fields_that_are_equal(said: str, wanted: str, near: float) -> None:
    assert extract().similarity(said, wanted) == pytest.approx(near)
    assert extract().correct([said], [wanted]) == [said == wanted]


def test_labels_are_equal_or_not() -> None:
    task = Classify(("no", "yes"), PromptTemplate.of("{text}"))
    assert (task.similarity("no", "no"), task.similarity("no", "yes")) == (1.0, 0.0)
    assert (task.canonical(" YES"), task.canonical("yes."), task.canonical("")) == ("yes", None, None)


def test_fields_have_one_written_form_each() -> None:
    assert fields('{"b": "é", "a": [1, {"x": null}]}') == {"b": '"é"', "a": '[1, {"x": null}]'}
    assert fields("") == fields("{}") == {}


def test_tasks_are_made_by_their_kind() -> None:
    prompt = PromptTemplate.of("{text}")
    assert make("classify", prompt, ("a", "b"), 16, "") == Classify(("a", "b"), prompt)
    assert make("generate", prompt, (), 9, "") == Generate(prompt, 9)
    assert make("extract", prompt, (), 9, "{}") == Extract(prompt, 9, "{}")


WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}  # fmt: skip
GOA, PUNE = ('{"name": "weather", "arguments": {"city": "%s"}}' % city for city in ("Goa", "Pune"))  # noqa: UP031


def calling() -> Any:
    return make("tools", PromptTemplate.of("{text}"), (), 30, "", json.dumps([WEATHER]))


def test_an_answer_with_tools_calls_or_says() -> None:
    task = calling()
    assert task.parse(GOA) == task.canonical(f" [{GOA}]\n") == f"[{GOA}]"
    assert task.parse("  Which city?\n") == "Which city?"
    assert task.parse("[1] is no call") is None
    assert task.parse('{"name": "rain"}') is None
    assert task.parse("  ") is None
    assert task.parse("\ud800") is None
    assert (task.answers, task.max_tokens) == ((), 30)
    assert json.loads(task.schema)["type"] == "array"


def test_calls_are_compared_as_json_in_any_order_and_texts_as_texts() -> None:
    task = calling()
    both, turned = f"[{GOA}, {PUNE}]", f"[{PUNE}, {GOA.replace(': ', ':')}]"
    assert task.correct([both, both, "a", "a ", "", f"[{GOA}]"], [turned, f"[{GOA}]", "a", "a", "a", "a"]) == [
        True, False, True, True, False, False,
    ]  # fmt: skip
    assert task.similarity(both, turned) == 1
    assert task.similarity(both, f"[{GOA}]") == pytest.approx(2 / 3)
    assert task.similarity("which city", "which town") == 0.5
    assert task.similarity("which city", f"[{GOA}]") == 0
