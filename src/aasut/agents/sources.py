"""All tools of an agent, from their sources, under one roof: what each is called, who runs it, and how it is marked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Protocol, TypeVar

from aasut import tools as functions
from aasut.agents.functions import Result, Toolbox
from aasut.errors import ToolError
from aasut.store import digest

T = TypeVar("T")


class Source(Protocol):
    """Where tools come from."""

    @property
    def definitions(self) -> list[dict[str, Any]]:
        """OpenAI's definitions of them."""

    @property
    def dangerous(self) -> frozenset[str]:
        """Names of those that a person has to approve."""

    async def call(self, name: str, arguments: str) -> Result:
        """Call a tool with arguments as JSON text. Whatever goes wrong comes as a failed result."""


class Local:
    """The tools of a Python file, each call in a thread: one that hangs is left behind, and holds up nobody."""

    def __init__(self, toolbox: Toolbox) -> None:
        self.toolbox = toolbox
        self.definitions, self.dangerous = toolbox.definitions, toolbox.dangerous
        self._busy = ""  # the tool that is still at it

    async def call(self, name: str, arguments: str) -> Result:
        if self._busy:
            return Result(
                f"The tool {self._busy!r} before it has not come to an end, so this was not called.", failed=True
            )
        self._busy = name
        return await in_thread(lambda: self._done(self.toolbox.call(name, arguments)))

    def _done(self, result: Result) -> Result:
        self._busy = ""
        return result


@dataclass(frozen=True)
class Tool:
    """One tool as the model sees it, and where a call of it goes."""

    definition: dict[str, Any]
    name: str  # as its source calls it
    source: Source
    dangerous: bool
    trusted: bool


class Tools:
    """The tools of all sources by the names that the model uses. They stay as they are for the whole run."""

    def __init__(self) -> None:
        self._tools: dict[str, Tool] = {}

    def add(
        self,
        source: Source,
        where: str,
        *,
        only: Sequence[str] = (),
        prefix: str = "",
        trusted: bool = False,
        dangerous: Sequence[str] = (),
    ) -> None:
        """Take a source's tools; `dangerous`: patterns of names, as the model uses them. Raises ToolError."""
        offered = {definition["function"]["name"]: definition for definition in source.definitions}
        missing = [name for name in only if name not in offered]
        if missing:
            raise ToolError(f"{where} has no tool {missing[0]!r}.", f"It has: {', '.join(offered)}.")
        for name in only or offered:
            shown = prefix + name
            if shown in self._tools:
                raise ToolError(f"{where} has a tool {shown!r}, as another source has.", "Give one of them a prefix.")
            definition = offered[name] | {"function": offered[name]["function"] | {"name": shown}}
            marked = name in source.dangerous or any(fnmatchcase(shown, pattern) for pattern in dangerous)
            self._tools[shown] = Tool(definition, name, source, marked, trusted)
        if reason := functions.fault(self.definitions):
            raise ToolError(f"{where} has tools that cannot be told to a model: {reason}.", "Leave them out with only.")

    @property
    def definitions(self) -> list[dict[str, Any]]:
        """The tools as requests define them."""
        return [tool.definition for tool in self._tools.values()]

    @property
    def dangerous(self) -> list[str]:
        """Names of those that a person has to approve."""
        return [name for name, tool in self._tools.items() if tool.dangerous]

    @property
    def names(self) -> list[str]:
        """All names, in order."""
        return list(self._tools)

    def get(self, name: str) -> Tool | None:
        """A tool by the name that the model uses."""
        return self._tools.get(name)

    def unmatched(self, patterns: Sequence[str]) -> list[str]:
        """Those of some patterns of names that no tool has."""
        return [each for each in patterns if not any(fnmatchcase(name, each) for name in self._tools)]


def pin(definitions: Sequence[dict[str, Any]]) -> str:
    """A short hash of definitions, in any order."""
    return digest(sorted(digest(definition) for definition in definitions))[:16]


async def in_thread(work: Callable[[], T]) -> T:
    """Done in a thread of its own, which does not hold up the end of the program."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(given: Callable[[], None]) -> None:
        if not done.done():
            given()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            given = partial(done.set_exception, error)
        else:
            given = partial(done.set_result, result)
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, given)

    threading.Thread(target=run, daemon=True).start()
    return await done
