"""A chat completion as server-sent events, as an API streams it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from aasut.teacher.chat import tokens

DONE = b"data: [DONE]\n\n"


def events(made: dict[str, Any], *, counted: bool) -> Iterator[bytes]:
    """The events of a completion, [DONE] the last: role, content by pieces, tool calls, finish, usage if `counted`."""
    head = {"id": made["id"], "object": "chat.completion.chunk", "created": made["created"], "model": made["model"]}
    if counted:
        head["usage"] = None
    for choice in made["choices"]:
        number, message = choice["index"], choice["message"]
        listed = ((choice.get("logprobs") or {}).get("content")) or []
        texts = [entry["token"] for entry in listed] or tokens(message.get("content") or "")
        yield _event(head, number, {"role": "assistant", "content": ""})
        for place, text in enumerate(texts):
            told = {"content": [listed[place]], "refusal": None} if listed else None
            yield _event(head, number, {"content": text}, told)
        for place, call in enumerate(message.get("tool_calls") or []):
            yield _event(head, number, {"tool_calls": [{"index": place} | call]})
        yield _event(head, number, {}, None, choice["finish_reason"])
    if counted and "usage" in made:
        yield _line(head | {"choices": [], "usage": made["usage"]})
    yield DONE


def _event(
    head: dict[str, Any], number: int, delta: dict[str, Any], logprobs: Any = None, finish: str | None = None
) -> bytes:
    return _line(head | {"choices": [{"index": number, "delta": delta, "logprobs": logprobs, "finish_reason": finish}]})


def _line(chunk: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"
