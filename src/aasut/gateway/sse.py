"""Server-sent events on their way through: passed on whole, watched for how they end and what was used.

A client never gets half an event. Of an answer that breaks off it gets what came whole, then an event
with OpenAI's error object, and no [DONE].
"""

from __future__ import annotations

import json
import re
from typing import Any

_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_LINES = re.compile(rb"\r\n|\n|\r")
_DONE = b"[DONE]"
LONGEST = 8 << 20  # bytes of one event


class Stream:
    """The events of one answer. `chat`: chunks of a chat completion, of which each must be JSON.

    `last` is the event [DONE], held back so that an answer is recorded before its client knows it whole.
    `usage` is what the upstream counted, None until it did. `hide_usage`: the client did not ask for the count,
    so that the chunk that only brings it is not passed on. `pieces` are chunks with something in them.
    """

    def __init__(self, *, chat: bool, hide_usage: bool) -> None:
        self.chat, self.hide_usage = chat, hide_usage
        self.usage: dict[str, Any] | None = None
        self.finished = self.done = False
        self.pieces = 0
        self.last = b""
        self.broken = ""
        self._rest = b""

    def take(self, data: bytes) -> bytes:
        """The whole events among what came so far that were not passed on yet, up to what is garbage."""
        data = self._rest + data if self._rest else data
        passed: list[bytes] = []
        begin = 0
        for end in _END.finditer(data):
            event = data[begin : end.end()]
            begin = end.end()
            passes = self._passes(event)
            if self.broken:
                break
            if passes:
                passed.append(event)
        self._rest = data[begin:]
        if len(self._rest) > LONGEST:
            self.broken = f"an event longer than {LONGEST >> 20} MB"
        return b"".join(passed)

    @property
    def whole(self) -> bool:
        """Did it come to its end?"""
        return self.done or self.finished or (not self.chat and not self._rest)

    def _passes(self, event: bytes) -> bool:
        if event.startswith(b"data: ") and event.count(b"\n") == 2:
            text = event[6:].strip()
        else:
            lines = _LINES.split(event)
            text = b"\n".join(line[5:].strip() for line in lines if line.startswith(b"data:"))
            if not text:  # a comment, which keeps the connection open
                return True
        if text == _DONE:
            self.done, self.last = True, event
            return False
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            self.broken = "an event that is no JSON" if self.chat else ""
            return True
        return self._chunk(said) if self.chat and isinstance(said, dict) else self._other(said)

    def _chunk(self, said: dict[str, Any]) -> bool:
        choices, usage = said.get("choices"), said.get("usage")
        if isinstance(usage, dict):
            self.usage = usage
        if not choices:
            if "error" in said:
                self.done = True  # the upstream tells the client itself
            return not (self.hide_usage and isinstance(usage, dict) and choices == [])
        for choice in choices:
            if not isinstance(choice, dict):
                self.broken = "an event that is no chunk of an answer"
                return False
            self.pieces += bool(choice.get("delta"))
            self.finished = self.finished or bool(choice.get("finish_reason"))
        return True

    def _other(self, said: Any) -> bool:
        """An event of another API: the Responses API counts in its last one."""
        response = said.get("response") if isinstance(said, dict) else None
        if isinstance(response, dict) and isinstance(response.get("usage"), dict):
            self.usage = response["usage"]
        self.pieces += isinstance(said, dict) and "delta" in said
        return True


def error_event(body: dict[str, Any]) -> bytes:
    """The event that tells a client of an error in the middle of an answer."""
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"
