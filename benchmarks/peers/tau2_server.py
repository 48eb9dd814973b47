"""An MCP server over stdio: the tools of a domain of tau2 on a fresh copy of its database, for one train task.

    python tau2_server.py retail 12 --state FILE

Runs in tau2's environment. Definitions are tau2's own. Tools that tau2 knows to write are marked as destructive, so
that a client may ask a person first. FILE holds, as JSON, hashes of the databases after the last call.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import mcp_types as types
import tau2_domain
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from tau2.data_model.message import ToolCall
from tau2.environment.environment import Environment
from tau2.environment.toolkit import ToolType

DONE = "done"  # what an agent that works alone calls at the end, as in tau2
STOP = "###STOP###"


def _defined(environment: Environment) -> list[types.Tool]:
    found = []
    for tool, kind in tau2_domain.tools(environment):
        function = tool.openai_schema["function"]
        reads, writes = kind in (ToolType.READ, ToolType.THINK), kind == ToolType.WRITE
        found.append(
            types.Tool(
                name=function["name"],
                description=function["description"],
                input_schema=function["parameters"],
                annotations=types.ToolAnnotations(read_only_hint=reads, destructive_hint=writes, open_world_hint=False),
            )
        )
    if environment.solo_mode:
        found.append(
            types.Tool(
                name=DONE,
                description="Call this function when you are done with the task.",
                input_schema={"type": "object", "properties": {}},
                annotations=types.ToolAnnotations(read_only_hint=True, open_world_hint=False),
            )
        )
    return found


def server(environment: Environment, kept: Path | None) -> Server[Any]:
    """Answers a call with what tau2 answers; after each one the databases' hashes are `kept`."""

    def keep() -> None:
        if kept is not None:
            kept.write_text(json.dumps(tau2_domain.state(environment)), encoding="utf-8")

    async def listed(_: Any, __: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=_defined(environment))

    async def called(_: Any, asked: types.CallToolRequestParams) -> types.CallToolResult:
        if asked.name == DONE and environment.solo_mode:
            return types.CallToolResult(content=[types.TextContent(type="text", text=STOP)])
        with contextlib.redirect_stdout(sys.stderr):
            answer = environment.get_response(ToolCall(name=asked.name, arguments=asked.arguments or {}))
        keep()
        text = types.TextContent(type="text", text=answer.content or "")
        # An error is no error of the protocol: as in tau2, the model reads tau2's own words for it, whole.
        return types.CallToolResult(content=[text])

    keep()
    return Server(f"tau2 {environment.domain_name}", on_list_tools=listed, on_call_tool=called)


async def serve(environment: Environment, kept: Path | None) -> None:
    """Until the client closes its end."""
    made = server(environment, kept)
    async with stdio_server() as (reads, writes):
        await made.run(reads, writes, made.create_initialization_options())


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("domain", choices=tau2_domain.DOMAINS)
    options.add_argument("task", help="id of a train task")
    options.add_argument("--state", type=Path, help="file for the databases' hashes")
    given = options.parse_args()
    tasks = tau2_domain.train(given.domain)
    if given.task not in tasks:
        options.error(f"{given.domain} has no train task {given.task!r}")
    asyncio.run(serve(tau2_domain.begun(given.domain, tasks[given.task]), given.state))


if __name__ == "__main__":
    main()
