"""An agent's trace as tau2 has a conversation, for tau2's evaluator to play again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from aasut.agents.trace import Event

DONE, STOP = "done", "###STOP###"


def messages(events: Iterable[Event], *, alone: bool) -> list[dict[str, Any]]:
    """What was said and done, in order.

    Outputs of tools are those that the server gave, before they were wrapped for the model. Calls that the server did
    not answer are left out. Where the agent works `alone` nobody else speaks, and its call of `done` is tau2's end.
    """
    listed = list(events)
    found: list[dict[str, Any]] = []
    for place, event in enumerate(listed):
        said = event.content
        if event.kind != "message":
            continue
        if said["role"] == "user" and not alone:
            found.append({"role": "user", "content": said["content"]})
        elif said["role"] == "assistant":
            found += _assistant(said, _made(listed[place + 1 :]), alone=alone)
    return found


def _made(after: Iterable[Event]) -> dict[str, Mapping[str, Any]]:
    """The calls that were answered after a message, up to the next; their ids need not differ from those of others."""
    made: dict[str, Mapping[str, Any]] = {}
    for event in after:
        if event.kind == "message" and event.content["role"] != "tool":
            break
        if event.kind == "call" and event.content["made"] and not event.content["failed"]:
            made[event.content["id"]] = event.content
    return made


def _assistant(said: Mapping[str, Any], made: Mapping[str, Mapping[str, Any]], *, alone: bool) -> list[dict[str, Any]]:
    """The message, and the outputs of its calls."""
    calls, outputs, text = [], [], said.get("content")
    for call in said.get("tool_calls") or []:
        arguments = _object(call["function"]["arguments"])
        name, result = call["function"]["name"], made.get(call["id"])
        if result is None or arguments is None:
            continue
        if alone and name == DONE:
            text = STOP
            continue
        calls.append({"id": call["id"], "name": name, "arguments": arguments})
        outputs.append({"role": "tool", "id": call["id"], "content": result["output"]})
    if not calls and not (text or "").strip():
        return []
    return [{"role": "assistant", "content": text, "tool_calls": calls or None}, *outputs]


def _object(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
