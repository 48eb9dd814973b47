from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from aasut.prompts import PromptTemplate
from aasut.serve.bound import ANY_OBJECT, Bound, of_format, of_tools
from aasut.serve.refusal import Refusal
from aasut.tasks import Classify, Extract, Generate, Task, Tools

PROMPT = PromptTemplate.of("Text: {text}")
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}, "n": {"type": "integer"}}}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
STOP = {"type": "function", "function": {"name": "stop"}}
LABELS = Classify(("neg", "pos"), PROMPT)
TEXT = Generate(PROMPT, 40)
FIELDS = Extract(PROMPT, 60, json.dumps(SCHEMA))
CALLS = Tools(PROMPT, 60, json.dumps([WEATHER, STOP]))
PLAIN, OBJECT = {"type": "text"}, {"type": "json_object"}


def shaped(schema: Any, **more: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "place", "strict": True, "schema": schema} | more}


@pytest.mark.parametrize(
    ("task", "given", "bound"),
    [
        (LABELS, PLAIN, Bound()),
        (TEXT, None, Bound()),
        (TEXT, OBJECT, Bound(ANY_OBJECT)),
        (TEXT, shaped(SCHEMA), Bound(json.dumps(SCHEMA))),
        (TEXT, shaped(SCHEMA, strict=None, description="d"), Bound(json.dumps(SCHEMA))),
        (
            TEXT,
            shaped({"type": "array", "items": {"enum": ["é"]}}),
            Bound('{"type": "array", "items": {"enum": ["é"]}}'),
        ),
        (FIELDS, PLAIN, Bound(FIELDS.schema)),
        (FIELDS, OBJECT, Bound(FIELDS.schema)),
        (FIELDS, shaped(json.loads(json.dumps(SCHEMA, sort_keys=True))), Bound(FIELDS.schema)),
        (
            FIELDS,
            shaped({"properties": {"n": {"type": "integer"}, "city": {"type": "string"}}, "type": "object"}),
            Bound(FIELDS.schema),
        ),
        (CALLS, PLAIN, Bound()),
    ],
)
def test_a_format_binds_an_answer(task: Task, given: Any, bound: Bound) -> None:
    assert of_format(given, task) == bound


DEEP: Any = {}
for _ in range(3000):
    DEEP = {"not": DEEP}


@pytest.mark.parametrize(
    ("task", "given", "place", "code"),
    [
        (LABELS, OBJECT, "", "unsupported_value"),
        (CALLS, OBJECT, "", "unsupported_value"),
        (TEXT, {"type": "yaml"}, "", "unsupported_value"),
        (TEXT, "json", "", "unsupported_value"),
        (TEXT, [], "", "unsupported_value"),
        (TEXT, {"type": "json_schema"}, "", "invalid_value"),
        (TEXT, {"type": "json_schema", "json_schema": 3}, "", "invalid_value"),
        (TEXT, shaped(SCHEMA, colour=1), ".json_schema.colour", "unknown_parameter"),
        (TEXT, shaped(SCHEMA, name=None), ".json_schema.name", "missing_required_parameter"),
        (TEXT, shaped(None), ".json_schema.schema", "missing_required_parameter"),
        (TEXT, shaped(SCHEMA, name="a b"), ".json_schema.name", "invalid_value"),
        (TEXT, shaped(SCHEMA, strict="yes"), ".json_schema.strict", "invalid_value"),
        (TEXT, shaped(SCHEMA, description=3), ".json_schema.description", "invalid_value"),
        (TEXT, shaped([]), ".json_schema.schema", "invalid_value"),
        (TEXT, shaped({"type": "thing"}), ".json_schema.schema", "invalid_value"),
        (TEXT, shaped({"$schema": []}), ".json_schema.schema", "invalid_value"),
        (TEXT, shaped(DEEP), ".json_schema.schema", "invalid_value"),
        (TEXT, shaped({"not": {}}), ".json_schema.schema", "unsupported_value"),
        (TEXT, shaped({"type": "string", "pattern": "("}), ".json_schema.schema", "invalid_value"),
        (TEXT, shaped({"$ref": "https://example.com/x.json"}), ".json_schema.schema", "unsupported_value"),
        (FIELDS, shaped({"type": "object", "properties": {"town": {}}}), "", "unsupported_value"),
    ],
)
def test_a_format_that_cannot_be_followed_is_refused(task: Task, given: Any, place: str, code: str) -> None:
    with pytest.raises(Refusal) as caught:
        of_format(given, task)
    error = caught.value.body["error"]
    assert (error["param"], error["code"]) == (f"response_format{place}", code)
    assert "response_format" in error["message"]
    assert "\n" not in error["message"]


def accepts(bound: Bound, *names: str) -> bool:
    value = [{"name": name, "arguments": {}} for name in names]
    return jsonschema.Draft202012Validator(json.loads(bound.schema)).is_valid(value)


@pytest.mark.parametrize("tools", [[WEATHER, STOP], [STOP, WEATHER]])
def test_the_choice_says_what_may_be_called(tools: Any) -> None:
    for choice in (None, "auto"):
        free = of_tools(tools, choice, None, CALLS)
        assert free.plain
        assert accepts(free, "weather", "stop")
    assert of_tools(tools, "none", None, CALLS) == Bound(plain=True)
    forced = of_tools(tools, "required", True, CALLS)
    assert (forced.plain, accepts(forced, "weather", "stop")) == (False, True)
    one = of_tools(tools, "required", False, CALLS)
    assert (accepts(one, "stop"), accepts(one, "stop", "stop")) == (True, False)
    named = of_tools(tools, {"type": "function", "function": {"name": "stop"}}, None, CALLS)
    assert (named.plain, accepts(named, "stop"), accepts(named, "weather")) == (False, True, False)


@pytest.mark.parametrize(
    ("task", "tools", "choice", "parallel", "param", "code"),
    [
        (TEXT, [STOP], None, None, "tools", "unsupported_parameter"),
        (LABELS, [], None, None, "tools", "unsupported_parameter"),
        (TEXT, None, "none", None, "tool_choice", "invalid_value"),
        (TEXT, None, None, False, "parallel_tool_calls", "invalid_value"),
        (CALLS, None, None, None, "tools", "tools_mismatch"),
        (CALLS, [STOP], None, None, "tools", "tools_mismatch"),
        (CALLS, [], None, None, "tools", "invalid_value"),
        (CALLS, "stop", None, None, "tools", "invalid_value"),
        (CALLS, [{"type": "web_search"}], None, None, "tools", "invalid_value"),
        (CALLS, [WEATHER, STOP], "any", None, "tool_choice", "unsupported_value"),
        (CALLS, [WEATHER, STOP], {"type": "function"}, None, "tool_choice", "unsupported_value"),
        (CALLS, [WEATHER, STOP], {"type": "function", "function": []}, None, "tool_choice", "unsupported_value"),
        (CALLS, [WEATHER, STOP], {"type": "function", "function": {"name": "x"}}, None, "tool_choice", "invalid_value"),
    ],
)
def test_other_tools_are_refused(
    task: Task, tools: Any, choice: Any, parallel: bool | None, param: str, code: str
) -> None:
    with pytest.raises(Refusal) as caught:
        of_tools(tools, choice, parallel, task)
    error = caught.value.body["error"]
    assert (error["param"], error["code"]) == (param, code)
