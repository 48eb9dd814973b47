"""Clients of a completions server: each asks, reads the stream to its end, and asks again."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import aiohttp

MOST_SECONDS = 300  # of one answer


@dataclass(frozen=True)
class Answer:
    text: str
    first_s: float  # until the first piece of text
    prompt_tokens: int
    tokens: int


@dataclass(frozen=True)
class Load:
    """What all clients of one measurement got, by prompt, and how long it took.

    `elsewhere`: share of the processors' time that went to other programs.
    """

    answers: dict[str, Answer]
    seconds: float
    elsewhere: float = 0.0

    @property
    def tokens_s(self) -> float:
        """Answers' tokens, as the server counts them, a second."""
        return sum(answer.tokens for answer in self.answers.values()) / self.seconds

    @property
    def first_s(self) -> float:
        return median(answer.first_s for answer in self.answers.values())


def measure(address: str, body: Callable[[str], dict[str, Any]], prompts: Sequence[str], clients: int) -> Load:
    """Send every prompt once, `clients` at a time. `body` makes the request, which streams and counts its tokens."""
    return asyncio.run(_measure(address, body, prompts, clients))


async def _measure(address: str, body: Callable[[str], dict[str, Any]], prompts: Sequence[str], clients: int) -> Load:
    left = list(prompts)[::-1]
    answers: dict[str, Answer] = {}
    limits = aiohttp.ClientTimeout(total=MOST_SECONDS)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True), timeout=limits
    ) as session:

        async def client() -> None:
            while left:
                prompt = left.pop()
                answers[prompt] = await _ask(session, address, body(prompt))

        began = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(clients)))
        seconds = time.perf_counter() - began
    return Load(answers, seconds)


async def _ask(session: aiohttp.ClientSession, address: str, body: dict[str, Any]) -> Answer:
    began = time.perf_counter()
    first, pieces, usage = 0.0, [], {}
    async with session.post(address, json=body) as response:
        if response.status != 200:
            raise SystemExit(f"{address} answered {response.status}: {(await response.text())[:500]}")
        async for line in response.content:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            usage = event.get("usage") or usage
            for choice in event.get("choices", ()):
                piece = choice["text"] if "text" in choice else choice["delta"].get("content")
                if piece:
                    first = first or time.perf_counter() - began
                    pieces.append(piece)
    if not usage:
        raise SystemExit(f"{address} ended a stream without its usage.")
    return Answer("".join(pieces), first, usage["prompt_tokens"], usage["completion_tokens"])
