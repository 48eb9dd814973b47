"""What one conversation of an agent used, and where its limits end it: before what could pass them, not after."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from aasut.recipe import Endpoint
from aasut.recipe.agent import Limits

AROUND = 64  # tokens that a chat template may put around a message or a tool, about
BEGINNING = 1024  # and what it may tell of tools by itself


class Stop(Exception):
    """A task ends without an answer: `reason` in one word, and in words."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason, self.text = reason, text


class Meter:
    """Counts steps, calls, tokens, dollars and seconds. Steps, calls and seconds begin anew with each task."""

    def __init__(self, limits: Limits, endpoint: Endpoint) -> None:
        self.limits = limits
        self._input, self._output = endpoint.usd_per_million_input_tokens, endpoint.usd_per_million_output_tokens
        self.input_tokens = self.output_tokens = 0
        self.usd = 0.0
        self._known = 0  # tokens of the last prompt and its answer
        self._seen = 0  # messages of these
        self.begin()

    def begin(self) -> None:
        """A new task."""
        self.steps = self.calls = 0
        self.began = time.monotonic()
        self.waited = 0.0  # seconds in which a person was asked

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began - self.waited

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the limit, None where there is none."""
        return None if self.limits.seconds is None else max(self.limits.seconds - self.seconds, 0.0)

    def before_step(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]) -> int:
        """Count a request, and give the tokens that its prompt may have at worst. Raises Stop."""
        limits = self.limits
        if self.steps >= limits.steps:
            raise Stop("steps", f"There was no answer after {limits.steps} requests to the model.")
        self.in_time()
        worst = self._worst(messages, tools)
        used = self.input_tokens + self.output_tokens
        if limits.tokens is not None and used + worst + limits.answer_tokens > limits.tokens:
            raise Stop("tokens", f"{used} tokens were used, and the next step could pass {limits.tokens}.")
        if limits.usd is not None and self.usd + self.price(worst, limits.answer_tokens) > limits.usd:
            raise Stop("usd", f"${self.usd:.4f} was spent, and the next step could pass ${limits.usd:g}.")
        self.steps += 1
        return worst

    def after_step(self, input_tokens: int, output_tokens: int, messages: int, worst: int) -> tuple[int, int, float]:
        """Count what a request used, and say it; `messages`: how many there are, its answer included.

        An endpoint that does not say is taken to have used the worst.
        """
        if not input_tokens and not output_tokens:
            input_tokens, output_tokens = worst, self.limits.answer_tokens
        usd = self.price(input_tokens, output_tokens)
        self.input_tokens += input_tokens
        self.output_tokens += output_tokens
        self.usd += usd
        self._known, self._seen = input_tokens + output_tokens, messages
        return input_tokens, output_tokens, usd

    def before_call(self) -> None:
        """Count a call. Raises Stop."""
        if self.calls >= self.limits.tool_calls:
            raise Stop("tool_calls", f"There was no answer after {self.limits.tool_calls} calls of tools.")
        self.in_time()
        self.calls += 1

    def in_time(self) -> None:
        """Raises Stop where the time is over."""
        if self.seconds_left == 0.0:
            raise Stop("seconds", f"There was no answer after {self.limits.seconds:g} s.")

    def price(self, input_tokens: int, output_tokens: int) -> float:
        """Dollars."""
        return (input_tokens * self._input + output_tokens * self._output) / 1e6

    def _worst(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]) -> int:
        """No token is shorter than a byte; of what was sent before, the tokens are known."""
        new = sum(len(_bytes(message)) + AROUND for message in messages[self._seen :])
        if self._seen:
            return self._known + new
        return BEGINNING + new + sum(len(_bytes(tool)) + AROUND for tool in tools)


def _bytes(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
