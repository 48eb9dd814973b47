"""A person, or a pipe, gives an agent its tasks."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from aasut.agents import untrusted
from aasut.agents.approval import Ask
from aasut.agents.loop import ANSWERED, Outcome, Session
from aasut.agents.sources import Tools, in_thread, pin
from aasut.agents.start import Ready, gather, opened
from aasut.agents.streams import own_streams
from aasut.errors import AasutError
from aasut.recipe.agent import AgentRecipe

DONE, UNDONE, INTERRUPTED = 0, 1, 130


def talk(recipe: AgentRecipe, base: Path, root: Path, task: str, *, as_json: bool) -> int:
    """Do `task`; without one, those that are typed, or piped one a line. Gives the exit code.

    1 where a task has no answer, 130 where it was interrupted; the trace has what was done.
    """

    async def main(stdin: TextIO, stdout: TextIO) -> int:
        _cancel_on_signals()
        async with opened(recipe, base, root) as ready:
            desk = _Desk(ready, stdin, stdout, as_json)
            if task:
                return await desk.do(ready.session(desk.ask, desk.say), task)
            return await (desk.converse() if stdin.isatty() else desk.pipe())

    with own_streams() as (stdin, stdout):
        try:
            return asyncio.run(main(stdin, stdout))
        except asyncio.CancelledError:
            return INTERRUPTED


def tools(recipe: AgentRecipe, base: Path, *, as_json: bool) -> str:
    """The agent's tools in words, and the hash to pin each server by; or their definitions, as a recipe has them."""

    async def found() -> tuple[Tools, dict[str, str]]:
        async with AsyncExitStack() as stack:
            gathered = await gather(recipe, base, stack)
            return gathered.tools, {server.where: pin(server.definitions) for server in gathered.servers}

    with own_streams():
        every, pins = asyncio.run(found())
    if as_json:
        return json.dumps({"tools": every.definitions, "dangerous": every.dangerous, "pins": pins}, ensure_ascii=False)
    lines = []
    for definition in every.definitions:
        function = definition["function"]
        mark = " (dangerous)" if function["name"] in every.dangerous else ""
        given = ", ".join(function.get("parameters", {}).get("properties", {}))
        lines.append(f"{function['name']}({given}){mark}: {untrusted.line(function.get('description') or '', 100)}")
    return "\n".join([*lines, *(f"pinned: {hashed}  # {where}" for where, hashed in pins.items())])


class _Desk:
    """Where tasks come in, and answers go out. Questions and progress go to standard error."""

    def __init__(self, ready: Ready, stdin: TextIO, stdout: TextIO, as_json: bool) -> None:
        self.ready, self.stdin, self.stdout, self.as_json = ready, stdin, stdout, as_json
        self.ask: Ask | None = self._approve if stdin.isatty() else None

    def say(self, line: str) -> None:
        """One call and its result."""
        print(f"  {line}", file=sys.stderr, flush=True)

    async def _approve(self, tool: str, arguments: str, why: str) -> bool:
        shown = untrusted.clean(f"{tool}({arguments})").replace("\n", "\\n")
        print(f"  {shown}\n  Make this call ({why})? [y/N] ", end="", file=sys.stderr, flush=True)
        return (await self._line()).strip().casefold() in ("y", "yes")

    async def _line(self) -> str:
        return await in_thread(self.stdin.readline)

    async def do(self, session: Session, task: str) -> int:
        """One task, and its exit code."""
        try:
            outcome = await session.run(*self.ready.task(task))
        except AasutError as error:
            if not self.as_json:
                raise
            self._print(json.dumps({"error": str(error)}, ensure_ascii=False))
            return UNDONE
        self._show(outcome, session.trace.id)
        return DONE if outcome.reason == ANSWERED else UNDONE

    async def converse(self) -> int:
        """Tasks of one person in one conversation, until an empty line. A student knows of no task before."""
        code, session = DONE, None
        while True:
            print("> ", end="", file=sys.stderr, flush=True)
            task = (await self._line()).strip()
            if not task:
                return code
            if session is None or self.ready.served is not None:
                session = self.ready.session(self.ask, self.say)
            code = await self.do(session, task)

    async def pipe(self) -> int:
        """A task a line, each a conversation of its own."""
        code = DONE
        while line := await self._line():
            if line.strip():
                code = max(code, await self.do(self.ready.session(None, self.say), line.strip()))
        return code

    def _show(self, outcome: Outcome, trace: str) -> None:
        states = self.ready.states()
        if self.as_json:
            self._print(json.dumps(_plain(outcome, trace, states), ensure_ascii=False))
            return
        self._print(outcome.answer if outcome.reason == ANSWERED else f"No answer ({outcome.reason}): {outcome.text}")
        for state in states:
            self._print(state)

    def _print(self, text: str) -> None:
        self.stdout.write(text + "\n")
        self.stdout.flush()


def _plain(outcome: Outcome, trace: str, states: list[str]) -> dict[str, Any]:
    calls = [
        {
            "tool": one.tool, "arguments": _arguments(one.arguments), "output": one.result.text,
            "failed": one.result.failed, "made": one.made, "approval": one.approval,
        }
        for one in outcome.calls
    ]  # fmt: skip
    return asdict(outcome) | {"calls": calls, "trace": trace} | ({"state": states} if states else {})


def _arguments(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _cancel_on_signals() -> None:
    """A wish to stop cancels the task, so that servers are ended and the trace says it."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError, ValueError, RuntimeError):  # not the main thread, or no such signals
            loop.add_signal_handler(number, task.cancel)
