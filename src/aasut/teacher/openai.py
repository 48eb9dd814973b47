"""A teacher behind an OpenAI-compatible chat-completions API."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from aasut import tools
from aasut.errors import TeacherError
from aasut.recipe import Endpoint
from aasut.recipe import Teacher as TeacherSettings
from aasut.teacher.answer import parse
from aasut.teacher.base import Keep
from aasut.teacher.budget import Budget
from aasut.teacher.flow import Flow
from aasut.teacher.pace import Outcome, Pace
from aasut.teacher.wire import Broken, Reply, Wire
from aasut.types import Completion, Request, Usage

RETRIED = (408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529)
OVERLOADED = (408, 429, 503, 504, 524, 529)
ALIVE = 10  # answers to others, in the time of one call, that show that the fault is the call's own
AHEAD = 16  # requests handed over for each call that may be in flight; some of them wait for another attempt
RESULT = "Done."  # of a call in a worked example
MESSAGE_TOKENS = 16  # that an API adds to a message at most
UNCOUNTED = "answers without token counts, taken at their worst case"
UNTOLD = "answers without usable log-probabilities, of which the text alone can be learned"
AGAIN = "Check address, key and quota; the answers so far are kept, so run the same command again."
T = TypeVar("T")


class OpenAiTeacher:
    """See `teacher.base.Remote`. Refused or broken calls are tried again, after pauses drawn from `Pace`.

    Raises TeacherError where the API cannot be reached, refuses the key, or the cap is reached; calls
    that are in flight then are waited for and kept.
    """

    def __init__(self, endpoint: Endpoint, max_usd: float | None = None, *, pause_s: float = 1.0) -> None:
        self.endpoint = endpoint
        listed = endpoint.logprobs if endpoint.top_logprobs == 20 else endpoint.logprobs and endpoint.top_logprobs
        self.identity = f"{endpoint.base_url.rstrip('/')}:{endpoint.model}:{endpoint.revision}:{listed}"
        self.concurrency = endpoint.concurrency
        self.budget = Budget(max_usd, endpoint.usd_per_million_input_tokens, endpoint.usd_per_million_output_tokens)
        self.pace = Pace(endpoint.concurrency, pause_s=pause_s, patience_s=endpoint.patience_s)
        self.notes: Counter[str] = Counter()
        self._wire = Wire(endpoint)
        self._flow: Flow | None = None
        self._lost = self._widest = 0.0
        self._unseen = 0  # tokens that the endpoint counted beyond a prompt's bytes
        self._resting: set[asyncio.Task[Any]] = set()  # calls that wait for their turn

    def price(self, usage: Usage) -> float:
        """Dollars of a finished call."""
        return self.budget.price(usage.prompt_tokens, usage.completion_tokens)

    def charge(self, usd: float) -> None:
        """Dollars paid by earlier runs, which count towards the cap."""
        self.budget.spent += usd

    def at_risk(self, paid: float, request: Request | None = None) -> float:
        """See `teacher.base.Remote`. Answers that wait to be entered are taken to be as many as calls in flight."""
        if request is not None:
            self._widest = max(self._widest, self._worst(request))
        most = 2 * self.concurrency * self._widest
        return most if self.budget.max_usd is None else max(min(most, self.budget.max_usd - paid), 0.0)

    def take_lost(self) -> float:
        """See `teacher.base.Remote`."""
        lost, self._lost = self._lost, 0.0
        return lost

    def complete(self, requests: Iterable[Request], keep: Keep | None = None) -> list[Completion]:
        """See `teacher.base.Remote`."""
        if self._flow is None:
            self._flow = Flow(self._answer, self._rest, AHEAD * self.concurrency)
        flow = self._flow
        self.pace.begin()

        def enter(answered: Sequence[tuple[Request, Completion]]) -> None:
            try:
                if keep is not None:
                    keep(answered)
            finally:
                flow.call(self.pace.entered, len(answered))

        return flow.run(requests, enter)

    def close(self) -> None:
        if self._flow is not None:
            self._flow.close(self._wire.close())
            self._flow = None

    def body(self, request: Request) -> dict[str, Any]:
        """The HTTP request's JSON."""
        body: dict[str, Any] = {
            "model": self.endpoint.model,
            "messages": _messages(request),
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
        }
        if self.endpoint.logprobs:
            body |= {"logprobs": True, "top_logprobs": self.endpoint.top_logprobs}
        if request.schema and self.endpoint.send_schema:
            shape = {"name": "answer", "schema": json.loads(request.schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": shape}
        if request.tools:
            body["tools"] = json.loads(request.tools)
        return body

    async def _answer(self, request: Request) -> Completion:
        """Ask until there is an answer, or no sense in asking on. Raises TeacherError for a run fault."""
        before, reason = 0, ""
        for attempt in range(self.endpoint.retries + 1):
            if attempt:
                await self._rested(asyncio.sleep(self.pace.pause(attempt)))
            started = await self._rested(self.pace.enter(again=attempt > 0))
            before = before if attempt else self.pace.answers  # while it waited for its turn, others say nothing of it
            outcome: Outcome = "broken"
            wait_s = None
            try:
                found = await self._paid(request)
                if isinstance(found, Completion) or found.status not in RETRIED or found.penniless:
                    outcome = "answered"
                    answer = found if isinstance(found, Completion) else self._refused(found)
                    self.pace.hold()
                    return answer
                outcome = "overloaded" if found.status in OVERLOADED else "broken"
                reason, wait_s = f"status {found.status}: {found.message}", found.wait_s
            except Broken as error:
                outcome, reason = "overloaded" if error.slow else "broken", error.reason
                if error.final:
                    raise self._fault(reason) from None
            finally:
                self.pace.leave(started, outcome, wait_s)
            hopeless = self.pace.gives_up(wait_s)
            if hopeless:
                raise self._fault(f"{reason}; {hopeless}")
        if self.pace.answers - before < ALIVE:
            raise self._fault(reason)
        self.pace.hold()
        return Completion("", failure=f"no answer in {self.endpoint.retries + 1} attempts")

    async def _paid(self, request: Request) -> Completion | Reply:
        """One call, with the money for it set aside; the reply where it was refused. Raises Broken."""
        worst = self._worst(request)
        await self._rested(self.budget.reserve(worst))
        usd = lost = worst  # unless it is known to have cost less
        try:
            reply = await self._wire.post(self.body(request))
            found = self._read(reply.raw, request) if reply.status == 200 else reply
            usd = self.price(found.usage) if isinstance(found, Completion) else 0.0
            lost = 0.0
            return found
        except Broken as error:
            usd = lost = worst if error.sent else 0.0
            raise
        finally:
            self._lost += lost
            self.budget.settle(worst, usd)

    def _read(self, raw: bytes, request: Request) -> Completion:
        """The completion; one that does not count its tokens is taken to have used as many as it could."""
        completion, counted = parse(raw, request)
        most = self._most(request)
        if counted:
            self._unseen += max(completion.usage.prompt_tokens - most.prompt_tokens, 0)
        else:
            completion = replace(completion, usage=most)
            self.notes[UNCOUNTED] += 1
        text, told = self._wire.hide(completion.text), completion.token_logprobs
        if told is not None and (text != completion.text or self._wire.has_key(told)):
            told = None
        if self.endpoint.logprobs and not request.choices and not completion.failure and told is None:
            self.notes[UNTOLD] += 1
        return replace(completion, text=text, token_logprobs=told)

    def _worst(self, request: Request) -> float:
        return self.price(self._most(request))

    def _most(self, request: Request) -> Usage:
        """Tokens of one attempt at most: a token is a byte at least."""
        size = sum(len(m.content.encode("utf-8", "replace")) + MESSAGE_TOKENS for m in request.messages)
        return Usage(size + len(request.tools.encode()) + self._unseen, request.max_tokens)

    def _refused(self, reply: Reply) -> Completion:
        """A failed row for a request that the endpoint does not take. Raises TeacherError where it takes none."""
        said = f"status {reply.status}: {reply.message}"
        if 300 <= reply.status < 400:
            host = urlsplit(reply.location).netloc or "nowhere"
            raise self._fault(
                f"status {reply.status}, it sends calls on to {host}",
                "Put the address that really answers into teacher.endpoint.base_url; keys are not sent on.",
            )
        if reply.status == 400 and self.endpoint.logprobs and "logprobs" in reply.message:
            raise self._fault(
                said,
                "Lower teacher.endpoint.top_logprobs; or set teacher.endpoint.logprobs: false and "
                "teacher.calibration: none, if it gives no log-probabilities.",
            )
        if reply.status == 400 and "response_format" in reply.message:
            raise self._fault(said, "Set teacher.endpoint.send_schema: false, if it takes no JSON Schema.")
        if reply.status in (401, 402, 403, 429):
            raise self._fault(said)
        if reply.status in (404, 405, 410):
            raise self._fault(said, "Check teacher.endpoint.base_url, which mostly ends in /v1, and the model's name.")
        return Completion("", failure=self._wire.hide(f"refused with {said}")[:100])

    def _fault(self, reason: str, remedy: str = AGAIN) -> TeacherError:
        return TeacherError(f"{self._wire.url} does not answer: {self._wire.hide(reason).rstrip('.')}.", remedy)

    async def _rested(self, waiting: Awaitable[T]) -> T:
        """Wait for something before a call; `_rest` ends such waits."""
        task = asyncio.current_task()
        assert task is not None
        self._resting.add(task)
        try:
            return await waiting
        finally:
            self._resting.discard(task)

    def _rest(self) -> None:
        for task in self._resting:
            task.cancel()


def _messages(request: Request) -> list[dict[str, Any]]:
    """The conversation; in worked examples calls are made as the API makes them, and each has a result, as it must."""
    found: list[dict[str, Any]] = []
    for number, message in enumerate(request.messages):
        calls = tools.native(message.content) if request.tools and message.role == "assistant" else []
        if not calls:
            found.append({"role": message.role, "content": message.content})
            continue
        calls = [call | {"id": f"{call['id']}_{number}"} for call in calls]
        found.append({"role": message.role, "content": None, "tool_calls": calls})
        found += [{"role": "tool", "tool_call_id": call["id"], "content": RESULT} for call in calls]
    return found


def create(settings: TeacherSettings, _path: Path | None, _revision: str) -> OpenAiTeacher:
    """From a recipe's section. Raises TeacherError where it declares no endpoint or there is no key."""
    if settings.endpoint is None:
        raise TeacherError("The recipe declares no endpoint.", "Fill in teacher.endpoint.")
    return OpenAiTeacher(settings.endpoint, settings.max_usd)
