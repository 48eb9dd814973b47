from __future__ import annotations

import json
import math
from typing import Any

from openai.types.chat import ChatCompletion, ChatCompletionChunk

from aasut.serve import protocol
from aasut.serve.protocol import ChatRequest
from aasut.serve.reply import Reply
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
