"""A person, or a pipe, talks to an agent."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from aasut.agents import untrusted
from aasut.agents.approval import Ask
from aasut.agents.loop import ANSWERED, Outcome, Session
from aasut.agents.sources import in_thread
from aasut.agents.start import Ready, opened
from aasut.errors import AasutError
from aasut.recipe.agent import AgentRecipe

DONE, UNDONE, INTERRUPTED = 0, 1, 130


def talk(recipe: AgentRecipe, base: Path, root: Path, task: str, *, as_json: bool) -> int:
    """Do `task`; without one, those that are typed, or piped one a line. Gives the exit code.

    1 where a task has no answer, 130 where it was interrupted; the trace has what was done.
    """
    with own_streams() as (stdin, stdout):
        try:
            return asyncio.run(_talk(recipe, base, root, task, stdin, stdout, as_json))
        except asyncio.CancelledError:
            return INTERRUPTED


def show_tools(recipe: AgentRecipe, base: Path, root: Path, *, as_json: bool) -> None:
    """Print the agent's tools, and the hash of each server's."""


async def _talk(
    recipe: AgentRecipe, base: Path, root: Path, task: str, stdin: TextIO, stdout: TextIO, as_json: bool
) -> int:
    _cancel_on_signals()
    async with opened(recipe, base, root) as ready:
        desk = _Desk(ready, stdin, stdout, as_json)
        if task:
            return await desk.do(ready.session(desk.ask, desk.say), task)
        if stdin.isatty():
            return await desk.converse()
        return await desk.pipe()


class _Desk:
    """Where tasks come in, and answers go out."""

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
        """One task. Its code."""
        try:
            outcome = await session.run(*self.ready.task(task))
        except AasutError as error:
            if self.as_json:
                self._print(json.dumps({"error": str(error)}, ensure_ascii=False))
            raise
        self._show(outcome, session.trace.id)
        return DONE if outcome.reason == ANSWERED else UNDONE

    async def converse(self) -> int:
        """Tasks of one person, until an empty line."""
        code = DONE
        session = self.ready.session(self.ask, self.say)
        while True:
            print("> ", end="", file=sys.stderr, flush=True)
            task = (await self._line()).strip()
            if not task:
                return code
            if self.ready.served is not None and len(session.messages):
                session = self.ready.session(self.ask, self.say)  # a student knows of no task before
            code = await self.do(session, task)

    async def pipe(self) -> int:
        """A task a line, each a conversation of its own."""
        code = DONE
        while line := await self._line():
            if line.strip():
                code = max(code, await self.do(self.ready.session(None, self.say), line.strip()))
        return code

    def _show(self, outcome: Outcome, trace: str) -> None:
        if self.as_json:
            self._print(json.dumps(_plain(outcome, trace, self.ready.states()), ensure_ascii=False))
            return
        self._print(outcome.answer if outcome.reason == ANSWERED else f"No answer ({outcome.reason}): {outcome.text}")
        for state in self.ready.states():
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
        with suppress(NotImplementedError, ValueError, RuntimeError):
            loop.add_signal_handler(number, task.cancel)


@contextmanager
def own_streams() -> Iterator[tuple[TextIO, TextIO]]:
    """(input, output) for us alone: what tools print goes to standard error, and they have nothing to read."""
    sys.stdout.flush()
    before = sys.stdin, sys.stdout
    try:
        kept = os.dup(0), os.dup(1)
    except OSError:
        yield before
        return
    with (
        os.fdopen(kept[0], encoding="utf-8", errors="surrogateescape", closefd=False) as stdin,
        os.fdopen(kept[1], "w", encoding="utf-8", errors="backslashreplace", closefd=False) as stdout,
    ):
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        try:
            yield stdin, stdout
        finally:
            stdout.flush()
            sys.stdout = before[1]
            os.dup2(kept[0], 0)
            os.dup2(kept[1], 1)
            for number in kept:
                os.close(number)
