"""Tokens and dollars of requests: as the upstream counted them, or about, where nothing was counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aasut.gateway.exchange import Exchange

BYTES_PER_TOKEN = 4.0  # of English text, until an upstream's own counts are seen
MOST_ANSWER = 4096  # tokens of an answer to a request that sets no limit
_LEARNT = 0.05  # weight of the newest count


def counted(exchange: Exchange, usage: Mapping[str, Any] | None) -> bool:
    """Put an API's `usage` into an exchange, in the words of any of OpenAI's APIs; whether there was one."""
    if not isinstance(usage, Mapping):
        return False
    prompt = _number(usage, "prompt_tokens", "input_tokens")
    if prompt is None:
        return False
    details = usage.get("prompt_tokens_details", usage.get("input_tokens_details"))
    exchange.prompt_tokens = prompt
    exchange.completion_tokens = _number(usage, "completion_tokens", "output_tokens") or 0
    exchange.cached_tokens = min(_number(details, "cached_tokens") or 0, prompt) if isinstance(details, Mapping) else 0
    exchange.counted = True
    return True


class Estimate:
    """How many bytes of a request make a token, by model, learnt from what the upstream counts."""

    def __init__(self) -> None:
        self._bytes: dict[str, float] = {}

    def learn(self, model: str, size: int, tokens: int) -> None:
        """A request of `size` bytes had so many tokens."""
        if tokens > 0 and (model in self._bytes or len(self._bytes) < 1000):
            before = self._bytes.get(model, size / tokens)
            self._bytes[model] = before + _LEARNT * (size / tokens - before)

    def tokens(self, model: str, size: int) -> int:
        """About how many tokens a request of `size` bytes has."""
        return round(size / self._bytes.get(model, BYTES_PER_TOKEN))


def most_answered(chat: Mapping[str, Any] | None) -> int:
    """Tokens that an answer to this request may have, all its choices together."""
    chat = chat or {}
    given = [n for name in ("max_completion_tokens", "max_output_tokens", "max_tokens") if (n := _number(chat, name))]
    return min(given, default=MOST_ANSWER) * max(_number(chat, "n") or 1, 1)


def _number(place: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = place.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return None
