"""Chat requests out of the logs and exports in which they are kept, one JSON object each.

    {"messages": [...]}                          the body of a request; a fine-tuning file, where the last turn answers
    {"custom_id": ..., "body": {...}}            the Batch API's requests; its answers have `response` instead
    {"request": {...}, "response": {...}}        pairs, as gateways and proxies log them
    {"input": [...], "output": ...}              traces
    {"conversations": [{"from": ..., "value": ...}]}   data sets of conversations

What a model once answered is a hint of what the task is. It is never a human answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aasut import tools as functions
from aasut.errors import AmbiguousPrompt, PromptMismatch
from aasut.sources.rows import RowFault
from aasut.types import Message, Role

ANSWER_KEYS = ("response", "response_body", "responseBody", "output", "choices", "completion")
_REQUEST_KEYS = ("body", "request", "request_body", "requestBody", "input", "params")
_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "model": "assistant",
    "gpt": "assistant",
}
_TEXT_PARTS = ("text", "input_text", "output_text")


class UnknownShape(RowFault):
    """An object in which no chat request is found; `found` says what is in it."""

    def __init__(self, found: str) -> None:
        super().__init__("no chat request")
        self.found = found


@dataclass(frozen=True, slots=True)
class Logged:
    """One request, up to the user's last turn, and what is known of the call.

    `answer` is what the model of that time said, None where it is not there or no text. `schema`
    is the JSON schema that the request asked for.
    """

    messages: tuple[Message, ...]
    answer: str | None = None
    model: str = ""
    base_url: str = ""
    schema: Mapping[str, Any] | None = None


def logged(line: Mapping[str, Any], tools: str = "") -> Logged:
    """The request in one object of a log.

    `tools`: the functions that requests must define, as the JSON text of OpenAI's definitions; an answer that calls
    some is then told as text (see tools.py). Raises UnknownShape where there is no request, RowFault for one that a
    student cannot be asked, such as one with other tools or images.
    """
    body = _request(line)
    if body is None:
        raise UnknownShape(_seen(line))
    _check_tools(body, tools)
    messages = _messages(body, calling=bool(tools))
    answer = _answer_of(line) if body is line else _answer_of({k: v for k, v in line.items() if v is not body})
    if messages and messages[-1].role == "assistant":
        if answer is not None and answer != messages[-1].content:
            raise RowFault("ends with the assistant's turn")
        answer, messages = messages[-1].content, messages[:-1]
    if not messages or messages[-1].role != "user":
        raise RowFault("does not end with the user's turn")
    return Logged(tuple(messages), answer, _name(body, line), _address(body, line), _schema(body))


def unread(mismatch: PromptMismatch) -> RowFault:
    """The fault of a request that a prompt does not read."""
    return RowFault("ambiguous slots" if isinstance(mismatch, AmbiguousPrompt) else "does not match the prompt")


def answers_a_batch(line: Mapping[str, Any]) -> bool:
    """Is this a line of the Batch API's answers? It names its request by `custom_id` and does not hold it."""
    return "custom_id" in line and "response" in line and "body" not in line


def batch_answer(line: Mapping[str, Any]) -> str | None:
    """The text in a line of the Batch API's answers, None for an error."""
    return _answer_of(line)


def _request(value: Any, depth: int = 3) -> Mapping[str, Any] | None:
    """The body of the request: the object that holds the conversation."""
    value = _unpacked(value)
    if isinstance(value, list):
        return {"messages": value} if value and all(_is_turn(turn) for turn in value) else None
    if not isinstance(value, dict) or depth == 0:
        return None
    for key in ("messages", "conversations"):
        turns = _unpacked(value.get(key))
        if isinstance(turns, list):
            return value if turns is value[key] else {**value, key: turns}
    if isinstance(value.get("input"), str) and ("instructions" in value or "model" in value):
        return value
    return next((found for key in _REQUEST_KEYS if (found := _request(value.get(key), depth - 1)) is not None), None)


def _is_turn(value: Any) -> bool:
    return isinstance(value, dict) and "role" in value and ("content" in value or "tool_calls" in value)


