"""An agent made ready from its file: tools found, servers started, the model reached, a trace begun."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aasut.agents import mcp, student, untrusted
from aasut.agents.approval import Approval, Ask
from aasut.agents.functions import Toolbox
from aasut.agents.limits import Meter
from aasut.agents.loop import Session
from aasut.agents.sources import Local, Source, Tools
from aasut.agents.trace import Trace
from aasut.agents.wire import Message, Model
from aasut.errors import RecipeError
from aasut.recipe import Endpoint
from aasut.recipe.agent import AgentRecipe
from aasut.serve.student import ServedStudent


class Ready:
    """What sessions are made of. Sessions share the tools, and what these keep."""

    def __init__(
        self, recipe: AgentRecipe, root: Path, found: Gathered, endpoint: Endpoint, served: ServedStudent | None
    ) -> None:
        self.recipe, self.root, self.endpoint, self.served = recipe, root, endpoint, served
        self.tools, self.toolboxes = found.tools, found.toolboxes
        # A student is told its tools in the words in which it learned them.
        self.definitions = json.loads(served.task.tools) if served else self.tools.definitions
        self.secrets = [value for name in _secret_names(recipe, endpoint) if (value := os.environ.get(name, ""))]
        key = _key(endpoint)
        most = min(recipe.limits.answer_tokens, served.task.max_tokens if served else recipe.limits.answer_tokens)
        self.model = Model(endpoint, key, recipe.model.temperature, most)

    def session(self, ask: Ask | None, say: Callable[[str], None]) -> Session:
        """A new conversation with a trace of its own. `ask`: who approves dangerous calls, None for nobody."""
        recipe = self.recipe
        settings = recipe.model_dump(mode="json", exclude_unset=True)
        trace = Trace(self.root, recipe.name, self.endpoint.model, self.definitions, settings, self.secrets)
        meter = Meter(recipe.limits, self.endpoint)
        approval = Approval(recipe.approval, ask)
        session = Session(recipe, self.model, self.tools, self.definitions, meter, approval, trace, say)
        if self.served is None:
            session.hear({"role": "system", "content": _system(recipe)})
        return session

    def task(self, text: str) -> list[Message]:
        """A task in the words of a user, as the model is told it."""
        return student.asked(self.served, text) if self.served else [{"role": "user", "content": text}]

    def states(self) -> list[str]:
        """What the files of tools say of their state."""
        return [state for toolbox in self.toolboxes if (state := toolbox.state()) is not None]


@asynccontextmanager
async def opened(recipe: AgentRecipe, base: Path, root: Path) -> AsyncIterator[Ready]:
    """The agent of a file in the folder `base`; runs and traces are below `root`. Servers are ended at the end.

    Raises AasutError where a part of it cannot be had.
    """
    async with AsyncExitStack() as stack:
        found = await gather(recipe, base, stack)
        served = student.load(recipe.model.run, root, found.tools.definitions) if recipe.model.run else None
        if served is not None:
            stack.callback(served.close)
            endpoint = stack.enter_context(student.serving(served))
        else:
            assert recipe.model.endpoint is not None
            endpoint = recipe.model.endpoint
        ready = Ready(recipe, root, found, endpoint, served)
        stack.push_async_callback(ready.model.close)
        yield ready


@dataclass
class Gathered:
    """The tools of a file, and where they come from."""

    tools: Tools = field(default_factory=Tools)
    toolboxes: list[Toolbox] = field(default_factory=list)
    servers: list[mcp.Server] = field(default_factory=list)


async def gather(recipe: AgentRecipe, base: Path, stack: AsyncExitStack) -> Gathered:
    """The tools of a file in the folder `base`; their servers run until `stack` is closed. Raises AasutError."""
    found = Gathered()
    for given in recipe.tools:
        if given.python is not None:
            found.toolboxes.append(Toolbox.load(base / given.python))
            source: Source = Local(found.toolboxes[-1])
            where = given.python
        else:
            assert given.mcp is not None
            source = server = await stack.enter_async_context(mcp.connected(given.mcp, base, given.only))
            where = server.where
            found.servers.append(server)
        found.tools.add(
            source, where, only=given.only, prefix=given.prefix, trusted=given.trusted, dangerous=recipe.dangerous
        )
    if strange := found.tools.unmatched(recipe.dangerous):
        raise RecipeError(
            f"dangerous names {strange[0]!r}, which is no tool.", f"There are: {', '.join(found.tools.names)}."
        )
    return found


def _system(recipe: AgentRecipe) -> str:
    parts = [recipe.instructions.strip(), untrusted.RULE]
    if any(source.mcp for source in recipe.tools):
        parts.append(untrusted.DESCRIBED)
    return "\n\n".join(part for part in parts if part)


def _key(endpoint: Endpoint) -> str:
    if not endpoint.api_key_env:
        return ""
    key = os.environ.get(endpoint.api_key_env, "")
    if not key:
        raise RecipeError(
            f"The environment variable {endpoint.api_key_env} is not set.",
            "Set it to the endpoint's key, or set model.endpoint.api_key_env: '' for an endpoint without keys.",
        )
    return key


def _secret_names(recipe: AgentRecipe, endpoint: Endpoint) -> list[str]:
    """Environment variables whose values must not stand in a trace."""
    names = [endpoint.api_key_env]
    for source in recipe.tools:
        if source.mcp is not None:
            names += [*source.mcp.env, source.mcp.token_env or ""]
    return [name for name in names if name]
