from __future__ import annotations

import json
import typing
from typing import Any

import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsBase

from aasut.prompts import PromptTemplate
from aasut.serve import protocol
from aasut.serve.protocol import ChatRequest, Refusal
from aasut.tasks import Classify, Extract, Generate, Tools
from aasut.types import Message

MESSAGES = [{"role": "user", "content": "hello"}]


PROMPT = PromptTemplate.of("Text: {text}")
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
LABELS = Classify(("neg", "pos"), PROMPT)
TEXT = Generate(PROMPT, 40)
FIELDS = Extract(PROMPT, 60, json.dumps(SCHEMA))
OBJECT = {"type": "json_object"}
WEATHER = {"type": "function", "function": {"name": "weather"}}
CALLS = Tools(PROMPT, 60, json.dumps([WEATHER]))
ASKED: dict[str, Any] = {"tools": [WEATHER]}


def bound(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "place", "strict": True, "schema": schema}}


def parse(**fields: Any) -> ChatRequest:
    return protocol.parse(json.dumps({"model": "m", "messages": MESSAGES} | fields).encode())


def refused(**fields: Any) -> dict[str, Any]:
    with pytest.raises(Refusal) as caught:
        parse(**fields).conversation()
    assert caught.value.status == 400
    error: dict[str, Any] = caught.value.body["error"]
    assert error["type"] == "invalid_request_error"
    return error


def test_every_field_of_openai_is_handled_explicitly() -> None:
    known = set(typing.get_type_hints(CompletionCreateParamsBase)) | {"stream"}
    assert known <= set(ChatRequest.model_fields)
    assert set(protocol.NEUTRAL) <= set(ChatRequest.model_fields)
    assert set(protocol.MESSAGE_NEUTRAL) | {"role", "content"} == set(protocol.ChatMessage.model_fields)
    # A field of any kind would be read and forgotten, unless a rule is set for it.
    free = {name for name, field in ChatRequest.model_fields.items() if field.annotation is Any}
    assert free == set(protocol.NEUTRAL) | {"stop", "response_format", "tools", "tool_choice"}


