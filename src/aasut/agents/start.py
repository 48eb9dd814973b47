"""An agent made ready from its file: tools found, servers started, the model reached, a trace begun."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
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

    def __init__(self, recipe: AgentRecipe, root: Path, tools: Tools, endpoint: Endpoint, served: ServedStudent | None):
        self.recipe, self.root, self.tools, self.endpoint, self.served = recipe, root, tools, endpoint, served
        self.secrets = [value for name in _secret_names(recipe, endpoint) if (value := os.environ.get(name, ""))]
        self.toolboxes: list[Toolbox] = []
        key = _key(endpoint)
        self.model = Model(endpoint, key, recipe.model.temperature, recipe.limits.answer_tokens)

    def session(self, ask: Ask | None, say: Callable[[str], None]) -> Session:
        """A new conversation with a trace of its own. `ask`: who approves dangerous calls, None for nobody."""
        recipe = self.recipe
        settings = recipe.model_dump(mode="json", exclude_unset=True)
        trace = Trace(self.root, recipe.name, self.endpoint.model, self.tools.definitions, settings, self.secrets)
        meter = Meter(recipe.limits, self.endpoint)
        session = Session(recipe, self.model, self.tools, meter, Approval(recipe.approval, ask), trace, say)
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
        tools, toolboxes = await _tools(recipe, base, stack)
        served = student.load(recipe.model.run, root, tools.definitions) if recipe.model.run else None
        if served is not None:
            stack.callback(served.close)
            endpoint = stack.enter_context(student.serving(served))
        else:
            assert recipe.model.endpoint is not None
            endpoint = recipe.model.endpoint
        ready = Ready(recipe, root, tools, endpoint, served)
        ready.toolboxes = toolboxes
        stack.push_async_callback(ready.model.close)
        yield ready


async def _tools(recipe: AgentRecipe, base: Path, stack: AsyncExitStack) -> tuple[Tools, list[Toolbox]]:
    tools, toolboxes = Tools(), []
    for given in recipe.tools:
        if given.python is not None:
            toolboxes.append(Toolbox.load(base / given.python))
            source: Source = Local(toolboxes[-1])
            where = given.python
        else:
            assert given.mcp is not None
            source = server = await stack.enter_async_context(mcp.connected(given.mcp, base, given.only))
            where = server.where
        tools.add(
            source, where, only=given.only, prefix=given.prefix, trusted=given.trusted, dangerous=recipe.dangerous
        )
    if strange := tools.unmatched(recipe.dangerous):
        raise RecipeError(f"dangerous names {strange[0]!r}, which is no tool.", f"There are: {', '.join(tools.names)}.")
    return tools, toolboxes


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
