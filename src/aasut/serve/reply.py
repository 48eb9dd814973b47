"""Answers in the form of OpenAI's chat-completions protocol: whole, or as server-sent events."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

from aasut.serve.protocol import ChatRequest
from aasut.serve.student import Answer
from aasut.types import Usage

LEAST_LOGPROB = -9999.0  # stands for minus infinity, as OpenAI has it


class Reply:
    """The answer to one request. `model` and `fingerprint` say who answers."""

    def __init__(self, request: ChatRequest, model: str, fingerprint: str) -> None:
        self.request, self.model, self.fingerprint = request, model, fingerprint
        self.id = f"chatcmpl-{uuid.uuid4().hex}"
        self.created = int(time.time())

    def label(self, answer: Answer, label: str) -> dict[str, Any]:
        """A label as one `chat.completion`; `label` is the one to give, drawn or the likeliest."""
        return self.text(label, "stop", answer.usage, self._logprobs(answer, label))

    def text(self, text: str, finish: str, usage: Usage, logprobs: dict[str, Any] | None = None) -> dict[str, Any]:
        """A text as one `chat.completion`."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": finish}
        return self._head("chat.completion") | {"choices": [choice], "usage": _usage(usage)}

    def label_events(self, answer: Answer, label: str) -> Iterator[str]:
        """A label as server-sent events: role, content, finish, usage where it is asked for, [DONE]."""
        yield self.first()
        yield self.piece(label, self._logprobs(answer, label))
        yield from self.last("stop", answer.usage)

    def first(self) -> str:
        """The event that begins an answer."""
        return self._chunk({"role": "assistant", "content": "", "refusal": None})

    def piece(self, text: str, logprobs: dict[str, Any] | None = None) -> str:
        """The event of a further piece of text."""
        return self._chunk({"content": text}, logprobs)

    def last(self, finish: str, usage: Usage) -> Iterator[str]:
        """The events that end an answer."""
        yield self._chunk({}, finish=finish)
        if self._counted:
            yield _event(self._head("chat.completion.chunk") | {"choices": [], "usage": _usage(usage)})
        yield "data: [DONE]\n\n"

    @property
    def _counted(self) -> bool:
        options = self.request.stream_options
        return options is not None and bool(options.include_usage)

    def _chunk(self, delta: dict[str, Any], logprobs: dict[str, Any] | None = None, finish: str | None = None) -> str:
        head = self._head("chat.completion.chunk") | ({"usage": None} if self._counted else {})
        return _event(head | {"choices": [{"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}]})

    def _head(self, kind: str) -> dict[str, Any]:
        head: dict[str, Any] = {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }
        return head | ({"service_tier": "default"} if self.request.service_tier is not None else {})

    def _logprobs(self, answer: Answer, label: str) -> dict[str, Any] | None:
        if not self.request.logprobs:
            return None
        entries = {
            name: {"token": name, "logprob": max(logprob, LEAST_LOGPROB), "bytes": list(name.encode())}
            for name, logprob in answer.logprobs.items()
        }
        top = list(entries.values())[: self.request.top_logprobs or 0]
        return {"content": [entries[label] | {"top_logprobs": top}], "refusal": None}


def _usage(used: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.completion_tokens,
        "total_tokens": used.prompt_tokens + used.completion_tokens,
    }


def _event(chunk: dict[str, Any]) -> str:
    return f"data: {json.dumps(chunk, ensure_ascii=False, separators=(',', ':'))}\n\n"