@pytest.mark.parametrize("field", [*sorted(protocol.NEUTRAL), "stop", "user", "metadata", "temperature", "seed"])
def test_null_is_as_good_as_absent(field: str) -> None:
    assert parse(**{field: None}) == parse()


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 8, "presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}, "store": False},
        {"response_format": {"type": "text"}, "modalities": ["text"], "service_tier": "auto"},
        {"user": "u", "metadata": {"a": "b"}, "safety_identifier": "s", "prompt_cache_key": "k"},
        {"temperature": 2, "top_p": 0, "seed": -5, "max_tokens": 1, "max_completion_tokens": 10**9},
        {"logprobs": True, "top_logprobs": 20},
        {"logprobs": False},
        {"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}},
    ],
)
def test_what_is_honoured_or_asks_for_nothing_is_accepted(fields: dict[str, Any]) -> None:
    parse(**fields).conversation()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("presence_penalty", 0.1),
        ("frequency_penalty", -1),
        ("logit_bias", {"50256": -100}),
        ("modalities", ["text", "audio"]),
        ("audio", {"voice": "alloy", "format": "wav"}),
        ("store", True),
        ("store", 0),
        ("functions", []),
        ("function_call", "auto"),
        ("prediction", {"type": "content", "content": "x"}),
        ("web_search_options", {}),
        ("reasoning_effort", "low"),
        ("verbosity", "low"),
        ("service_tier", "priority"),
        ("prompt_cache_retention", "24h"),
        ("moderation", {}),
    ],
)
def test_what_is_not_honoured_is_refused_by_name(field: str, value: Any) -> None:
    error = refused(**{field: value})
    assert error["param"] == field
    assert error["code"] in ("unsupported_value", "unsupported_parameter")
    assert field in error["message"]


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"guided_choice": ["a"]}, "guided_choice", "unknown_parameter"),
        ({"model": None}, "model", "invalid_value"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": "hello"}, "messages", "invalid_value"),
        ({"messages": [*MESSAGES, {"content": "x"}]}, "messages[1].role", "missing_required_parameter"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role", "invalid_value"),
        (
            {"messages": [{"role": "tool", "content": "x", "tool_call_id": "c"}]},
            "messages[0].role",
            "unsupported_value",
        ),
        (
            {"messages": [{"role": "assistant", "content": None, "tool_calls": [{}]}]},
            "messages[0].tool_calls",
            "unsupported_parameter",
        ),
        ({"n": 0}, "n", "invalid_value"),
        ({"n": 9}, "n", "invalid_value"),
        ({"n": True}, "n", "invalid_value"),
        ({"parallel_tool_calls": "no"}, "parallel_tool_calls", "invalid_value"),
        ({"messages": [{"role": "user", "content": "x", "colour": 1}]}, "messages[0].colour", "unknown_parameter"),
        ({"messages": [{"role": "user", "content": "x", "name": "Jo"}]}, "messages[0].name", "unsupported_parameter"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "invalid_type"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content", "invalid_type"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]", "unsupported_value"),
        ({"temperature": 2.1}, "temperature", "invalid_value"),
        ({"temperature": "0"}, "temperature", "invalid_value"),
        ({"top_p": 1.1}, "top_p", "invalid_value"),
        ({"seed": 1.5}, "seed", "invalid_value"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"max_completion_tokens": -1}, "max_completion_tokens", "invalid_value"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value"),
        ({"logprobs": True, "top_logprobs": -1}, "top_logprobs", "invalid_value"),
        ({"top_logprobs": 2}, "top_logprobs", "invalid_value"),
        ({"stream": "true"}, "stream", "invalid_value"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
        ({"stream": True, "stream_options": {"x": 1}}, "stream_options.x", "unknown_parameter"),
        (
            {"stream": True, "stream_options": {"include_obfuscation": True}},
            "stream_options.include_obfuscation",
            "invalid_value",
        ),
        ({"metadata": {"a": 1}}, "metadata.a", "invalid_value"),
        ({"user": 7}, "user", "invalid_value"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(fields: dict[str, Any], param: str, code: str) -> None:
    error = refused(**fields)
    assert (error["param"], error["code"]) == (param, code)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'{"model": "\xff"}',
        b'{"model": "\\ud800"}',
        b"[" * 100_000,
        b'{"model": "m", "temperature": NaN, "messages": [{"role": "user", "content": "x"}]}',
        b'\xef\xbb\xbf{"model": "m"}',
    ],
)
def test_a_body_that_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        protocol.parse(body)
    assert caught.value.status == 400


def test_images_are_refused() -> None:
    parts = [{"type": "text", "text": "hi"}, {"type": "image_url", "image_url": {"url": "https://x/y.png"}}]
    error = refused(messages=[{"role": "user", "content": parts}])
    assert (error["param"], error["code"]) == ("messages[0].content[1]", "unsupported_value")
    assert "text only" in error["message"]


def test_text_parts_are_joined_and_developer_is_system() -> None:
    parts = [{"type": "text", "text": "Review: "}, {"type": "text", "text": "good"}]
    request = parse(messages=[{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}])
    assert request.conversation() == (Message("system", "Be brief."), Message("user", "Review: good"))


def test_a_text_part_with_a_field_that_is_not_honoured_is_refused() -> None:
    part = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}
    error = refused(messages=[{"role": "user", "content": [part]}])
    assert error["param"] == "messages[0].content[0].cache_control"


@pytest.mark.parametrize("stop", [None, "", [], ["\n", "###"], "\n", "NEG"])
def test_stop_that_could_not_cut_a_label_is_accepted(stop: Any) -> None:
    parse(stop=stop).check(LABELS)


@pytest.mark.parametrize("stop", ["e", ["\n", "pos"], 3, ["a", 1], ["1", "2", "3", "4", "5"], {}])
def test_stop_that_would_cut_a_label_is_refused(stop: Any) -> None:
    with pytest.raises(Refusal) as caught:
        parse(stop=stop).check(LABELS)
    assert caught.value.body["error"]["param"] == "stop"


def test_a_format_binds_the_answer_and_a_wrong_one_is_refused() -> None:
    other = {"type": "object", "properties": {"town": {"type": "string"}}}
    assert json.loads(parse(response_format=bound(other)).prompts(TEXT, "x")[0].schema) == other
    assert parse(response_format=bound(SCHEMA)).prompts(FIELDS, "x")[0].schema == json.dumps(SCHEMA)
    assert parse().prompts(FIELDS, "x")[0].schema == json.dumps(SCHEMA)
    for task, value in ((LABELS, OBJECT), (FIELDS, bound(other)), (CALLS, OBJECT), (TEXT, {"type": "yaml"})):
        with pytest.raises(Refusal) as caught:
            parse(response_format=value, **(ASKED if task is CALLS else {})).check(task)
        error = caught.value.body["error"]
        assert (error["param"], error["code"]) == ("response_format", "unsupported_value")


def test_tools_are_taken_where_the_task_has_them() -> None:
    parse(**ASKED).check(CALLS)
    with pytest.raises(Refusal) as caught:
        parse(**ASKED).check(TEXT)
    assert caught.value.body["error"]["param"] == "tools"
    with pytest.raises(Refusal) as caught:
        parse().check(CALLS)
    assert caught.value.code == "tools_mismatch"


def test_stop_texts_cut_no_calls() -> None:
    parse(**ASKED, stop="x", tool_choice="none").check(CALLS)
    with pytest.raises(Refusal) as caught:
        parse(**ASKED, stop="x").check(CALLS)
    assert caught.value.body["error"]["param"] == "stop"


def test_alternatives_are_asked_of_engines_that_list_them() -> None:
    request = parse(logprobs=True, top_logprobs=3)
    request.check(TEXT)
    request.check(LABELS, alternatives=0)
    with pytest.raises(Refusal, match="lists no alternatives") as caught:
        request.check(TEXT, alternatives=0)
    assert caught.value.body["error"]["param"] == "top_logprobs"
    parse(logprobs=True).check(TEXT, alternatives=0)


def test_each_of_several_texts_has_its_own_seed() -> None:
    asked = parse(n=3, seed=5, temperature=1, top_p=0.5, max_tokens=7, logprobs=True, stop="x").prompts(TEXT, "T: a")
    assert len({prompt.seed for prompt in asked}) == 3
    assert asked == parse(n=3, seed=5, temperature=1, top_p=0.5, max_tokens=7, logprobs=True, stop="x").prompts(
        TEXT, "T: a"
    )
    assert parse(seed=5).prompts(TEXT, "T: a")[0].seed == asked[0].seed
    assert parse(seed=6).prompts(TEXT, "T: a")[0].seed != asked[0].seed
    assert parse().prompts(TEXT, "x")[0].seed != parse().prompts(TEXT, "x")[0].seed
    first = asked[0]
    assert (first.text, first.max_tokens, first.temperature, first.top_p, first.stop) == ("T: a", 7, 1.0, 0.5, ("x",))
    assert (first.logprobs, first.top_logprobs, first.schema, first.plain) == (True, 0, "", False)


@pytest.mark.parametrize(
    "plain",
    [None, [], "x", {"model": "m"}, {"model": "m", "messages": [{"role": "user", "content": "\ud800"}]}, {"model": 3}],
)
def test_a_decoded_body_is_read_as_a_raw_one_is(plain: Any) -> None:
    body = {"model": "m", "messages": MESSAGES, "n": 2, "temperature": 1, "tools": [{"a": 1}]}
    assert protocol.parse_plain(body) == protocol.parse(json.dumps(body).encode())
    with pytest.raises(Refusal) as caught:
        protocol.parse_plain(plain).conversation()
    assert caught.value.status == 400


def test_a_text_may_be_stopped_anywhere_and_has_the_tasks_length_unless_told() -> None:
    request = parse(stop=["neg", ""], max_tokens=9)
    request.check(TEXT)
    assert (request.stops(), request.most_tokens(TEXT)) == (["neg"], 9)
    assert parse().most_tokens(TEXT) == 40
    assert parse(max_tokens=50, max_completion_tokens=45).most_tokens(TEXT) == 45
