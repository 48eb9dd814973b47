"""The loop over real HTTP: what is asked, called, answered and kept."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from aasut.agents import trace, untrusted
from aasut.agents.approval import Ask
from aasut.agents.loop import Outcome
from aasut.agents.start import opened
from aasut.recipe.agent import AgentRecipe
from agent_server import calling, post_office, said, speaking

READ = ("read", {"box": "1"})
PRICED = {
    "base_url": "", "model": "m", "api_key_env": "", "usd_per_million_input_tokens": 1.0,
    "usd_per_million_output_tokens": 10.0, "retries": 0,
}  # fmt: skip


async def do(recipe: AgentRecipe, folder: Path, *tasks: str, ask: Ask | None = None) -> list[Outcome]:
    """Tasks of one conversation."""
    async with opened(recipe, folder, folder / "runs") as ready:
        session = ready.session(ask, lambda _: None)
        return [await session.run(*ready.task(task)) for task in tasks]


def run(recipe: AgentRecipe, folder: Path, *tasks: str, ask: Ask | None = None) -> Outcome:
    return asyncio.run(do(recipe, folder, *(tasks or ("What does it say?",)), ask=ask))[-1]


def kept(folder: Path, kind: str) -> list[dict[str, Any]]:
    """Of the last run, the events of a kind."""
    name = trace.find(folder / "runs", "last").id
    return [event.content for event in trace.events(folder / "runs", name) if event.kind == kind]


def test_calls_are_made_until_the_model_answers(tmp_path: Path) -> None:
    with speaking(calling(READ), said("At nine.")) as server:
        done = run(post_office(tmp_path, server.url), tmp_path)
    assert (done.reason, done.answer, done.steps) == ("answered", "At nine.", 2)
    assert [(one.tool, one.result.text) for one in done.calls] == [("read", "Dear all, come at nine.")]
    first, second = server.bodies
    assert [message["role"] for message in first["messages"]] == ["system", "user"]
    assert first["messages"][0]["content"].startswith("You keep the post.\n\n" + untrusted.RULE)
    assert [tool["function"]["name"] for tool in first["tools"]] == ["read", "pay"]
    assert second["messages"][2]["tool_calls"][0]["function"] == {"name": "read", "arguments": '{"box":"1"}'}
    assert second["messages"][3] == {
        "role": "tool", "tool_call_id": "call_0", "content": '{"output": "Dear all, come at nine."}',
    }  # fmt: skip
    assert (done.input_tokens, done.output_tokens) == (20, 7)


def test_the_trace_holds_every_step(tmp_path: Path) -> None:
    with speaking(calling(READ), said("At nine.")) as server:
        run(post_office(tmp_path, server.url), tmp_path)
    found = trace.find(tmp_path / "runs", "last")
    assert (found.agent, found.model, found.reason) == ("post", "m", "answered")
    assert [tool["function"]["name"] for tool in found.tools] == ["read", "pay"]
    assert [event.kind for event in trace.events(tmp_path / "runs", found.id)] == [
        "message", "message", "message", "request", "calling", "call", "message", "message", "request", "end",
    ]  # fmt: skip
    assert [message["role"] for message in kept(tmp_path, "message")] == [
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    assert kept(tmp_path, "end")[0]["answer"] == "At nine."


def test_a_conversation_goes_on(tmp_path: Path) -> None:
    with speaking(said("Yes."), said("Again yes.")) as server:
        done = run(post_office(tmp_path, server.url), tmp_path, "Well?", "Again?")
    assert [m["content"] for m in server.bodies[1]["messages"][1:]] == ["Well?", "Yes.", "Again?"]
    assert (done.steps, done.input_tokens) == (1, 10)


def test_wrong_calls_are_told_and_the_loop_goes_on(tmp_path: Path) -> None:
    wrong = calling(("raed", {}), ("read", {"bx": 1}), ("read", "{broken"), ("read", {"box": "7"}), READ)
    with speaking(wrong, said("Done.")) as server:
        done = run(post_office(tmp_path, server.url), tmp_path)
    told = [json.loads(m["content"]) for m in server.bodies[1]["messages"] if m["role"] == "tool"]
    assert told[0] == {"notice": "There is no tool 'raed'. There are: read, pay."}
    assert told[1]["output"].startswith("The arguments do not fit: box: Field required")
    assert told[2]["output"].startswith("The arguments do not fit: arguments: Invalid JSON")
    assert told[3] == {"output": "The tool failed: KeyError: '7'.", "failed": True}
    assert told[4] == {"output": "Dear all, come at nine."}
    assert done.answer == "Done."


def test_with_answer_tools_no_further_request_is_made(tmp_path: Path) -> None:
    with speaking(calling(READ, READ)) as server:
        done = run(post_office(tmp_path, server.url, answer="tools"), tmp_path)
    assert (done.reason, done.answer) == ("answered", "Dear all, come at nine.\nDear all, come at nine.")
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("limits", "reason", "requests", "calls"),
    [
        ({"steps": 3}, "steps", 3, 3),
        ({"tool_calls": 2}, "tool_calls", 3, 2),
        ({"tokens": 4000, "answer_tokens": 100}, "tokens", 2, 2),
        ({"usd": 0.0047, "answer_tokens": 100}, "usd", 1, 1),
        ({"usd": 0.0001, "answer_tokens": 100}, "usd", 0, 0),
    ],
)
def test_limits_end_a_run_before_they_are_passed(
    tmp_path: Path, limits: dict[str, Any], reason: str, requests: int, calls: int
) -> None:
    with speaking(calling(READ, tokens=(1500, 50))) as server:
        model = {"endpoint": PRICED | {"base_url": server.url}}
        done = run(post_office(tmp_path, server.url, model=model, limits=limits), tmp_path)
    assert (done.reason, len(server.bodies), len([one for one in done.calls if one.made])) == (reason, requests, calls)
    assert done.text
    assert kept(tmp_path, "end")[-1]["reason"] == reason
    assert done.usd == pytest.approx(requests * (1500 + 50 * 10) / 1e6)


def test_an_endpoint_that_says_no_usage_is_counted_at_worst(tmp_path: Path) -> None:
    with speaking(said("Yes.", tokens=(0, 0))) as server:
        model = {"endpoint": PRICED | {"base_url": server.url}}
        done = run(post_office(tmp_path, server.url, model=model, limits={"answer_tokens": 100}), tmp_path)
    assert done.output_tokens == 100
    assert done.input_tokens > 1000


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (said("Half an ans", finish="length"), "answer_tokens"),
        (calling(READ, finish="length"), "answer_tokens"),
        (said(" "), "empty"),
        ((401, {"error": {"message": "bad key"}}), "model"),
        ((200, b"no json"), "model"),
        (None, "model"),
    ],
)
def test_what_is_no_answer_ends_with_a_reason(tmp_path: Path, reply: Any, reason: str) -> None:
    with speaking(reply) as server:
        done = run(post_office(tmp_path, server.url), tmp_path)
    assert (done.reason, done.calls) == (reason, [])
    assert "\n" not in done.text
    assert trace.find(tmp_path / "runs", "last").reason == reason


def test_a_tool_that_hangs_is_left_behind(tmp_path: Path) -> None:
    tools = "import time\ndef wait() -> str:\n    'Wait.'\n    time.sleep(60)\n    return ''\n"
    with speaking(calling(("wait", {}), ("wait", {})), said("So be it.")) as server:
        done = run(post_office(tmp_path, server.url, tools=tools, limits={"tool_seconds": 0.2}), tmp_path)
    assert [one.result.text for one in done.calls] == [
        "The tool gave no answer within 0.2 s.",
        "The tool 'wait' before it has not come to an end, so this was not called.",
    ]
    assert done.answer == "So be it."


def test_the_time_ends_a_run(tmp_path: Path) -> None:
    tools = "import time\ndef wait() -> str:\n    'Wait.'\n    time.sleep(60)\n    return ''\n"
    with speaking(calling(("wait", {}))) as server:
        done = run(post_office(tmp_path, server.url, tools=tools, limits={"seconds": 1.0}), tmp_path)
    assert done.reason == "seconds"
