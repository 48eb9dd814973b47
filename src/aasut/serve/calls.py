"""Calls of tools read out of a student's text while it is written."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Literal

from aasut.tools import is_calls

# What stands before a call's arguments, what ends the call before it included.
_HEAD = re.compile(r'[\[\s,}]*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*(?=\{)')


@dataclass(frozen=True, slots=True)
class Part:
    """Something new of an answer: plain text, a call that begins with its name, or more of its arguments' JSON.

    `index` counts the calls.
    """

    kind: Literal["text", "call", "arguments"]
    text: str
    index: int = 0


class CallReader:
    """Takes an answer in pieces, as a tools student writes it (see tools.py), and tells it in parts.

    An answer that begins as calls do and is none comes as text, at its end.
    """

    def __init__(self) -> None:
        self.count = 0  # calls that have begun
        self._mode: Literal["start", "text", "head", "arguments"] = "start"
        self._held = ""
        self._depth = 0
        self._quoted = self._escaped = False

    def feed(self, text: str) -> list[Part]:
        """What a further piece adds."""
        if self._mode == "text":
            return [Part("text", text)] if text else []
        self._held += text
        if self._mode == "start":
            if not self._held.strip():
                return []
            self._mode = "head" if is_calls(self._held) else "text"
            if self._mode == "text":
                return [Part("text", self._taken())]
        parts: list[Part] = []
        while self._held:
            if self._mode == "head":
                found = _HEAD.match(self._held)
                if found is None:
                    break
                parts.append(Part("call", json.loads(found[1], strict=False), self.count))
                self.count += 1
                self._held, self._mode = self._held[found.end() :], "arguments"
            size = self._more()
            if size:
                parts.append(Part("arguments", self._held[:size], self.count - 1))
                self._held = self._held[size:]
        return parts

    def end(self) -> list[Part]:
        """What is left when the answer ends: text that turned out to be no calls."""
        left = self._taken()
        return [Part("text", left)] if left and not self.count else []

    def _taken(self) -> str:
        held, self._held = self._held, ""
        return held

    def _more(self) -> int:
        """How many of the characters held go on with the arguments; at their end it waits for the next call."""
        for place, character in enumerate(self._held):
            if self._quoted:
                if self._escaped:
                    self._escaped = False
                elif character == "\\":
                    self._escaped = True
                elif character == '"':
                    self._quoted = False
            elif character == '"':
                self._quoted = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth == 0:
                    self._mode = "head"
                    return place + 1
        return len(self._held)


def read(text: str) -> tuple[str, list[tuple[str, str]]]:
    """A whole answer: (its text, its calls as name and arguments, of which a cut answer has a part)."""
    reader = CallReader()
    said, calls = "", []
    for part in [*reader.feed(text), *reader.end()]:
        if part.kind == "text":
            said += part.text
        elif part.kind == "call":
            calls.append((part.text, ""))
        else:
            calls[-1] = (calls[-1][0], calls[-1][1] + part.text)
    return said, calls
