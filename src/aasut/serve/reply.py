"""Answers in the form of OpenAI's chat-completions protocol: whole, or as server-sent events."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from aasut.engine.base import Token
from aasut.serve import calls, tokens
from aasut.serve.protocol import ChatRequest
from aasut.serve.refusal import Refusal
from aasut.serve.student import Answer
from aasut.types import Usage

DONE = "data: [DONE]\n\n"


@dataclass(frozen=True)
class Choice:
    """One whole answer: what was written, how it ended ("stop" or "length"), and its tokens where they are known."""

    text: str
    finish: str
    said: Sequence[Token] = ()


class Reply:
    """The answer to one request. `model` and `fingerprint` say who answers.

    Where the request gives tools, texts are read as `tools.py` has them: calls become `tool_calls`.
    """

    def __init__(self, request: ChatRequest, model: str, fingerprint: str) -> None:
        self.request, self.model, self.fingerprint = request, model, fingerprint
        self.id = f"chatcmpl-{uuid.uuid4().hex}"
        self.created = int(time.time())

    def label(self, answer: Answer, *labels: str) -> dict[str, Any]:
        """Labels as one `chat.completion`: those to give, drawn or the likeliest, one a choice."""
        choices = [
            self._choice(number, self._message(label), self._label_logprobs(answer, label), "stop")
            for number, label in enumerate(labels)
        ]
        return self._completion(choices, usage_of(answer, labels))

    def text(self, text: str, finish: str, usage: Usage, said: Sequence[Token] = ()) -> dict[str, Any]:
        """A text as one `chat.completion`."""
        return self.texts([Choice(text, finish, said)], usage)

    def texts(self, choices: Sequence[Choice], usage: Usage) -> dict[str, Any]:
        """Several texts as one `chat.completion`; `usage` counts all."""
        return self._completion([self._written(number, choice) for number, choice in enumerate(choices)], usage)

    def label_events(self, answer: Answer, *labels: str) -> Iterator[str]:
        """Labels as server-sent events: role, content and finish of each, usage where it is asked for, [DONE]."""
        for number, label in enumerate(labels):
            yield self.first(number)
            yield self._chunk({"content": label}, self._label_logprobs(answer, label), index=number)
            yield self._chunk({}, finish="stop", index=number)
        yield from self.done(usage_of(answer, labels))

    def stream(self, index: int = 0) -> Stream:
        """The events of choice number `index`; `done` ends those of all."""
        return Stream(self, index)

    def first(self, index: int = 0, content: str | None = "") -> str:
        """The event that begins an answer."""
        return self._chunk({"role": "assistant", "content": content, "refusal": None}, index=index)

    def piece(self, text: str, said: Sequence[Token] = (), index: int = 0) -> str:
        """The event of a further piece of text."""
        return self._chunk({"content": text}, self._logprobs(said), index=index)

    def called(self, call: dict[str, Any], index: int = 0) -> str:
        """The event of a further piece of a call."""
        return self._chunk({"tool_calls": [call]}, index=index)

    def ended(self, finish: str, index: int = 0) -> str:
        """The event that ends choice number `index`."""
        return self._chunk({}, finish=finish, index=index)

    def done(self, usage: Usage) -> Iterator[str]:
        """The events that end a stream."""
        if self._counted:
            yield _event(self._head("chat.completion.chunk") | {"choices": [], "usage": _usage(usage)})
        yield DONE

    def last(self, finish: str, usage: Usage) -> Iterator[str]:
        """The events that end a stream of one answer."""
        yield self.ended(finish)
        yield from self.done(usage)

    @property
    def _counted(self) -> bool:
        options = self.request.stream_options
        return options is not None and bool(options.include_usage)

    def _chunk(
        self, delta: dict[str, Any], logprobs: dict[str, Any] | None = None, finish: str | None = None, index: int = 0
    ) -> str:
        head = self._head("chat.completion.chunk") | ({"usage": None} if self._counted else {})
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return _event(head | {"choices": [choice]})

    def _head(self, kind: str) -> dict[str, Any]:
        head: dict[str, Any] = {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }
        return head | ({"service_tier": "default"} if self.request.service_tier is not None else {})

    def _completion(self, choices: list[dict[str, Any]], usage: Usage) -> dict[str, Any]:
        return self._head("chat.completion") | {"choices": choices, "usage": _usage(usage)}

    def _choice(
        self, index: int, message: dict[str, Any], logprobs: dict[str, Any] | None, finish: str
    ) -> dict[str, Any]:
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish}

    def _message(self, content: str | None, **more: Any) -> dict[str, Any]:
        return {"role": "assistant", "content": content, "refusal": None} | more

    def _written(self, index: int, choice: Choice) -> dict[str, Any]:
        text, found = calls.read(choice.text) if self.request.tools is not None else (choice.text, [])
        if not found:
            return self._choice(index, self._message(text), self._logprobs(choice.said), choice.finish)
        made = [_call(name, arguments) for name, arguments in found]
        finish = "tool_calls" if choice.finish == "stop" else choice.finish
        return self._choice(index, self._message(None, tool_calls=made), self._logprobs(()), finish)

    def _logprobs(self, said: Sequence[Token]) -> dict[str, Any] | None:
        """Of a text's tokens; a call's have none."""
        return {"content": tokens.content(said) or None, "refusal": None} if self.request.logprobs else None

    def _label_logprobs(self, answer: Answer, label: str) -> dict[str, Any] | None:
        if not self.request.logprobs:
            return None
        entries = {name: tokens.entry(name, name.encode(), logprob) for name, logprob in answer.logprobs.items()}
        top = list(entries.values())[: self.request.top_logprobs or 0]
        return {"content": [entries[label] | {"top_logprobs": top}], "refusal": None}


class Stream:
    """The events of one choice, as its text comes."""

    def __init__(self, reply: Reply, index: int) -> None:
        self.reply, self.index = reply, index
        self.reader = calls.CallReader() if reply.request.tools is not None else None
        self.begun = False

    def piece(self, text: str, said: Sequence[Token] = ()) -> Iterator[str]:
        """A further piece of text, and its tokens."""
        if self.reader is None:
            yield from self._text(text, said)
        else:
            yield from self._parts(self.reader.feed(text), said)

    def end(self, finish: str) -> Iterator[str]:
        """The answer has come to its end ("stop"), or was cut ("length")."""
        if self.reader is not None:
            yield from self._parts(self.reader.end(), ())
            if self.reader.count and finish == "stop":
                finish = "tool_calls"
        yield from self._begin("")
        yield self.reply.ended(finish, self.index)

    def _begin(self, content: str | None) -> Iterator[str]:
        if not self.begun:
            self.begun = True
            yield self.reply.first(self.index, content)

    def _text(self, text: str, said: Sequence[Token]) -> Iterator[str]:
        if text:
            yield from self._begin("")
            yield self.reply.piece(text, said, self.index)

    def _parts(self, parts: Sequence[calls.Part], said: Sequence[Token]) -> Iterator[str]:
        for part in parts:
            if part.kind == "text":
                yield from self._text(part.text, said)
                continue
            yield from self._begin(None)
            if part.kind == "call":
                call = {"index": part.index} | _call(part.text, "")
            else:
                call = {"index": part.index, "function": {"arguments": part.text}}
            yield self.reply.called(call, self.index)


def usage_of(answer: Answer, labels: Sequence[str]) -> Usage:
    """Tokens of a prompt that was scored once, and of the labels that are given."""
    each = [answer.tokens.get(label, answer.usage.completion_tokens) for label in labels]
    return Usage(answer.usage.prompt_tokens, sum(each), answer.usage.cached_tokens)


def broken(refusal: Refusal) -> str:
    """The event that says that a stream cannot go on."""
    return _event(refusal.body)


def _call(name: str, arguments: str) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": f"call_{uuid.uuid4().hex[:24]}", "type": "function", "function": function}


def _usage(used: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.completion_tokens,
        "total_tokens": used.prompt_tokens + used.completion_tokens,
    }


def _event(chunk: dict[str, Any]) -> str:
    return f"data: {json.dumps(chunk, ensure_ascii=False, separators=(',', ':'))}\n\n"
