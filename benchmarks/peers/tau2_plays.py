"""Scripted models for tau2's tasks: they make given calls one after the other, over HTTP, and then say a text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from aasut.teacher.base import Keep
from aasut.teacher.scripted import ScriptedTeacher
from aasut.teacher.server import ScriptedServer
from aasut.types import Completion, Request, Usage

PLAYS = ("golden", "wrong", "nothing")
# What nobody asked for: writes that succeed in every train task of the domain.
WRONG: dict[str, dict[str, Any]] = {
    "airline": {"name": "send_certificate", "arguments": {"user_id": "raj_sanchez_7340", "amount": 1}},
    "retail": {
        "name": "modify_user_address",
        "arguments": {
            "user_id": "yusuf_rossi_9620", "address1": "1 Nowhere", "address2": "", "city": "Nowhere", "state": "NA",
            "country": "USA", "zip": "00000",
        },
    },
    "telecom": {"name": "toggle_airplane_mode", "arguments": {}},
}  # fmt: skip
DONE: dict[str, Any] = {"name": "done", "arguments": {}}


class Player(ScriptedTeacher):
    """Its n-th answer in a conversation is the n-th of `calls`, whatever they returned, and then the text `last`.

    Where it is in the conversation it tells by the outputs of tools, so that it is the same for the same messages.
    """

    def __init__(self, calls: Sequence[Mapping[str, Any]], last: str) -> None:
        super().__init__({"": last})
        self.calls, self.last = [dict(call) for call in calls], last

    def complete(self, requests: Sequence[Request], keep: Keep | None = None) -> list[Completion]:
        answers = [Completion(self._next(request), Usage(1, 1)) for request in requests]
        if keep is not None:
            keep(list(zip(requests, answers, strict=True)))
        return answers

    def _next(self, request: Request) -> str:
        # The user's one message comes first; outputs of tools, which the server reads as a user's, follow.
        made = sum(message.role == "user" for message in request.messages) - 1
        return json.dumps([self.calls[made]]) if made < len(self.calls) else self.last


def player(play: str, domain: str, task: Mapping[str, Any], *, alone: bool) -> Player:
    """Plays a task's golden actions (`golden`), these and a write that nobody asked for (`wrong`), or `nothing`."""
    calls = [] if play == "nothing" else list(task["golden"])
    if play == "wrong":
        calls.append(WRONG[domain])
    told = " ".join(task["communicate"]) if play != "nothing" else ""
    return Player([*calls, DONE] if alone else calls, f"That is all. {told}".strip())


def server(model: Player) -> ScriptedServer:
    """The scripted teacher's HTTP server with this model in it."""
    made = ScriptedServer({})
    made.teacher = model
    return made