def _check_tools(body: Mapping[str, Any], tools: str) -> None:
    given = body.get("tools")
    if body.get("functions") or (given and not tools):
        raise RowFault("uses tools")
    if tools and (functions.fault(given) or not functions.same(given, json.loads(tools))):
        raise RowFault("other tools")


def _messages(body: Mapping[str, Any], *, calling: bool) -> list[Message]:
    turns: Any = body.get("messages", body.get("conversations"))
    if turns is None:
        turns = [{"role": "user", "content": body["input"]}]
    head = body.get("system", body.get("instructions"))
    if head:
        turns = [{"role": "system", "content": head}, *turns]
    said = _calls(turns[-1]) if calling and isinstance(turns, list) and turns else None
    if said is not None:
        return [*map(_message, turns[:-1]), Message("assistant", said)]
    return [_message(turn) for turn in turns]


def _calls(turn: Any) -> str | None:
    """The calls that a message makes, as text; None where it makes none."""
    try:
        return functions.written(turn.get("tool_calls")) if isinstance(turn, dict) else None
    except ValueError:
        return None


def _message(turn: Any) -> Message:
    if not isinstance(turn, dict):
        raise RowFault("a message that is no object")
    role = turn.get("role", turn.get("from"))
    if role in ("tool", "function") or turn.get("tool_calls") or turn.get("function_call"):
        raise RowFault("uses tools")
    if not isinstance(role, str) or role not in _ROLES:
        raise RowFault("a role that is not known")
    return Message(_ROLES[role], _text(turn.get("content", turn.get("value"))))


def _text(content: Any) -> str:
    """The text of a message; its parts are joined as the server joins them."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise RowFault("a message without text")
    if not all(isinstance(part, dict) and part.get("type") in _TEXT_PARTS for part in content):
        raise RowFault("holds more than text")
    return "".join(str(part.get("text", "")) for part in content)


def _answer_of(line: Mapping[str, Any]) -> str | None:
    for key in ANSWER_KEYS:
        if line.get(key) is not None:
            found = _answer({key: line[key]} if key == "choices" else line[key])
            if found is not None:
                return found
    return None


def _answer(value: Any, depth: int = 8) -> str | None:
    """The text of an answer, as any of the APIs wraps it, None where there is none."""
    if depth == 0:
        return None
    if isinstance(value, str):
        inner = _unpacked(value)
        wrapped = isinstance(inner, dict) and any(key in inner for key in ("choices", "role", "output"))
        return _answer(inner, depth - 1) if wrapped else value
    if isinstance(value, list):
        texts = [part["text"] for part in value if isinstance(part, dict) and isinstance(part.get("text"), str)]
        if texts:
            return "".join(texts)
        return next((found for part in value if (found := _answer(part, depth - 1)) is not None), None)
    if not isinstance(value, dict):
        return None
    if value.get("tool_calls"):
        return _calls(value)
    for key in ("body", "choices", "message", "output", "content", "text"):
        if value.get(key) is not None:
            return _answer(value[key], depth - 1)
    return None


def _unpacked(value: Any) -> Any:
    """JSON within a text, as some logs keep bodies."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _name(*places: Mapping[str, Any]) -> str:
    inner = [found for place in places for key in ANSWER_KEYS if isinstance(found := place.get(key), dict)]
    bodies = [found for place in inner if isinstance(found := place.get("body"), dict)]
    names = (place.get("model") for place in (*places, *inner, *bodies))
    return next((name for name in names if isinstance(name, str) and name), "")


def _address(*places: Mapping[str, Any]) -> str:
    addresses = (place.get(key) for place in places for key in ("api_base", "base_url"))
    return next((a for a in addresses if isinstance(a, str) and a.startswith(("http://", "https://"))), "")


def _schema(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    asked = body.get("response_format")
    wrapped = asked.get("json_schema") if isinstance(asked, dict) else None
    schema = wrapped.get("schema") if isinstance(wrapped, dict) else None
    return schema if isinstance(schema, dict) else None


def _seen(line: Mapping[str, Any]) -> str:
    keys = [str(key) for key in line]
    more = f" and {len(keys) - 8} more" if len(keys) > 8 else ""
    return f"an object with the keys {', '.join(keys[:8])}{more}" if keys else "an empty object"
