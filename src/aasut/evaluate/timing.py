"""How many requests a second a model answers, one batch after another, with its prefix cache and without."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aasut.types import Usage

Ask = Callable[[Sequence[int]], Usage]  # answers the requests of these numbers, and says what they took


@dataclass(frozen=True)
class Speed:
    """Medians over repetitions. Tokens are a request's prompt and answer tokens; `computed` leaves cached ones out.

    repetitions: requests/s of each, in order.
    """

    requests_per_s: float
    tokens_per_request: float
    computed_per_request: float
    repetitions: tuple[float, ...] = ()


def fewer(requests: int) -> int:
    """How many of the requests are enough to time models without the prefix cache, which makes them slow."""
    return max(requests // 4, 1)


def measure(models: dict[str, Ask], requests: int, *, batch: int = 64, repetitions: int = 2) -> dict[str, Speed]:
    """Speed of each model on the same requests. The models take turns, so that a slow spell hits all of them."""
    taken: dict[str, list[float]] = {name: [] for name in models}
    used: dict[str, Usage] = {}
    for ask in models.values():
        ask(range(min(8, requests)))  # warm-up: first calls compile and allocate
    for _ in range(repetitions):
        for name, ask in models.items():
            total = Usage()
            started = time.perf_counter()
            for start in range(0, requests, batch):
                total = total + ask(range(start, min(start + batch, requests)))
            taken[name].append(time.perf_counter() - started)
            used[name] = total
    result = {}
    for name, seconds in taken.items():
        usage = used[name]
        tokens = usage.prompt_tokens + usage.completion_tokens
        result[name] = Speed(
            requests / statistics.median(seconds),
            tokens / requests,
            (tokens - usage.cached_tokens) / requests,
            tuple(requests / taken_once for taken_once in seconds),
        )
    return result
