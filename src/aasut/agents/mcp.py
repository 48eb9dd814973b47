"""Tools of a server of the Model Context Protocol: a program that is started, or an address, over pydantic-ai's client.

A server is not trusted. Its definitions are taken once, cleaned, and stay; a call of a tool whose definition is another
by then is refused. Its own instructions are not read. What it writes to standard error is shown where it cannot start.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from aasut.agents import lazily, untrusted
from aasut.agents.functions import Result
from aasut.agents.sources import pin
from aasut.errors import ToolError
from aasut.recipe.agent import McpServer

LONGEST_DESCRIPTION = 2_000  # characters of a tool's description that a model reads
LARGEST = 32_000  # characters of a tool's whole definition


class Server:
    """A server that answers. `definitions` are those of its start."""

    def __init__(self, toolset: Any, where: str, found: list[Any]) -> None:
        self._toolset, self.where = toolset, where
        self._tools = {tool.name: _definition(tool) for tool in found}
        self.dangerous = frozenset(tool.name for tool in found if _is_destructive(tool))

    @property
    def definitions(self) -> list[dict[str, Any]]:
        return list(self._tools.values())

    def check(self, only: list[str]) -> None:
        """Raises ToolError where a tool to be taken has a definition that no model should be told."""
        for name, definition in self._tools.items():
            size = len(json.dumps(definition))
            if size > LARGEST and name in (only or self._tools):
                raise ToolError(
                    f"{self.where}: the definition of {untrusted.line(name, 64)!r} has {size} characters.",
                    "Leave the tool out: name the others with only.",
                )

    async def call(self, name: str, arguments: str) -> Result:
        """Call a tool. Whatever goes wrong comes as a failed result."""
        try:
            given = json.loads(arguments) if arguments.strip() else {}
        except (ValueError, RecursionError) as error:
            return Result(f"The arguments are no JSON: {error}.", failed=True)
        if not isinstance(given, dict):
            return Result("The arguments are no JSON object.", failed=True)
        try:
            now = {tool.name: _definition(tool) for tool in await self._toolset.list_tools()}
            if now.get(name) != self._tools[name]:
                return Result("The server has changed this tool since the start, so it was not called.", failed=True)
            return Result(_text(await self._toolset.direct_call_tool(name, given)))
        except Exception as error:  # the client's errors are of four libraries
            return Result(f"The tool failed: {_told(error)}.", failed=True)


@asynccontextmanager
async def connected(server: McpServer, base: Path, only: list[str]) -> AsyncIterator[Server]:
    """A server that was started in the folder `base`, or reached. Raises ToolError where it cannot be."""
    where = " ".join(server.command) if server.command else str(server.url)
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        toolset = _toolset(server, base, log)
        stack = AsyncExitStack()
        try:
            try:
                async with asyncio.timeout(server.start_seconds):
                    await stack.enter_async_context(toolset)
                    found = Server(toolset, where, await toolset.list_tools())
            except Exception as error:
                raise ToolError(f"The server {where} does not start: {_told(error)}.{_last(log)}", _REMEDY) from None
            found.check(only)
            if server.pinned and pin(found.definitions) != server.pinned:
                raise ToolError(
                    f"The tools of {where} are not the pinned ones: their hash is {pin(found.definitions)}.",
                    "Look at them with aasut agent FILE --tools, and pin them if you trust them.",
                )
            yield found
        finally:
            with suppress(Exception):  # one that is gone cannot be taken leave of
                await stack.aclose()


_REMEDY = "Check the command or the address, and that it speaks the Model Context Protocol."


def _toolset(server: McpServer, base: Path, log: Any) -> Any:
    """pydantic-ai's client of the server."""
    transports = lazily.load("fastmcp.client.transports")
    settings: dict[str, Any] = {}
    if server.command:
        missing = [name for name in server.env if name not in os.environ]
        if missing:
            raise ToolError(f"The environment variable {missing[0]} is not set.", "A server is to be given it: set it.")
        given = {name: os.environ[name] for name in server.env}
        program, *arguments = server.command
        place: Any = transports.StdioTransport(
            program, arguments, env=given, cwd=str(base.resolve()), keep_alive=False, log_file=log
        )
    else:
        place = server.url
        if server.token_env:
            if not os.environ.get(server.token_env):
                raise ToolError(f"The environment variable {server.token_env} is not set.", "Set it to the token.")
            settings["auth"] = os.environ[server.token_env]
    return lazily.load("pydantic_ai.mcp").MCPToolset(
        place, cache_tools=False, tool_error_behavior="error", init_timeout=server.start_seconds, read_timeout=None,
        **settings,
    )  # fmt: skip


def _definition(tool: Any) -> dict[str, Any]:
    """OpenAI's definition of a tool, cleaned."""
    plain = tool.model_dump(mode="json", by_alias=True, exclude_none=True)
    described = untrusted.clean(plain.get("description") or "")
    if len(described) > LONGEST_DESCRIPTION:
        described = described[:LONGEST_DESCRIPTION] + " …"
    function = {"name": plain["name"], "description": described}
    return {"type": "function", "function": function | {"parameters": untrusted.cleaned(plain["inputSchema"])}}


def _is_destructive(tool: Any) -> bool:
    plain = tool.model_dump(mode="json", by_alias=True, exclude_none=True)
    return bool((plain.get("annotations") or {}).get("destructiveHint"))


def _text(value: Any) -> str:
    """What a tool gave, as a model reads it. What is no text is named, not shown."""
    if value is None or value == []:
        return "done"
    if isinstance(value, str):
        return value
    if isinstance(value, list) and any(map(_is_binary, value)):
        return "\n".join(map(_text, value))
    if _is_binary(value):
        return f"[{len(value.data)} bytes of {value.media_type}, not shown]"
    return json.dumps(value, ensure_ascii=False, default=repr)


def _is_binary(value: Any) -> bool:
    return isinstance(value, lazily.load("pydantic_ai.messages").BinaryContent)


def _told(error: BaseException) -> str:
    """An error in one line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, TimeoutError):
        return "it took too long"
    said = untrusted.line(str(error), 400) or type(error).__name__
    return said.rstrip(".")


def _last(log: Any) -> str:
    """The last line that a server wrote to standard error."""
    log.seek(0)
    lines = [line for line in log.read().splitlines() if line.strip()]
    return f" It wrote: {untrusted.line(lines[-1], 200)}" if lines else ""
