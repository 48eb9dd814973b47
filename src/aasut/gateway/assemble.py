"""One answer out of the events of a stream, as the same request would have got it without `stream`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

_TOGETHER = 64  # events parsed at once


def whole(sse: bytes) -> dict[str, Any] | None:
    """The answer in server-sent events, of a stream that was cut as far as it went; None where there is none.

    Chat completions become a chat.completion, legacy completions a text_completion, and the Responses API's streams a
    response. An error that came in mid-stream stands under `error`.
    """
    found: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    response: dict[str, Any] | None = None
    items: dict[int, dict[Any, Any]] = {}
    for event in events(sse):
        if isinstance(kind := event.get("type"), str) and kind.startswith("response."):
            if isinstance(event.get("response"), dict):
                response = event["response"]
            elif kind == "response.output_text.delta" and isinstance(event.get("delta"), str):
                texts = items.setdefault(_index(event, "output_index"), {})
                _append(texts, _index(event, "content_index"), event["delta"])
            continue
        for name, value in event.items():
            if name == "choices":
                for piece in value if isinstance(value, list) else ():
                    if isinstance(piece, dict):
                        _add(choices.setdefault(_index(piece), {}), piece)
            elif value is not None or name not in found:
                found[name] = value
    if response is not None:
        return _with_texts(response, items)
    if not found and not choices:
        return None
    chat = {"chat.completion.chunk": "chat.completion"}
    if "object" in found:
        found["object"] = chat.get(found["object"], found["object"]) if isinstance(found["object"], str) else ""
    if choices or "error" not in found:
        found["choices"] = [_closed(index, choices[index]) for index in sorted(choices)]
    return found


def events(sse: bytes) -> Iterator[dict[str, Any]]:
    """The JSON objects in a stream's data fields, in order. What is no object, such as [DONE], is passed over."""
    waiting: list[bytes] = []
    data: list[bytes] = []
    for line in (*sse.splitlines(), b""):  # the last event may lack the empty line that ends it
        if line.startswith(b"data:"):
            data.append(line[5:])
        elif not line and data:
            waiting.append(data[0] if len(data) == 1 else b"\n".join(data))
            data = []
            if len(waiting) == _TOGETHER:
                yield from _parsed(waiting)
                waiting = []
    yield from _parsed(waiting)


def _parsed(texts: list[bytes]) -> Iterator[dict[str, Any]]:
    """Objects among texts of JSON: parsed at once, which is faster, or one by one where one is none."""
    objects = [text for text in texts if text.lstrip()[:1] == b"{"]
    try:
        values: list[Any] = json.loads(b"[" + b",".join(objects) + b"]")
        if len(values) != len(objects):
            raise ValueError
    except (ValueError, RecursionError):
        values = []
        for text in objects:
            with suppress(ValueError, RecursionError):
                values.append(json.loads(text))
    yield from (value for value in values if isinstance(value, dict))


def _add(choice: dict[str, Any], piece: dict[str, Any]) -> None:
    """Add one chunk's part of a choice."""
    delta = piece.get("delta")
    if isinstance(delta, dict):
        message = choice.setdefault("message", {})
        for name, value in delta.items():
            if name == "tool_calls" and isinstance(value, list):
                calls = message.setdefault("tool_calls", {})
                for place, call in enumerate(value):
                    if isinstance(call, dict):
                        _add_call(calls.setdefault(_index(call, default=place), {}), call)
            elif name == "function_call" and isinstance(value, dict):
                _join(message.setdefault("function_call", {}), value)
            elif isinstance(value, str) and name != "role":
                _append(message, name, value)
            elif value is not None or name not in message:
                message[name] = value
    if isinstance(text := piece.get("text"), str):
        _append(choice, "text", text)
    if isinstance(logprobs := piece.get("logprobs"), dict):
        kept = choice.setdefault("logprobs", {})
        for name, value in logprobs.items():
            if isinstance(value, list) and isinstance(kept.get(name), list):
                kept[name] += value
            elif value is not None or name not in kept:
                kept[name] = list(value) if isinstance(value, list) else value
    for name, value in piece.items():
        if name not in ("index", "delta", "text", "logprobs") and (value is not None or name not in choice):
            choice[name] = value


def _add_call(call: dict[str, Any], piece: dict[str, Any]) -> None:
    """Add one chunk's part of a tool call: its arguments come in pieces, the rest whole."""
    for name, value in piece.items():
        if name in ("function", "custom") and isinstance(value, dict):
            _join(call.setdefault(name, {}), value)
        elif name != "index" and (value is not None or name not in call):
            call[name] = value


def _join(function: dict[str, Any], piece: dict[str, Any]) -> None:
    for name, value in piece.items():
        if name in ("arguments", "input") and isinstance(value, str):
            _append(function, name, value)
        elif value is not None or name not in function:
            function[name] = value


class _Parts(list[str]):
    """A text that comes in pieces; they are joined once, at the end."""


def _append(place: dict[Any, Any], name: Any, text: str) -> None:
    parts = place.get(name)
    if not isinstance(parts, _Parts):
        parts = place[name] = _Parts()
    parts.append(text)


def _joined(value: Any) -> Any:
    """The same with texts in one piece."""
    if isinstance(value, _Parts):
        return "".join(value)
    return {name: _joined(inner) for name, inner in value.items()} if isinstance(value, dict) else value


def _closed(index: int, choice: dict[str, Any]) -> dict[str, Any]:
    """A choice as it stands in a whole answer."""
    if "message" in choice or "text" not in choice:
        message = {"role": "assistant", "content": None, **choice.get("message", {})}
        if isinstance(calls := message.get("tool_calls"), dict):
            message["tool_calls"] = [_joined(calls[place]) for place in sorted(calls)]
        choice = {**choice, "message": message}
    return {"index": index, "finish_reason": None, "logprobs": None, **_joined(choice)}


def _with_texts(response: dict[str, Any], items: dict[int, dict[Any, Any]]) -> dict[str, Any]:
    """A response; where it was cut before it was whole, with the text that had come."""
    if response.get("output") or not items:
        return response
    output = [
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "".join(texts[part])} for part in sorted(texts)],
        }
        for _, texts in sorted(items.items())
    ]
    return {**response, "output": output}


def _index(piece: dict[str, Any], name: str = "index", default: int = 0) -> int:
    index = piece.get(name)
    return index if isinstance(index, int) else default
