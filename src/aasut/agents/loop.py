"""The loop of an agent: the model is asked, its calls are made, and their results go back, until it answers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aasut.agents import untrusted
from aasut.agents.approval import Approval
from aasut.agents.functions import Result
from aasut.agents.limits import Meter, Stop
from aasut.agents.sources import Tools
from aasut.agents.trace import Trace
from aasut.agents.wire import Message, Model
from aasut.errors import TeacherError
from aasut.recipe.agent import AgentRecipe

ANSWERED, INTERRUPTED, MODEL = "answered", "interrupted", "model"  # reasons of an end; the others are limits'
KEPT = 1 << 20  # characters of an output that the trace keeps


@dataclass(frozen=True)
class Called:
    """One call that was made, or denied, and what came of it."""

    tool: str
    arguments: str
    result: Result
    approval: str
    seconds: float = 0.0
    made: bool = True


@dataclass(frozen=True)
class Outcome:
    """How a task ended: `reason` is "answered", or what ended it, of which `text` says more."""

    reason: str
    answer: str
    text: str
    calls: list[Called] = field(repr=False)
    steps: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0
    seconds: float = 0.0


class Session:
    """One conversation: `messages` is all that was said, in OpenAI's form. Tasks come one after the other.

    definitions: of the tools, as the model is told them; `say` is told each call and its result in one line.
    """

    def __init__(
        self,
        recipe: AgentRecipe,
        model: Model,
        tools: Tools,
        definitions: list[dict[str, Any]],
        meter: Meter,
        approval: Approval,
        trace: Trace,
        say: Callable[[str], None],
    ) -> None:
        self.recipe, self.model, self.tools, self.definitions, self.meter = recipe, model, tools, definitions, meter
        self.approval, self.trace, self._say = approval, trace, say
        self.messages: list[Message] = []
        self._kept: dict[int, Any] = {}
        self._calls: list[Called] = []

    def hear(self, *messages: Message) -> None:
        """Take messages, such as the system's. Results of tools among them are not trusted."""
        for message in messages:
            if message["role"] == "tool":
                self.approval.read()
            self._add(message)

    async def run(self, *task: Message) -> Outcome:
        """Do a task: messages, of which the last is the user's. However it ends, the trace has it."""
        self.meter.begin()
        before = self.meter.input_tokens, self.meter.output_tokens, self.meter.usd
        self._calls = []
        self.hear(*task)
        reason, answer, text = ANSWERED, "", ""
        try:
            answer = await self._steps()
        except Stop as stop:
            reason, text = stop.reason, stop.text
        except TeacherError as error:
            reason, text = MODEL, str(error)
        except (asyncio.CancelledError, KeyboardInterrupt):
            self._ended(INTERRUPTED, "", "It was interrupted.", before)
            raise
        return self._ended(reason, answer, text, before)

    def _ended(self, reason: str, answer: str, text: str, before: tuple[int, int, float]) -> Outcome:
        meter = self.meter
        used = meter.input_tokens - before[0], meter.output_tokens - before[1], meter.usd - before[2]
        self.trace.end(reason, answer=answer, text=text, steps=meter.steps, calls=meter.calls, input_tokens=used[0],
                       output_tokens=used[1], usd=used[2], seconds=meter.seconds)  # fmt: skip
        return Outcome(reason, answer, text, list(self._calls), meter.steps, *used, meter.seconds)

    async def _steps(self) -> str:
        """The answer. Raises Stop, or TeacherError."""
        while True:
            message, finish = await self._ask()
            calls = message.get("tool_calls") or []
            if finish == "length":
                self._leave(calls, "The answer was cut, so this was not called.")
                raise Stop("answer_tokens", "An answer was cut: it had more tokens than it may have.")
            if not calls:
                if not (message["content"] or "").strip():
                    raise Stop("empty", "The model said nothing.")
                return str(message["content"])
            made = await self._make(calls)
            if self.recipe.answer == "tools":
                return "\n".join(call.result.text for call in made)

    async def _ask(self) -> tuple[Message, str]:
        """The model's next message, and how it ended."""
        worst = self.meter.before_step(self.messages, self.definitions)
        started = time.monotonic()
        try:
            async with asyncio.timeout(self.meter.seconds_left) as timeout:
                said = await self.model.ask(self.messages, self.definitions, self._kept)
        except TimeoutError:
            self.meter.in_time()
            if timeout.expired():
                raise Stop("seconds", f"There was no answer after {self.recipe.limits.seconds:g} s.") from None
            raise
        seconds = time.monotonic() - started
        self._kept[len(self.messages)] = said.kept
        used = self.meter.after_step(said.input_tokens, said.output_tokens, len(self.messages) + 1, worst)
        self._add(said.message)
        self.trace.add("request", input_tokens=used[0], output_tokens=used[1], usd=used[2], seconds=seconds,
                       finish=said.finish)  # fmt: skip
        return said.message, said.finish

    async def _make(self, calls: Sequence[dict[str, Any]]) -> list[Called]:
        """Make a message's calls, one after the other. Raises Stop, with every call answered."""
        made = []
        for number, call in enumerate(calls):
            try:
                self.meter.before_call()
                made.append(await self._call(call))
            except Stop as stop:
                self._leave(calls[number:], f"This was not called. {stop.text}")
                raise
        return made

    async def _call(self, call: dict[str, Any]) -> Called:
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        tool = self.tools.get(name)
        shown = f"{untrusted.line(name, 64)}({untrusted.line(arguments)})"
        if tool is None:
            told = f"There is no tool {name!r}. There are: {', '.join(self.tools.names)}."
            return self._came(call, shown, Called(name, arguments, Result(told, True), "no such tool", made=False))
        asked = time.monotonic()
        decision = await self.approval.decide(name, arguments, dangerous=tool.dangerous)
        self.meter.waited += time.monotonic() - asked
        if not decision.made:
            return self._came(
                call, shown, Called(name, arguments, Result(decision.told, True), decision.how, made=False)
            )
        self.trace.add("calling", id=call["id"], tool=name, arguments=arguments, approval=decision.how)
        started = time.monotonic()
        try:
            limits = [each for each in (self.recipe.limits.tool_seconds, self.meter.seconds_left) if each is not None]
            async with asyncio.timeout(min(limits)):
                result = await tool.source.call(tool.name, arguments)
        except TimeoutError:
            result = Result(f"The tool gave no answer within {min(limits):g} s.", failed=True)
        if not tool.trusted:
            self.approval.read()
        return self._came(call, shown, Called(name, arguments, result, decision.how, time.monotonic() - started))

    def _came(self, call: dict[str, Any], shown: str, called: Called) -> Called:
        """Keep what came of a call, and tell the model."""
        result = called.result
        self._calls.append(called)
        self.trace.add(
            "call", id=call["id"], tool=called.tool, arguments=called.arguments, approval=called.approval,
            made=called.made, failed=result.failed, seconds=called.seconds, output=result.text[:KEPT],
        )  # fmt: skip
        if called.made:
            content = untrusted.envelope(result.text, self.recipe.limits.output, failed=result.failed)
        else:
            content = untrusted.notice(result.text)
        self._answer(call, content)
        self._say(f"{shown} → {untrusted.line(result.text)}")
        return called

    def _leave(self, calls: Sequence[dict[str, Any]], told: str) -> None:
        """Answer calls that are not made, so that the conversation can go on."""
        for call in calls:
            self._answer(call, untrusted.notice(told))

    def _answer(self, call: dict[str, Any], content: str) -> None:
        self._add({"role": "tool", "tool_call_id": call["id"], "name": call["function"]["name"], "content": content})

    def _add(self, message: Message) -> None:
        self.messages.append(message)
        self.trace.add("message", **json.loads(json.dumps(message)))
