"""Streams in one piece: as the same answer would have come without `stream`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aasut.gateway.assemble import events, whole
from gateway_traffic import answer, stream

HEAD = {"id": "c", "object": "chat.completion.chunk", "created": 5, "model": "big-1"}


def sent(*chunks: dict[str, Any], end: str = "data: [DONE]\n\n") -> bytes:
    return ("".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + end).encode()


def piece(delta: dict[str, Any], index: int = 0, **more: Any) -> dict[str, Any]:
    return {**HEAD, "choices": [{"index": index, "delta": delta, "finish_reason": None, **more}]}


def test_a_text_is_as_in_a_whole_answer() -> None:
    assert whole(stream("sp", "a", "m")) == json.loads(answer("spam"))


def test_tool_calls_are_joined_by_their_index() -> None:
    def call(index: int, **more: Any) -> dict[str, Any]:
        return piece({"tool_calls": [{"index": index, **more}]})

    found = whole(
        sent(
            piece({"role": "assistant", "content": None}),
            call(1, id="b", type="function", function={"name": "buy", "arguments": ""}),
            call(0, id="a", type="function", function={"name": "ask", "arguments": '{"q": '}),
            call(1, function={"arguments": "{}"}),
            call(0, function={"arguments": '"é"}'}),
            piece({}, finish_reason="tool_calls"),
        )
    )
    assert found
    (choice,) = found["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "ask", "arguments": '{"q": "é"}'}},
            {"id": "b", "type": "function", "function": {"name": "buy", "arguments": "{}"}},
        ],
    }


def test_choices_refusals_logprobs_and_usage_are_kept() -> None:
    def probable(*tokens: str) -> dict[str, Any]:
        return {"content": [{"token": token, "logprob": -1.0} for token in tokens], "refusal": None}

    found = whole(
        sent(
            piece({"role": "assistant", "content": "a"}, 1, logprobs=probable("a")),
            piece({"role": "assistant", "refusal": "I can"}),
            piece({"content": "b"}, 1, logprobs=probable("b")),
            piece({"refusal": "not"}),
            piece({}, 1, finish_reason="length"),
            piece({}, finish_reason="stop"),
            {**HEAD, "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
        )
    )
    assert found
    assert found["object"] == "chat.completion"
    assert found["usage"] == {"prompt_tokens": 3, "completion_tokens": 2}
    refused, told = found["choices"]
    assert (refused["index"], refused["message"]["refusal"], refused["finish_reason"]) == (0, "I cannot", "stop")
    assert (told["index"], told["message"]["content"], told["finish_reason"]) == (1, "ab", "length")
    assert told["logprobs"] == probable("a", "b")
    assert refused["logprobs"] is None


def test_a_cut_stream_goes_as_far_as_it_came() -> None:
    cut = whole(stream("sp", "am", done=False)[:-20])
    assert cut
    assert cut["choices"][0]["message"]["content"] == "sp"
    assert cut["choices"][0]["finish_reason"] is None
    error = whole(sent(piece({"content": "sp"}), {"error": {"message": "overloaded"}}, end=""))
    assert error
    assert error["error"] == {"message": "overloaded"}
    assert error["choices"][0]["message"]["content"] == "sp"
    assert whole(sent({"error": {"message": "overloaded"}})) == {"error": {"message": "overloaded"}}


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_lines_may_end_in_three_ways_and_hold_other_fields(ending: str) -> None:
    text = [
        ": a comment",
        "event: message",
        "id: 7",
        'data:{"a":',
        'data: "b"}',
        "",
        "data: [DONE]",
        "",
        'data: {"c": 1}',
    ]
    assert list(events(ending.join(text).encode())) == [{"a": "b"}, {"c": 1}]


def test_one_event_that_is_garbage_does_not_take_others_with_it() -> None:
    lines = ['{"a": 1}', '{"b": 2', '{"c": 3}, {"c": 4}', "7", '{"d": "\u2028\x85"}']
    assert list(events("".join(f"data: {line}\n\n" for line in lines).encode())) == [{"a": 1}, {"d": "\u2028\x85"}]
    assert list(events(b'data: {"a": 1}\n\ndata: {"c": 3}, {"c": 4}\n\n')) == [{"a": 1}]
    assert [event["n"] for event in events(sent(*({"n": n} for n in range(200))))] == list(range(200))


@pytest.mark.parametrize(
    "sse", [b"", b"data: [DONE]\n\n", b"<html>", b"data: 1\n\n", b'{"choices": []}', b"data: [[[\n\n"]
)
def test_what_holds_no_answer_is_none(sse: bytes) -> None:
    assert whole(sse) is None


def test_odd_shapes_raise_nothing() -> None:
    calls: list[Any] = [1, {"index": None}]
    odd: list[dict[str, Any]] = [
        {"choices": 3},
        {"choices": [3, {"delta": 4}, {"index": "x", "delta": {"content": 5, "tool_calls": calls}}]},
        {"choices": [{"delta": {"tool_calls": {"a": 1}, "function_call": {"name": "f", "arguments": "{"}}}]},
        {"object": 7},
        {"type": "response.output_text.delta", "delta": 3},
        {"choices": [{"logprobs": {"content": 3}}, {"logprobs": 3}]},
    ]
    found = whole(sent(*odd))
    assert found
    assert json.dumps(found)


def test_completions_and_responses_are_assembled_too() -> None:
    text = {"id": "t", "object": "text_completion", "model": "old-1"}
    found = whole(sent(*({**text, "choices": [{"index": 0, "text": part}]} for part in ("a", "b"))))
    assert found
    assert (found["object"], found["choices"][0]["text"]) == ("text_completion", "ab")
    begun = {"type": "response.created", "response": {"id": "r", "status": "in_progress", "output": []}}
    deltas = [{"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": d} for d in "ab"]
    done = {
        "type": "response.completed",
        "response": {"id": "r", "status": "completed", "output": [{"type": "message"}]},
    }
    assert whole(sent(begun, *deltas, done)) == done["response"]
    cut = whole(sent(begun, *deltas))
    assert cut
    assert cut["output"][0]["content"] == [{"type": "output_text", "text": "ab"}]
