"""The file of an agent: its model, its tools, and what bounds it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from aasut.recipe import file
from aasut.recipe.models import Endpoint
from aasut.recipe.section import NonNegative, Positive, Section, Timeout

UNUSED = ("revision", "logprobs", "top_logprobs", "send_schema", "concurrency", "stall_timeout_s", "patience_s")


class AgentModel(Section):
    """What decides which tools are called."""

    endpoint: Endpoint | None = None
    """A model behind an API; or give `run`. Of its settings `revision`, `logprobs`, `top_logprobs`, `send_schema`,
    `concurrency`, `stall_timeout_s` and `patience_s` are not for agents."""
    run: str | None = Field(default=None, min_length=1)
    """Name of a finished run whose student calls tools: it is served here, on a free port. It reads one task, in its
    own prompt, and no results."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """Temperature of its answers; the endpoint's own where it is not given."""

    @model_validator(mode="after")
    def _one_source(self) -> AgentModel:
        if (self.endpoint is None) == (self.run is None):
            raise ValueError("give one of endpoint and run")
        unused = [name for name in UNUSED if self.endpoint and name in self.endpoint.model_fields_set]
        if unused:
            raise ValueError(f"endpoint.{unused[0]} is not for an agent: leave it out")
        return self


class McpServer(Section):
    """A server of the Model Context Protocol: a program that is started, or an address."""

    command: list[str] | None = Field(default=None, min_length=1)
    """The program and its arguments; it is started in the file's folder, speaks over its standard input and output,
    and is ended with the run."""
    env: list[str] = Field(default_factory=list)
    """Names of environment variables that the program is given, beside PATH, HOME and the like."""
    url: str | None = Field(default=None, pattern=r"^https?://[^\s@#]+$")
    """Address of a server over streamable HTTP, for example http://127.0.0.1:8000/mcp"""
    token_env: str | None = None
    """Environment variable that holds the bearer token for `url`."""
    start_seconds: Timeout = 30
    """Seconds that the server has to start in and to say its tools."""
    pinned: str | None = Field(default=None, pattern=r"^[0-9a-f]{16}$")
    """Hash of the server's definitions of tools, as `aasut agent FILE --tools` prints it: other definitions are
    refused."""

    @model_validator(mode="after")
    def _one_place(self) -> McpServer:
        if (self.command is None) == (self.url is None):
            raise ValueError("give one of command and url")
        if self.env and self.command is None:
            raise ValueError("env goes with command")
        if self.token_env is not None and self.url is None:
            raise ValueError("token_env goes with url")
        return self


class ToolSource(Section):
    """Tools of one Python file or MCP server."""

    python: str | None = None
    """A Python file, from the agent's file on: its public functions, with type hints and docstrings, are the tools."""
    mcp: McpServer | None = None
    """A server of tools."""
    only: list[str] = Field(default_factory=list)
    """Names of the tools to take; all where none is named."""
    prefix: str = Field(default="", pattern=r"^[A-Za-z0-9_-]{0,32}$")
    """Put before the names, so that those of two sources differ."""
    trusted: bool = False
    """Nobody but you writes what these tools return. Without it, a dangerous call after they were read is asked for,
    whatever `approval` says."""

    @model_validator(mode="after")
    def _one_kind(self) -> ToolSource:
        if (self.python is None) == (self.mcp is None):
            raise ValueError("give one of python and mcp")
        return self


class Limits(Section):
    """What ends a task early. `tokens` and `usd` count over all tasks of one conversation."""

    steps: Positive = 20
    """Requests to the model."""
    tool_calls: Positive = 50
    """Calls of tools, those that were denied too."""
    answer_tokens: Positive = 2048
    """Tokens that the model may write in one step."""
    tokens: Positive | None = None
    """Tokens of prompts and answers in all: no request is made that could pass it."""
    usd: NonNegative | None = None
    """Dollars, by the endpoint's prices: no request is made that could pass it."""
    seconds: Timeout | None = None
    """Seconds in all, without those in which a person is asked."""
    tool_seconds: Timeout = 60
    """Seconds for one call of a tool."""
    output: Annotated[int, Field(ge=100)] = 20_000
    """Characters of a tool's output that the model reads; what is longer is cut, and told so."""


class AgentRecipe(Section):
    """An assistant: a model, the tools that it may call, and what bounds it."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    """Name, under which its traces are kept."""
    model: AgentModel
    """Who decides."""
    instructions: str = ""
    """What it is told before the task, as the system message."""
    tools: list[ToolSource] = Field(min_length=1)
    """Where its tools come from."""
    dangerous: list[str] = Field(default_factory=list)
    """Tools that a person has to approve, beside those that their file or server marks: names, in which `*` stands for
    any letters."""
    approval: Literal["ask", "allow", "refuse"] = "ask"
    """Dangerous calls: `ask` at the terminal (without one they are denied), `allow` them as long as no tool was read
    that is not `trusted` and ask from then on, or `refuse` them all."""
    answer: Literal["model", "tools"] = "model"
    """What the answer is: what the model says once it calls nothing more, or what the tools of its first calls
    return."""
    limits: Limits = Limits()
    """What ends a run early."""

    @field_validator("dangerous")
    @classmethod
    def _are_names(cls, value: list[str]) -> list[str]:
        for name in value:
            if not re.fullmatch(r"[A-Za-z0-9_*-]+", name):
                raise ValueError(f"{name!r} is no name of a tool")
        return value

    @model_validator(mode="after")
    def _fits_its_model(self) -> AgentRecipe:
        endpoint = self.model.endpoint
        if endpoint is None:
            if self.answer == "model":
                raise ValueError("a student reads no results of tools: set answer: tools")
            if self.instructions:
                raise ValueError("a student has its own prompt: leave instructions out")
        priced = endpoint and (endpoint.usd_per_million_input_tokens or endpoint.usd_per_million_output_tokens)
        if self.limits.usd is not None and not priced:
            raise ValueError("limits.usd needs prices: give model.endpoint.usd_per_million_input_tokens and its like")
        return self


def load(path: Path, overrides: Sequence[str] = ()) -> AgentRecipe:
    """Read an agent's file; `overrides` are flags of the form `section.field=value`. Raises RecipeError."""
    return file.validated(AgentRecipe, file.read(path, overrides), str(path), "docs/agent.md lists every field.")
