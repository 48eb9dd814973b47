from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

from openai.types.chat import ChatCompletion, ChatCompletionChunk

from aasut.engine.base import Token
from aasut.serve import protocol
from aasut.serve.protocol import ChatRequest
from aasut.serve.refusal import failed
from aasut.serve.reply import Choice, Reply, broken
from aasut.serve.student import Answer
from aasut.types import Usage


def parse(**fields: Any) -> ChatRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}]} | fields
    return protocol.parse(json.dumps(body).encode())


ANSWER = Answer("été", {"été": math.log(0.9), "hiver": math.log(0.1), "printemps": -math.inf}, Usage(7, 2))


def test_a_completion_has_openais_shape() -> None:
    request = parse(logprobs=True, top_logprobs=3, service_tier="auto")
    made = Reply(request, "m", "fp_1").label(ANSWER, "hiver")
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
    assert Reply(parse(), "m", "fp").label(ANSWER, "été")["choices"][0]["logprobs"] is None
    one = Reply(parse(logprobs=True), "m", "fp").label(ANSWER, "été")
    assert one["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []
    assert "service_tier" not in one


def test_chunks_have_openais_shape_and_order() -> None:
    request = parse(stream=True, stream_options={"include_usage": True}, logprobs=True, top_logprobs=1)
    events = list(Reply(request, "m", "fp").label_events(ANSWER, "été"))
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
    events = list(Reply(parse(stream=True), "m", "fp").label_events(ANSWER, "été"))
    assert len(events) == 4
    assert not any("usage" in event for event in events)


WEATHER = {"type": "function", "function": {"name": "weather"}}
TWO = '[{"name": "weather", "arguments": {"city": "Goa"}}, {"name": "weather", "arguments": {"city": "पुणे"}}]'


def calling(**fields: Any) -> Reply:
    return Reply(parse(tools=[WEATHER], **fields), "m", "fp")


def chunks_of(events: list[str]) -> list[Any]:
    return [ChatCompletionChunk.model_validate(json.loads(event[6:]), strict=True) for event in events]


def test_several_labels_are_several_choices_and_all_are_counted() -> None:
    answer = replace(ANSWER, tokens={"été": 2, "hiver": 3})
    made = ChatCompletion.model_validate(Reply(parse(n=3), "m", "fp").label(answer, "été", "hiver", "été"), strict=True)
    assert [(c.index, c.message.content) for c in made.choices] == [(0, "été"), (1, "hiver"), (2, "été")]
    assert made.usage is not None
    assert (made.usage.prompt_tokens, made.usage.completion_tokens) == (7, 7)
    request = parse(n=2, stream=True, stream_options={"include_usage": True})
    *events, done = Reply(request, "m", "fp").label_events(answer, "été", "hiver")
    assert done == "data: [DONE]\n\n"
    *read, usage = chunks_of(events)
    assert [c.choices[0].index for c in read] == [0, 0, 0, 1, 1, 1]
    assert usage.usage is not None
    assert usage.usage.completion_tokens == 5


def test_calls_of_tools_are_no_content() -> None:
    whole = calling(logprobs=True).texts(
        [Choice(TWO, "stop"), Choice("Where?", "stop"), Choice(TWO[:50], "length")], Usage(5, 9)
    )
    made = ChatCompletion.model_validate(whole, strict=True)
    first, second, third = made.choices
    assert (first.message.content, first.finish_reason) == (None, "tool_calls")
    assert first.logprobs is not None
    assert first.logprobs.content is None
    calls = first.message.tool_calls or []
    assert [(c.type, c.function.name, c.function.arguments) for c in calls if c.type == "function"] == [
        ("function", "weather", '{"city": "Goa"}'), ("function", "weather", '{"city": "पुणे"}'),
    ]  # fmt: skip
    assert len({call.id for call in calls}) == 2
    assert all(call.id.startswith("call_") for call in calls)
    assert (second.message.content, second.message.tool_calls, second.finish_reason) == ("Where?", None, "stop")
    assert (len(third.message.tool_calls or []), third.finish_reason) == (1, "length")


def test_a_list_is_text_where_the_request_gives_no_tools() -> None:
    message = Reply(parse(), "m", "fp").text(TWO, "stop", Usage())["choices"][0]["message"]
    assert message == {"role": "assistant", "content": TWO, "refusal": None}


def test_calls_are_streamed_as_openai_does() -> None:
    stream = calling(stream=True).stream()
    events = [event for start in range(0, len(TWO), 5) for event in stream.piece(TWO[start : start + 5])]
    events += stream.end("stop")
    read = [chunk.choices[0] for chunk in chunks_of(events)]
    assert (read[0].delta.role, read[0].delta.content) == ("assistant", None)
    assert read[-1].finish_reason == "tool_calls"
    made: dict[int, list[Any]] = {}
    for choice in read[1:-1]:
        (call,) = choice.delta.tool_calls or []
        assert call.function is not None
        if call.id:
            assert (call.type, call.function.arguments) == ("function", "")
            made[call.index] = [call.id, call.function.name, ""]
        else:
            assert call.function.name is None
            made[call.index][2] += call.function.arguments
    assert [one[1:] for one in made.values()] == [["weather", '{"city": "Goa"}'], ["weather", '{"city": "पुणे"}']]
    assert len(read) > 7


def test_a_text_with_tools_is_streamed_as_text_and_an_empty_one_has_its_role() -> None:
    said = (Token("Where", b"Where", -0.5),)
    stream = calling(stream=True, logprobs=True).stream(2)
    read = [c.choices[0] for c in chunks_of([*stream.piece("Where", said), *stream.piece("?"), *stream.end("length")])]
    assert {choice.index for choice in read} == {2}
    assert [choice.delta.content for choice in read] == ["", "Where", "?", None]
    assert read[1].logprobs is not None
    assert [token.token for token in read[1].logprobs.content or []] == ["Where"]
    for tools in (calling(stream=True), Reply(parse(stream=True), "m", "fp")):
        empty = [c.choices[0] for c in chunks_of(list(tools.stream().end("stop")))]
        assert [(c.delta.role, c.finish_reason) for c in empty] == [("assistant", None), (None, "stop")]


def test_a_stream_that_breaks_says_so_in_openais_error_object() -> None:
    assert json.loads(broken(failed())[6:])["error"]["code"] == "internal_error"


def test_a_text_comes_in_pieces_and_ends_with_its_reason() -> None:
    request = parse(stream=True, stream_options={"include_usage": True})
    reply = Reply(request, "m", "fp")
    events = [reply.first(), reply.piece("Grüße "), reply.piece("नमस्ते"), *reply.last("length", Usage(5, 2))]
    assert events.pop() == "data: [DONE]\n\n"
    read = [ChatCompletionChunk.model_validate(json.loads(event[6:]), strict=True) for event in events]
    assert "".join(c.choices[0].delta.content or "" for c in read if c.choices) == "Grüße नमस्ते"
    assert [c.choices[0].finish_reason for c in read if c.choices] == [None, None, None, "length"]
    assert read[-1].usage is not None
    assert read[-1].usage.total_tokens == 7
    whole = ChatCompletion.model_validate(reply.text("Grüße", "length", Usage(5, 2)), strict=True)
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == ("Grüße", "length")
