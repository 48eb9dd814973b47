"""Lines of a gateway's traffic, requests with their answers, and a recipe whose teacher is asked as they were."""

from __future__ import annotations

from typing import Any

PROMPT = "Is the text good? Say yes or no.\n\nText: {text}"


def line(number: int, text: str, said: str | None = "yes", **changes: Any) -> dict[str, Any]:
    """A line; `said`: the answer, None for none. `body` and `reply` are merged into request and response."""
    body = {"model": "big", "messages": [{"role": "user", "content": PROMPT.format(text=text)}]}
    choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 20, "completion_tokens": 1, "total_tokens": 21}
    reply = {"object": "chat.completion", "model": "big-2026", "choices": [choice], "usage": usage}
    plain = {
        "id": f"req_{number:04d}",
        "at": 1000.0 + number,
        "model": "big",
        "by": "upstream",
        "answered": True,
        "escalated": False,
        "usd": 0.25,
        "request": body | changes.pop("body", {}),
        "response": None if said is None else reply | changes.pop("reply", {}),
    }
    return plain | changes


def recipe(url: str = "http://127.0.0.1:9/v1", **changes: Any) -> dict[str, Any]:
    """A recipe as plain data, whose teacher is asked as these lines were."""
    plain: dict[str, Any] = {
        "name": "saw",
        "task": {"kind": "classify", "labels": ["yes", "no"], "prompt": PROMPT},
        "data": {"tables": [{"source": "log.jsonl", "format": "chat", "id": "id", "role": "pool", "recorded": True}]},
        "teacher": {"endpoint": {"base_url": url, "model": "big", "api_key_env": ""}},
        "student": {"initialise": "linear"},
    }
    return plain | changes
