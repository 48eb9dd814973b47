"""A teacher behind an OpenAI-compatible chat-completions API."""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp

from aasut.errors import TeacherError
from aasut.recipe import Endpoint
from aasut.recipe import Teacher as TeacherSettings
from aasut.teacher.base import Keep
from aasut.teacher.budget import Budget
from aasut.types import Completion, Request, Usage

RETRIED = (408, 409, 425, 429, 500, 502, 503, 504)


class OpenAiTeacher:
    """See `teacher.base.Teacher`. Refused or broken calls are tried again, with pauses that double from `pause_s`.

    Raises TeacherError where the API cannot be reached, refuses the key, or the cap is reached; calls
    that are in flight then are waited for and kept.
    """

    def __init__(self, endpoint: Endpoint, max_usd: float | None = None, *, pause_s: float = 2.0) -> None:
        self.endpoint = endpoint
        self.pause_s = pause_s
        self.identity = f"{endpoint.base_url.rstrip('/')}:{endpoint.model}:{endpoint.revision}:{endpoint.logprobs}"
        self.budget = Budget(max_usd, endpoint.usd_per_million_input_tokens, endpoint.usd_per_million_output_tokens)
        self._headers = {"Content-Type": "application/json"}
        if endpoint.api_key_env:
            key = os.environ.get(endpoint.api_key_env, "")
            if not key:
                raise TeacherError(
                    f"The environment variable {endpoint.api_key_env} holds no key for {endpoint.base_url}.",
                    "Set it, or set teacher.endpoint.api_key_env to '' for an API without keys.",
                )
            self._headers["Authorization"] = f"Bearer {key}"

    def price(self, usage: Usage) -> float:
        """Dollars of a finished call."""
        return self.budget.price(usage.prompt_tokens, usage.completion_tokens)

    def charge(self, usd: float) -> None:
        """Dollars paid by earlier runs, which count towards the cap."""
        self.budget.spent += usd

    def complete(self, requests: Sequence[Request], keep: Keep | None = None) -> list[Completion]:
        return asyncio.run(self._complete(requests, keep))

    async def _complete(self, requests: Sequence[Request], keep: Keep | None) -> list[Completion]:
        gate = asyncio.Semaphore(self.endpoint.concurrency)
        timeout = aiohttp.ClientTimeout(total=self.endpoint.timeout_s)
        async with aiohttp.ClientSession(timeout=timeout, headers=self._headers) as session:
            faults: list[Exception] = []

            async def one(request: Request) -> Completion | None:
                async with gate:
                    if faults:
                        return None  # nothing new is begun after a fault
                    try:
                        answer = await self._call(session, request)
                        if keep is not None:
                            keep([(request, answer)])
                        return answer
                    except Exception as error:
                        faults.append(error)
                        return None

            answers = await asyncio.gather(*(one(request) for request in requests))
            if faults:
                raise faults[0]
            return [answer for answer in answers if answer is not None]

    def body(self, request: Request) -> dict[str, Any]:
        """The HTTP request's JSON."""
        body: dict[str, Any] = {
            "model": self.endpoint.model,
            "messages": [{"role": m.role, "content": m.content} for m in request.messages],
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
        }
        if self.endpoint.logprobs:
            body |= {"logprobs": True, "top_logprobs": 20}
        return body

    async def _call(self, session: aiohttp.ClientSession, request: Request) -> Completion:
        body = self.body(request)
        url = self.endpoint.base_url.rstrip("/") + "/chat/completions"
        text = "".join(m.content for m in request.messages)
        worst = self.budget.price(len(text.encode()) + 16 * len(request.messages), request.max_tokens)
        reason = ""
        for attempt in range(self.endpoint.retries + 1):
            if attempt:
                await asyncio.sleep(min(self.pause_s * 2 ** (attempt - 1), 30.0) * random.uniform(0.5, 1.0))
            with self.budget.reserve(worst) as reservation:
                try:
                    async with session.post(url, json=body) as response:
                        raw = await response.read()
                        if response.status == 200:
                            completion = parse(raw, request)
                            # What a garbage answer cost is not known.
                            reservation.settle(worst if completion.failure else self.price(completion.usage))
                            return completion
                        reason = f"status {response.status}: {_message(raw)}"
                        if response.status not in RETRIED:
                            break
                except (aiohttp.ClientError, TimeoutError) as error:
                    reason = f"{type(error).__name__}: {error}"
                    if not isinstance(error, aiohttp.ClientConnectorError):
                        reservation.settle(worst)  # it may have been answered, and charged, after all
        if reason.startswith(("status 400", "status 413", "status 422")):
            return Completion("", failure=f"refused with {reason[:80]}")
        raise TeacherError(
            f"{url} does not answer: {reason}.",
            "Check address, key and quota; the answers so far are kept, so run the same command again.",
        )

    def close(self) -> None:
        """Connections live for one call of `complete`."""


def _message(raw: bytes) -> str:
    try:
        return str(json.loads(raw)["error"]["message"])[:200]
    except (ValueError, KeyError, TypeError):
        return raw[:200].decode("utf-8", "replace")


def parse(raw: bytes, request: Request) -> Completion:
    """A chat completion's JSON as a Completion; garbage becomes a failed row."""
    try:
        plain = json.loads(raw)
        choice = plain["choices"][0]
        text = choice["message"]["content"] or ""
        if not isinstance(text, str):
            raise TypeError("content is no text")
        usage = plain.get("usage") or {}
        counted = Usage(int(usage.get("prompt_tokens", 0)), int(usage.get("completion_tokens", 0)))
        finish = str(choice.get("finish_reason") or "stop")
        tokens = (choice.get("logprobs") or {}).get("content") or []
        logprobs = choice_logprobs(tokens, request.choices)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        return Completion("", failure="the answer is no chat completion")
    return Completion(text, counted, logprobs, finish)


def choice_logprobs(tokens: Sequence[Any], choices: Sequence[str]) -> tuple[float, ...] | None:
    """Log-probabilities of the choices from the first token that tells them apart, normalised over them.

    None where the alternatives listed there do not name one choice each: then the text alone counts.
    """
    if not choices or not tokens:
        return None
    mass = [0.0] * len(choices)
    for entry in tokens[0].get("top_logprobs") or []:
        word = str(entry["token"]).strip().casefold()
        fits = [i for i, choice in enumerate(choices) if word and choice.casefold().startswith(word)]
        if len(fits) > 1:
            return None
        if fits:
            mass[fits[0]] += math.exp(float(entry["logprob"]))
    total = sum(mass)
    if not 0.5 <= total < math.inf:
        return None
    floor = 1e-6
    return tuple(math.log((m + floor) / (total + floor * len(mass))) for m in mass)


def create(settings: TeacherSettings, _path: Path | None, _revision: str) -> OpenAiTeacher:
    """From a recipe's section. Raises TeacherError where it declares no endpoint or there is no key."""
    if settings.endpoint is None:
        raise TeacherError("The recipe declares no endpoint.", "Fill in teacher.endpoint.")
    return OpenAiTeacher(settings.endpoint, settings.max_usd)
