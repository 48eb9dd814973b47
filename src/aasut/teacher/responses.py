"""OpenAI's Responses API over a scripted teacher: a chat completion in other words, whole or as events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from aasut.teacher import chat
from aasut.teacher.chat import Refused, Split, pieces, tokens
from aasut.teacher.scripted import ScriptedTeacher

# Fields that have another name, or another form, in a chat completion; what is in neither changes no rule's answer.
PASSED = ("model", "temperature", "top_p", "user", "tool_choice", "parallel_tool_calls")
NAMES = {"max_output_tokens": "max_completion_tokens", "top_logprobs": "top_logprobs"}
FIELDS = {
    *PASSED, *NAMES, "input", "instructions", "tools", "stream", "stream_options", "store", "text", "metadata",
    "include", "truncation", "reasoning",
}  # fmt: skip


def respond(body: Any, teacher: ScriptedTeacher, *, cut: bool = False, split: Split = pieces) -> dict[str, Any]:
    """The response for a request's JSON; as `aasut.teacher.chat.complete`. Raises Refused."""
    made = chat.complete(_as_chat(body), teacher, cut=cut, split=split)
    choice, usage = made["choices"][0], made["usage"]
    cut_short = choice["finish_reason"] == "length"
    output = [_call(number, call) for number, call in enumerate(choice["message"].get("tool_calls") or [])]
    return {
        "id": "resp_scripted",
        "object": "response",
        "created_at": made["created"],
        "status": "incomplete" if cut_short else "completed",
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if cut_short else None,
        "instructions": body.get("instructions"),
        "metadata": body.get("metadata") or {},
        "model": made["model"],
        "output": output or [_message(choice["message"]["content"])],
        "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
        "temperature": body.get("temperature"),
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": body.get("tools") or [],
        "top_p": body.get("top_p"),
        "usage": {
            "input_tokens": usage["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": usage["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage["total_tokens"],
        },
    }


def events(made: dict[str, Any]) -> Iterator[bytes]:
    """The events of a response: created, each item of its output as it grows, and completed."""
    begun = made | {"status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    every = [("created", {"response": begun}), ("in_progress", {"response": begun})]
    for index, item in enumerate(made["output"]):
        every += _growing(index, item)
    every.append((made["status"], {"response": made}))
    for number, (name, fields) in enumerate(every):
        event = {"type": f"response.{name}", "sequence_number": number} | fields
        yield f"event: response.{name}\ndata: ".encode() + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"


def _growing(index: int, item: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Names and fields of the events that bring one item."""
    place = {"output_index": index, "item_id": item["id"]}
    if item["type"] == "function_call":
        kind, whole, empty = "function_call_arguments", item["arguments"], item | {"arguments": ""}
        last: dict[str, Any] = {"arguments": whole, "name": item["name"]}
        parts: list[tuple[str, dict[str, Any]]] = []
        ends: list[tuple[str, dict[str, Any]]] = []
    else:
        (part,) = item["content"]
        place_of_part = place | {"content_index": 0}
        kind, whole, empty = "output_text", part["text"], item | {"content": []}
        last = {"text": whole, "content_index": 0, "logprobs": []}
        parts = [("content_part.added", place_of_part | {"part": part | {"text": ""}})]
        ends = [("content_part.done", place_of_part | {"part": part})]
    more = {"content_index": 0, "logprobs": []} if item["type"] == "message" else {}
    return [
        ("output_item.added", {"output_index": index, "item": empty | {"status": "in_progress"}}),
        *parts,
        *((f"{kind}.delta", place | more | {"delta": text}) for text in tokens(whole)),
        (f"{kind}.done", place | last),
        *ends,
        ("output_item.done", {"output_index": index, "item": item}),
    ]


def _as_chat(body: Any) -> dict[str, Any]:
    """The chat completion that asks the same. Raises Refused."""
    if not isinstance(body, dict):
        raise Refused(400, "The body is no JSON object.")
    strange = sorted(set(body) - FIELDS)
    if strange:
        raise Refused(400, f"Unsupported parameter: {strange[0]}.")
    given, told = body.get("input"), body.get("instructions")
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if not isinstance(items, list) or not items:
        raise Refused(400, "`input` is a text or a list of items.")
    messages = [{"role": "system", "content": told}] if isinstance(told, str) else []
    asked: dict[str, Any] = {"messages": messages + [_as_message(item) for item in items]}
    asked |= {name: body[name] for name in PASSED if body.get(name) is not None}
    asked |= {NAMES[name]: body[name] for name in NAMES if body.get(name) is not None}
    if body.get("tools"):
        asked["tools"] = [_as_tool(tool) for tool in body["tools"]]
    return asked


def _as_tool(tool: Any) -> Any:
    """A function as chat completions define it; what is none is refused there."""
    if not isinstance(tool, dict):
        return tool
    return {"type": tool.get("type"), "function": {name: value for name, value in tool.items() if name != "type"}}


def _as_message(item: Any) -> dict[str, Any]:
    kind = item.get("type", "message") if isinstance(item, dict) else ""
    if kind == "function_call":
        return {"role": "assistant", "content": None, "tool_calls": [item]}
    if kind == "function_call_output":
        return {"role": "tool", "content": item.get("output")}
    if kind != "message":
        raise Refused(400, "An item of `input` is a message, a function_call or a function_call_output.")
    content = item.get("content")
    return {
        "role": item.get("role"),
        "content": [_as_part(p) for p in content] if isinstance(content, list) else content,
    }


def _as_part(part: Any) -> Any:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in ("input_text", "output_text"):
        return {"type": "text", "text": part.get("text")}
    if kind == "input_image":
        return {"type": "image_url", "image_url": {"url": part.get("image_url")}}
    return part


def _message(text: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]
    return {"id": "msg_scripted", "type": "message", "role": "assistant", "status": "completed", "content": content}


def _call(number: int, call: dict[str, Any]) -> dict[str, Any]:
    given = {"id": f"fc_{number}", "type": "function_call", "status": "completed", "call_id": call["id"]}
    return given | {"name": call["function"]["name"], "arguments": call["function"]["arguments"]}
