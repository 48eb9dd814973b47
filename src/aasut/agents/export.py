"""Traces as training data: each answer of the model is one example, in the form in which logs of chat are read.

    {"id": ..., "at": ..., "model": ..., "request": {"model", "messages", "tools"}, "response": {...}, "usd": ...}

A student answers single turns. So what was said, called and returned before stands in one message of the user, and a
first step is the task as it was given. `chat` keeps the messages as they were sent, results of tools too, for trainers
of models that read them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aasut import tools as functions
from aasut.agents import trace
from aasut.agents.loop import ANSWERED
from aasut.agents.trace import Event, Run
from aasut.agents.wire import Message
from aasut.errors import DataError
from aasut.files import write_atomically
from aasut.types import Conservation

UNFINISHED, WRONG = "of a run without an answer", "calls that failed or were not made"


def export(root: Path, path: Path, *, agent: str = "", chat: bool = False, everything: bool = False) -> Conservation:
    """Write the answers of all runs, or of one agent's, to a JSONL file; counts what was left out, by reason.

    Left out are runs that came to no answer, and calls that failed or were denied; `everything` keeps them too. Raises
    DataError where nothing is left.
    """
    lines: list[str] = []
    dropped: Counter[str] = Counter()
    for run in trace.runs(root, agent):
        for line, good in _examples(run, list(trace.events(root, run.id)), chat=chat):
            reason = "" if everything else UNFINISHED if run.reason != ANSWERED else "" if good else WRONG
            dropped[reason] += bool(reason)
            if not reason:
                lines.append(json.dumps(line, ensure_ascii=False))
    total = len(lines) + dropped.total()
    if not lines:
        raise DataError(f"Of {total} answers in the traces of {root} none can be learned from.", "See aasut traces.")
    write_atomically(path, "".join(f"{line}\n" for line in lines))
    return Conservation(total, len(lines), {reason: count for reason, count in dropped.items() if reason})


def _examples(run: Run, events: Sequence[Event], *, chat: bool) -> Iterator[tuple[dict[str, Any], bool]]:
    """(a line, whether all calls in its answer were made and went well) for each answer of a run."""
    before: list[Message] = []
    for place, event in enumerate(events):
        if event.kind != "message":
            continue
        message, after = event.content, events[place + 1 :]
        # What it used comes right after the model's own answer; an assistant's message that was heard has none.
        if message["role"] == "assistant" and after and after[0].kind == "request":
            asked = [*before] if chat else _flat(before)
            yield _line(run, len(before), event, asked, after[0].content), _went_well(message, after)
        before.append(message)


def _went_well(message: Message, after: Sequence[Event]) -> bool:
    """Were all of a message's calls made, and none failed? `after`: what happened then; ids may come again later."""
    made = 0
    for event in after:
        if event.kind == "message" and event.content["role"] == "assistant":
            break
        if event.kind == "call":
            if event.content["failed"] or not event.content["made"]:
                return False
            made += 1
    return made == len(message.get("tool_calls") or ())


def _line(run: Run, place: int, event: Event, messages: list[Message], counted: dict[str, Any]) -> dict[str, Any]:
    finish = "tool_calls" if event.content.get("tool_calls") else "stop"
    usage = {"prompt_tokens": counted["input_tokens"], "completion_tokens": counted["output_tokens"]}
    return {
        "id": f"{run.id}/{place}",
        "at": datetime.fromtimestamp(event.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "model": run.model,
        "request": {"model": run.model, "messages": messages, "tools": run.tools},
        "response": {
            "object": "chat.completion",
            "model": run.model,
            "choices": [{"index": 0, "message": event.content, "finish_reason": finish}],
            "usage": usage | {"total_tokens": sum(usage.values())},
        },
        "usd": counted["usd"],
    }


def _flat(messages: Sequence[Message]) -> list[Message]:
    """The system's message as it is, and all that came after in one message of the user."""
    system = [message for message in messages[:1] if message["role"] == "system"]
    said = messages[len(system) :]
    if len(said) == 1:
        return [*system, said[0]]
    return [*system, {"role": "user", "content": "\n".join(map(_told, said))}]


def _told(message: Message) -> str:
    if message.get("tool_calls"):
        return f"called: {functions.written(message['tool_calls'])}"
    who = {"tool": "returned", "assistant": "said", "user": "user"}.get(message["role"], message["role"])
    return f"{who}: {message.get('content') or ''}"
