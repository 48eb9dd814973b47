"""Traces as a person reads them: a line a run, and one run step by step."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

from aasut.agents import trace, untrusted
from aasut.agents.trace import Event, Run

UNFINISHED = "unfinished"  # killed, or still at it


def gather(root: Path, agent: str = "") -> list[dict[str, Any]]:
    """All runs as plain data, the oldest first."""
    return [_summary(run, list(trace.events(root, run.id))) for run in trace.runs(root, agent)]


def render(found: list[dict[str, Any]]) -> str:
    """A line a run."""
    lines = [
        f"{one['id']}  {one['agent']:<12} {one['reason']:<12} {one['steps']:>3} steps {one['calls']:>3} calls  "
        f"{one['tokens']:>7} tokens  ${one['usd']:.4f}  {untrusted.line(one['task'], 60)}"
        for one in found
    ]
    return "\n".join(lines) or "There are no traces of this agent."


def show(root: Path, name: str) -> dict[str, Any]:
    """One run as plain data."""
    run = trace.find(root, name)
    events = list(trace.events(root, run.id))
    happened = [{"at": event.at, "kind": event.kind} | event.content for event in events]
    return _summary(run, events) | {"settings": run.settings, "tools": run.tools, "events": happened}


def render_show(found: dict[str, Any]) -> str:
    """One run, step by step."""
    lines = [render([found])]
    for event in found["events"]:
        at = f"{datetime.fromtimestamp(event['at']):%H:%M:%S}"
        lines += [f"{at}  {text}" for text in _told(event)]
    return "\n".join(lines)


def _told(event: dict[str, Any]) -> list[str]:
    kind = event["kind"]
    if kind == "message" and event["role"] in ("system", "user", "assistant") and event.get("content"):
        return [f"{event['role']}: {untrusted.line(event['content'], 2000)}"]
    if kind == "request":
        return [f"  {event['input_tokens']} + {event['output_tokens']} tokens, {event['seconds']:.2f} s"]
    if kind == "call":
        failed = " (failed)" if event["failed"] else ""
        call = f"{event['tool']}({untrusted.line(event['arguments'], 1000)})"
        return [
            f"{call}: {event['approval']}, {event['seconds']:.2f} s{failed}",
            f"  → {untrusted.line(event['output'])}",
        ]
    if kind == "end":
        return [f"end: {event['reason']}{': ' + event['text'] if event['text'] else ''}"]
    return []


def _summary(run: Run, events: list[Event]) -> dict[str, Any]:
    counts = Counter(event.kind for event in events)
    used = [event.content for event in events if event.kind == "request"]
    tasks = [e.content["content"] for e in events if e.kind == "message" and e.content["role"] == "user"]
    return {
        "id": run.id, "agent": run.agent, "model": run.model, "began": run.began,
        "reason": run.reason or UNFINISHED, "task": tasks[0] if tasks else "", "steps": counts["request"],
        "calls": counts["call"], "tokens": sum(one["input_tokens"] + one["output_tokens"] for one in used),
        "usd": sum(one["usd"] for one in used),
    }  # fmt: skip
