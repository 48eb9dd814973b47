from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from aasut.agents.wire import Model, Said
from aasut.errors import TeacherError
from aasut.recipe import Endpoint
from agent_server import calling, said, speaking

TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Look it up.",
        "parameters": {
            "type": "object",
            "properties": {"title": {"title": "A title", "type": "string", "default": "x", "examples": ["a"]}},
            "required": ["title"],
            "additionalProperties": False,
        },
    },
}
CALL = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"title":"a"}'}}
SAID: list[dict[str, Any]] = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Well?"},
    {"role": "assistant", "content": "I look.", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "name": "look_up", "content": '{"output": "b"}'},
    {"role": "assistant", "content": "It is b."},
    {"role": "user", "content": "Sure?"},
]


def ask(url: str, *messages: dict[str, Any], temperature: float | None = None, **settings: Any) -> Said:
    async def main() -> Said:
        endpoint = Endpoint(base_url=url, model="m", **({"retries": 0} | settings))
        model = Model(endpoint, "key-1", temperature, 77)
        try:
            return await model.ask(messages or SAID, [TOOL], {})
        finally:
            await model.close()

    return asyncio.run(main())


def test_messages_and_tools_go_out_as_they_are() -> None:
    with speaking(said("Yes.")) as server:
        answer = ask(server.url, temperature=0.5)
    (body,) = server.bodies
    expected = [{name: value for name, value in message.items() if name != "name"} for message in SAID]
    assert body["messages"] == expected
    assert body["tools"] == [TOOL]
    assert (body["max_completion_tokens"], body["temperature"], body["model"]) == (77, 0.5, "m")
    assert server.keys == ["Bearer key-1"]
    assert answer == Said({"role": "assistant", "content": "Yes."}, 10, 2, "stop")


def test_calls_come_back_in_openai_s_form() -> None:
    with speaking(calling(("look_up", {"title": "a"}), ("other", "{broken"))) as server:
        answer = ask(server.url)
        assert "temperature" not in server.bodies[0]
    assert answer.message["content"] is None
    assert [call["function"] for call in answer.message["tool_calls"]] == [
        {"name": "look_up", "arguments": '{"title": "a"}'},
        {"name": "other", "arguments": "{broken"},
    ]
    assert (answer.input_tokens, answer.output_tokens) == (10, 5)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ((401, {"error": {"message": "bad key"}}), "bad key"),
        ((500, b"oops"), "500"),
        ((200, b"no json"), "m gave no answer"),
        ((200, {"choices": []}), "m gave no answer"),
        (None, "m gave no answer"),
    ],
)
def test_no_answer_is_told_in_one_line(reply: Any, reason: str) -> None:
    with speaking(reply) as server, pytest.raises(TeacherError) as caught:
        ask(server.url)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "key-1" not in str(caught.value)


def test_a_call_that_failed_is_sent_again() -> None:
    with speaking((503, {"error": {"message": "busy"}}), said("Yes.")) as server:
        assert ask(server.url, retries=1).message["content"] == "Yes."
    assert len(server.bodies) == 2


def test_half_a_surrogate_pair_ends_in_one_line() -> None:
    with speaking(said("Yes.")) as server, pytest.raises(TeacherError, match="gave no answer"):
        ask(server.url, {"role": "user", "content": "\ud800"})
    assert json.dumps(server.bodies) == "[]"
