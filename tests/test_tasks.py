from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest

from aasut.errors import AasutError, PromptMismatch, RecipeError
from aasut.tasks import Classify, Extract, Generate, PromptTemplate, answer_text, fields, make
from aasut.types import Message

MARKED = "Title: {title}\n<<body>>\n{body}\n<<end>> {{json}}"
PIECES = ["{", "}", "{{", "}}", "{title}", "\n", "\r\n", "\t", " ", "नमस्ते", "\\", "%s", "$", "^", "(.*)", "a", "", "🙂"]


def text(draw: random.Random) -> str:
    return "".join(draw.choices(PIECES, k=draw.randrange(8)))


@pytest.mark.parametrize("prompt", ["{text}", "Review: {text}", "{text}?", "\n{text}\n", "{{{text}}}", "पाठ: {पाठ}।"])
def test_one_slot_is_always_read_back(prompt: str) -> None:
    template, draw = PromptTemplate.of(prompt), random.Random(1)
    for _ in range(200):
        slots = {template.slots[0]: text(draw)}
        assert template.read(template.render(slots)) == slots


def test_several_slots_are_read_back_where_no_slot_holds_the_markers() -> None:
    template, draw = PromptTemplate.of(MARKED), random.Random(2)
    for _ in range(300):
        slots = {"title": text(draw), "body": text(draw)}
        assert template.read(template.render(slots)) == slots


def test_what_is_read_is_what_was_sent_or_it_is_refused() -> None:
    template, draw = PromptTemplate.of("{a} and {b}"), random.Random(3)
    refused = 0
    for _ in range(300):
        slots = {name: " ".join(draw.choices(["and", "x", " and ", "y"], k=3)) for name in "ab"}
        try:
            assert template.read(template.render(slots)) == slots
        except PromptMismatch:
            refused += 1
    assert 0 < refused < 300


def test_slots_in_several_messages() -> None:
    prompt = [{"role": "system", "content": "You sort {kind}."}, {"role": "user", "content": "{text} ="}]
    template = PromptTemplate.of(prompt)
    slots = {"kind": "mails\n", "text": "{kind} ="}
    rendered = template.render(slots)
    assert rendered == (Message("system", "You sort mails\n."), Message("user", "{kind} = ="))
    assert template.read(rendered) == slots
    assert template.plain() == [["system", "You sort {kind}."], ["user", "{text} ="]]


@pytest.mark.parametrize(
    ("prompt", "slots"),
    [
        ("A: {a} B: {b}", {"a": "x B: y", "b": "z"}),
        ("A: {a} B: {b}", {"a": "x", "b": "y B: z"}),
        ("{a}{b}", {"a": "x", "b": "y"}),
        ("{a}\n{b}\n{c}", {"a": "x", "b": "y\n", "c": "z"}),
    ],
)
def test_a_request_with_two_readings_is_refused(prompt: str, slots: dict[str, str]) -> None:
    template = PromptTemplate.of(prompt)
    with pytest.raises(PromptMismatch, match="more than one way"):
        template.read(template.render(slots))


@pytest.mark.parametrize(
    "sent",
    ["Review good =", "review: good =", "Review: good", " Review: good =", "Review: good =\n", "Review: good =x", ""],
)
def test_text_that_does_not_match_is_refused(sent: str) -> None:
    with pytest.raises(PromptMismatch, match="does not match"):
        PromptTemplate.of("Review: {text} =").read([Message("user", sent)])


@pytest.mark.parametrize(
    "sent",
    [
        [],
        [Message("system", "Review: good")],
        [Message("system", "Be brief."), Message("user", "Review: good")],
        [Message("user", "Review: good"), Message("assistant", "good")],
    ],
)
def test_other_roles_are_refused(sent: Sequence[Message]) -> None:
    with pytest.raises(PromptMismatch, match="roles"):
        PromptTemplate.of("Review: {text}").read(sent)


def test_text_in_a_slot_is_never_taken_for_a_slot() -> None:
    template = PromptTemplate.of("{a}|{b}")
    rendered = template.render({"a": "{b}{{b}}{0}", "b": "secret", "unused": "x"})
    assert rendered == (Message("user", "{b}{{b}}{0}|secret"),)


def test_a_missing_slot_is_named() -> None:
    with pytest.raises(RecipeError, match=r"\{text\}.*mapped now: body"):
        PromptTemplate.of("{text}").render({"body": "x"})


def test_literal_braces() -> None:
    template = PromptTemplate.of('Answer as {{"label": "..."}}: {text}')
    assert template.render({"text": "x"})[0].content == 'Answer as {"label": "..."}: x'
    assert template.read([Message("user", 'Answer as {"label": "..."}: {x}')]) == {"text": "{x}"}


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ("no slot", "no slot"),
        ("{a} {a}", "twice"),
        ("{a", "unbalanced"),
        ("a}", "unbalanced"),
        ("{} {a}", "no slot name"),
        ("{0}", "no slot name"),
        ("{a.b}", "no slot name"),
        ('{"a": 1}', "no slot name"),
        ("{a!r}", "no slot name"),
        ("{a:>10}", "no slot name"),
        ("{a: 1}", "no slot name"),
        ([], "end with a user message"),
        ([{"role": "system", "content": "{a}"}], "end with a user message"),
        ([{"role": "user", "content": "{a}"}, {"role": "assistant", "content": "x"}], "end with a user message"),
        ([{"role": "system", "content": "{a}"}, {"role": "user", "content": "{a}"}], "twice"),
        ([{"role": "robot", "content": "{a}"}], "robot"),
        ([{"content": "{a}"}], "role and content"),
        ([{"role": "user"}], "role and content"),
        ([{"role": "user", "content": "{a}", "name": "x"}], "role and content"),
    ],
)
def test_bad_prompts_are_refused(prompt: Any, says: str) -> None:
    with pytest.raises(RecipeError, match=says) as caught:
        PromptTemplate.of(prompt)
    assert isinstance(caught.value, AasutError)
    assert caught.value.remedy


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
