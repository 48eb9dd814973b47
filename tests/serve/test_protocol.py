from __future__ import annotations

import json
import math
import typing
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat.completion_create_params import CompletionCreateParamsBase

from aasut.serve import protocol
from aasut.serve.protocol import ChatRequest, Refusal
from aasut.serve.student import Answer
from aasut.types import Message, Usage

MESSAGES = [{"role": "user", "content": "hello"}]


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
    assert free == set(protocol.NEUTRAL) | {"stop"}


@pytest.mark.parametrize("field", [*sorted(protocol.NEUTRAL), "stop", "user", "metadata", "temperature", "seed"])
def test_null_is_as_good_as_absent(field: str) -> None:
    assert parse(**{field: None}) == parse()


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1, "presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}, "store": False},
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
        ("n", 2),
        ("n", True),
        ("n", 0),
        ("presence_penalty", 0.1),
        ("frequency_penalty", -1),
        ("logit_bias", {"50256": -100}),
        ("response_format", {"type": "json_object"}),
        ("response_format", {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}),
        ("modalities", ["text", "audio"]),
        ("audio", {"voice": "alloy", "format": "wav"}),
        ("store", True),
        ("store", 0),
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
        ("tools", []),
        ("tool_choice", "none"),
        ("parallel_tool_calls", False),
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
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", "invalid_value"),
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
    parse(stop=stop).check_stop(("neg", "pos"))


@pytest.mark.parametrize("stop", ["e", ["\n", "pos"], 3, ["a", 1], ["1", "2", "3", "4", "5"], {}])
def test_stop_that_would_cut_a_label_is_refused(stop: Any) -> None:
    with pytest.raises(Refusal) as caught:
        parse(stop=stop).check_stop(("neg", "pos"))
    assert caught.value.body["error"]["param"] == "stop"


ANSWER = Answer("été", {"été": math.log(0.9), "hiver": math.log(0.1), "printemps": -math.inf}, Usage(7, 2))


def test_a_completion_has_openais_shape() -> None:
    request = parse(logprobs=True, top_logprobs=3, service_tier="auto")
    made = protocol.completion(request, "m", "fp_1", ANSWER, "hiver")
    read = ChatCompletion.model_validate(json.loads(json.dumps(made, allow_nan=False)), strict=True)
    assert set(made) <= set(ChatCompletion.model_fields)
    assert read.service_tier == "default"
    assert read.choices[0].message.content == "hiver"
    assert read.choices[0].finish_reason == "stop"
    assert read.usage is not None
    assert (read.usage.prompt_tokens, read.usage.completion_tokens, read.usage.total_tokens) == (7, 2, 9)
    logprobs = read.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    (token,) = logprobs.content
    assert (token.token, token.logprob, token.bytes) == ("hiver", math.log(0.1), list(b"hiver"))
    assert [(t.token, t.logprob) for t in token.top_logprobs] == [
        ("été", math.log(0.9)),
        ("hiver", math.log(0.1)),
        ("printemps", -9999.0),
    ]
    assert bytes(token.top_logprobs[0].bytes or []).decode() == "été"


def test_logprobs_are_given_only_where_asked_for() -> None:
    assert protocol.completion(parse(), "m", "fp", ANSWER, "été")["choices"][0]["logprobs"] is None
    one = protocol.completion(parse(logprobs=True), "m", "fp", ANSWER, "été")
    assert one["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []
    assert "service_tier" not in one


def test_chunks_have_openais_shape_and_order() -> None:
    request = parse(stream=True, stream_options={"include_usage": True}, logprobs=True, top_logprobs=1)
    events = list(protocol.chunks(request, "m", "fp", ANSWER, "été"))
    assert events.pop() == "data: [DONE]\n\n"
    assert all(event.startswith("data: ") and event.endswith("\n\n") and event.count("\n") == 2 for event in events)
    plain = [json.loads(event[6:]) for event in events]
    read = [ChatCompletionChunk.model_validate(chunk, strict=True) for chunk in plain]
    assert len({chunk.id for chunk in read}) == 1
    assert [c.choices[0].delta.content if c.choices else None for c in read] == ["", "été", None, None]
    assert [c.choices[0].finish_reason if c.choices else None for c in read] == [None, None, "stop", None]
    assert read[0].choices[0].delta.role == "assistant"
    assert read[1].choices[0].logprobs is not None
    assert [chunk["usage"] for chunk in plain[:3]] == [None] * 3
    assert plain[3]["choices"] == []
    assert plain[3]["usage"]["total_tokens"] == 9


def test_chunks_have_no_usage_unless_asked_for() -> None:
    events = list(protocol.chunks(parse(stream=True), "m", "fp", ANSWER, "été"))
    assert len(events) == 4
    assert not any("usage" in event for event in events)
