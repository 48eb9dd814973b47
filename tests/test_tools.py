from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from aasut import tools

CITY = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"$ref": "#/$defs/days"}},
        "required": ["city"], "additionalProperties": False, "$defs": {"days": {"type": "integer"}}}  # fmt: skip
WEATHER = {"type": "function", "function": {"name": "weather", "description": "Tells it.", "parameters": CITY}}
STOP = {"type": "function", "function": {"name": "stop"}}
BOTH = json.dumps([WEATHER, STOP])


def changed(**fields: Any) -> list[Any]:
    return [{"type": "function", "function": {**WEATHER["function"], **fields}}]  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([WEATHER, STOP], ""),
        (changed(strict=True, description=None), ""),
        (changed(parameters={}), ""),
        (None, "a list of 1 to 128"),
        ([], "a list of 1 to 128"),
        ([STOP] * 129, "a list of 1 to 128"),
        ([STOP, STOP], "[1]: the function 'stop' stands there twice"),
        (["stop"], "[0]: must be"),
        ([STOP, {"type": "function"}], "[1]: must be"),
        ([{"type": "custom", "function": {"name": "a"}}], "[0]: must be"),
        ([{"type": "function", "function": "a"}], "function is no object"),
        (changed(name="a b"), "function.name"),
        (changed(name=""), "function.name"),
        (changed(name="x" * 65), "function.name"),
        (changed(name=3), "function.name"),
        (changed(colour=1), "function.colour is not known"),
        (changed(description=1), "function.description"),
        (changed(strict=1), "function.strict"),
        (changed(parameters=[]), "type object"),
        (changed(parameters={"type": "array"}), "type object"),
        (changed(parameters={"type": "object", "properties": 1}), "function.parameters: 1 is not"),
        (changed(parameters={"type": "object", "default": float("inf")}), "what JSON has not"),
    ],
)
def test_what_is_wrong_with_definitions_is_told(value: Any, reason: str) -> None:
    found = tools.fault(value)
    assert reason in found if reason else not found


def test_lists_are_the_same_whatever_their_order_and_strictness() -> None:
    turned = json.loads(json.dumps([STOP, *changed(strict=True)], sort_keys=True))
    assert tools.same([WEATHER, STOP], turned)
    assert tools.same([STOP], [{"type": "function", "function": {"name": "stop", "parameters": {}, "description": ""}}])
    assert not tools.same([WEATHER], [STOP])
    assert not tools.same([WEATHER, STOP], [WEATHER])
    assert not tools.same([WEATHER], changed(description="Tells all."))
    assert not tools.same([WEATHER], changed(parameters=CITY | {"required": ["city", "days"]}))


@pytest.mark.parametrize(
    ("answer", "good"),
    [
        ([{"name": "weather", "arguments": {"city": "Goa", "days": 2}}], True),
        ([{"name": "stop", "arguments": {}}, {"name": "weather", "arguments": {"city": "Goa"}}], True),
        ([], False),
        ([{"name": "weather", "arguments": {"city": "Goa", "days": "two"}}], False),
        ([{"name": "weather", "arguments": {}}], False),
        ([{"name": "stop", "arguments": {"city": "Goa"}}], False),
        ([{"name": "rain", "arguments": {}}], False),
        ([{"name": "stop"}], False),
        ({"name": "stop", "arguments": {}}, False),
    ],
)
def test_the_schema_is_that_of_calls(answer: Any, good: bool) -> None:
    schema = json.loads(tools.schema(BOTH))
    jsonschema.Draft202012Validator.check_schema(schema)
    assert jsonschema.Draft202012Validator(schema).is_valid(answer) is good


def test_the_schema_is_narrowed_to_some_functions_and_to_one_call() -> None:
    calls = [{"name": "stop", "arguments": {}}]
    assert jsonschema.Draft202012Validator(json.loads(tools.schema(BOTH, ["stop"], 1))).is_valid(calls)
    assert not jsonschema.Draft202012Validator(json.loads(tools.schema(BOTH, ["weather"]))).is_valid(calls)
    assert not jsonschema.Draft202012Validator(json.loads(tools.schema(BOTH, None, 1))).is_valid(calls * 2)
    assert jsonschema.Draft202012Validator(json.loads(tools.schema(BOTH))).is_valid(calls * 2)


def test_references_hold_where_parameters_stand_and_data_is_left_alone() -> None:
    names = {"default": {"$ref": "#/$defs/a"}, "const": {"$ref": "#"}, "c": {"const": {"$ref": "#/x"}}}
    whole = {"type": "object", "properties": names, "$defs": {"a": {"type": "integer"}}}
    moved = json.loads(tools.schema(json.dumps(changed(parameters=whole))))["$defs"]["tool0"]
    assert moved["properties"]["default"] == {"$ref": "#/$defs/tool0/$defs/a"}
    assert moved["properties"]["const"] == {"$ref": "#/$defs/tool0"}
    assert moved["properties"]["c"] == {"const": {"$ref": "#/x"}}


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ('{"name":"stop"}', '[{"name": "stop", "arguments": {}}]'),
        ('[{"arguments": "{\\"days\\": 2.0, \\"city\\": \\"पुणे\\"}", "name": "weather"}]',
         '[{"name": "weather", "arguments": {"city": "पुणे", "days": 2}}]'),
        ('[{"name": "stop"}, {"type": "function", "function": {"name": "weather", "arguments": {"city": "B"}}}, '
         '{"name": "weather", "arguments": {"city": "A"}}]',
         '[{"name": "weather", "arguments": {"city": "A"}}, {"name": "weather", "arguments": {"city": "B"}}, '
         '{"name": "stop", "arguments": {}}]'),
        ("[]", None),
        ("{}", None),
        ("[1]", None),
        ('[{"name": "rain"}]', None),
        ('[{"name": "weather", "arguments": {"city": 3}}]', None),
        ('[{"name": "weather", "arguments": {"city": "\\ud800"}}]', None),
        ('[{"name": "weather", "arguments": "{"}]', None),
        ("[" * 100_000, None),
        ("no calls", None),
    ],
)  # fmt: skip
def test_calls_have_one_written_form(text: str, written: str | None) -> None:
    assert tools.canonical(text, BOTH) == written
    if written is not None:
        assert tools.canonical(written, BOTH) == written


def test_calls_of_the_api_are_read_and_written() -> None:
    text = '[{"name": "weather", "arguments": {"city": "Goa"}}, {"name": "stop", "arguments": {}}]'
    made = tools.native(text)
    assert [call["id"] for call in made] == ["call_0", "call_1"]
    assert made[0]["function"] == {"name": "weather", "arguments": '{"city": "Goa"}'}
    assert tools.written(made) == text
    assert tools.written([{"function": {"name": "stop", "arguments": ""}}]) == '[{"name": "stop", "arguments": {}}]'
    assert tools.canonical(tools.written([{"function": {"name": "stop", "arguments": "{"}}]), BOTH) is None
    assert tools.native("plain text") == tools.native("[1") == tools.native("[1]") == []
    for wrong in (None, [], "x", [1], [{"function": {}}]):
        with pytest.raises(ValueError, match="no tool call"):
            tools.written(wrong)


def test_a_text_says_with_its_first_character_whether_it_calls() -> None:
    assert tools.is_calls(' [{"name"')
    assert tools.is_calls('{"name"')
    assert not tools.is_calls("")
    assert not tools.is_calls("It is [sic] warm.")
