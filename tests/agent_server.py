"""A model over HTTP that says what a test tells it, and an agent's file that asks it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from aasut.recipe import agent as recipes
from aasut.recipe.agent import AgentRecipe
from chat_server import ChatServer, Reply

TOOLS = '''
"""A post office."""
from __future__ import annotations

DANGEROUS = {"pay"}
paid: list[str] = []


def read(box: str) -> str:
    """Read a letter.

    Args:
        box: Which box.
    """
    return LETTERS[box]


def pay(to: str, usd: float = 1.0) -> str:
    """Pay somebody."""
    paid.append(to)
    return f"paid {usd} to {to}"


def state() -> str:
    return f"paid: {', '.join(paid) or 'nobody'}"


LETTERS = {"1": "Dear all, come at nine."}
'''


def said(text: str, *, tokens: tuple[int, int] = (10, 2), finish: str = "stop") -> Reply:
    """An answer in words."""
    return _completion({"role": "assistant", "content": text}, tokens, finish)


def calling(*calls: tuple[str, Any], tokens: tuple[int, int] = (10, 5), finish: str = "tool_calls") -> Reply:
    """An answer that calls tools: (name, arguments, as text or not) each."""
    made = [
        {
            "id": f"call_{number}",
            "type": "function",
            "function": {"name": name, "arguments": given if isinstance(given, str) else json.dumps(given)},
        }
        for number, (name, given) in enumerate(calls)
    ]
    return _completion({"role": "assistant", "content": None, "tool_calls": made}, tokens, finish)


def _completion(message: dict[str, Any], tokens: tuple[int, int], finish: str) -> Reply:
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
    usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}
    return 200, {
        "id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage,
    }  # fmt: skip


def speaking(*replies: Reply | Callable[[dict[str, Any]], Reply]) -> ChatServer:
    """A model that gives these answers in turn, the last one again and again; a function is given the request."""

    def reply(number: int, body: dict[str, Any]) -> Reply:
        found = replies[min(number, len(replies) - 1)]
        return found(body) if callable(found) else found

    return ChatServer(reply)


def post_office(
    folder: Path, url: str, *, tools: str = TOOLS, sources: list[dict[str, Any]] | None = None, **more: Any
) -> AgentRecipe:
    """An agent in `folder`/agent.yaml, over the model at `url`; `more` goes over its file.

    tools: the text of post.py; `sources`: other sources of tools in the file.
    """
    (folder / "post.py").write_text(tools, encoding="utf-8")
    plain = {
        "name": "post",
        "model": {"endpoint": {"base_url": url, "model": "m", "api_key_env": "", "retries": 0}},
        "instructions": "You keep the post.",
        "tools": sources or [{"python": "post.py"}],
    } | more
    (folder / "agent.yaml").write_text(yaml.safe_dump(plain), encoding="utf-8")
    return recipes.load(folder / "agent.yaml")
