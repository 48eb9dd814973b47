from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from aasut.teacher.chat import Refused
from aasut.teacher.faults import Fault, Plan
from aasut.teacher.responses import respond
from aasut.teacher.scripted import ScriptedTeacher
from aasut.teacher.server import ScriptedServer

RULES = {
    "weather": '[{"name": "look", "arguments": {"city": "Paris"}}, {"name": "look", "arguments": {"city": "Rome"}}]',
    "warm": "It is warm.",
    "fields": '{"city": "Paris", "warm": true}',
    "": "I do not know.",
}
LOOK: Any = {
    "type": "function", "name": "look", "strict": True,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}  # fmt: skip


class Place(BaseModel):
    city: str
    warm: bool


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    with ScriptedServer(RULES) as server, openai.OpenAI(base_url=server.url, api_key="k", max_retries=0) as found:
        yield found


def test_the_official_client_reads_text_whole_and_streamed(client: openai.OpenAI) -> None:
    whole = client.responses.create(model="m", input="warm?", instructions="weather")
    assert (whole.output_text, whole.status, whole.model) == ("It is warm.", "completed", "m")
    with client.responses.stream(model="m", input="warm?", instructions="weather") as stream:
        kinds = [event.type for event in stream]
        last = stream.get_final_response()
    assert last.output_text == whole.output_text
    assert last.usage == whole.usage
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds.count("response.output_text.delta") > 2
    assert kinds[-1] == "response.completed"


def test_calls_come_as_items_and_their_results_are_read(client: openai.OpenAI) -> None:
    whole = client.responses.create(model="m", input="weather", tools=[LOOK])
    calls = [item for item in whole.output if item.type == "function_call"]
    assert [(call.name, call.arguments) for call in calls] == [
        ("look", '{"city": "Paris"}'),
        ("look", '{"city": "Rome"}'),
    ]
    with client.responses.stream(model="m", input="weather", tools=[LOOK]) as stream:
        assert [item.to_dict() for item in stream.get_final_response().output if item.type == "function_call"] == [
            call.to_dict() | {"parsed_arguments": {"city": city}}
            for call, city in zip(calls, ("Paris", "Rome"), strict=True)
        ]
    turns: Any = [
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "weather"}, {"type": "input_image", "image_url": "u"}],
        },
        calls[0].to_dict(),
        {"type": "function_call_output", "call_id": calls[0].call_id, "output": "warm"},
    ]
    assert client.responses.create(model="m", input=turns, tools=[LOOK]).output_text == "It is warm."
    assert client.responses.parse(model="m", input="fields", text_format=Place).output_parsed == Place(
        city="Paris", warm=True
    )


def test_too_few_tokens_cut_the_answer(client: openai.OpenAI) -> None:
    cut = client.responses.create(model="m", input="warm?", max_output_tokens=2)
    assert (cut.status, cut.output_text) == ("incomplete", "It is")
    kinds = [event.type for event in client.responses.create(model="m", input="x", max_output_tokens=1, stream=True)]
    assert kinds[-1] == "response.incomplete"


def test_planned_faults_meet_it_too() -> None:
    plan = Plan(faults=(Fault(fault="half", at=(0,)), Fault(fault="no_usage", at=(1,)), Fault(fault=503, at=(2,))))
    with (
        ScriptedServer(RULES, plan) as server,
        openai.OpenAI(base_url=server.url, api_key="k", max_retries=0) as asking,
    ):
        kinds = []
        with pytest.raises(openai.APIConnectionError):  # noqa: PT012
            for event in asking.responses.create(model="m", input="warm?", stream=True):
                kinds.append(event.type)
        assert "response.created" in kinds
        assert "response.completed" not in kinds
        assert asking.responses.create(model="m", input="warm?").usage is None
        with pytest.raises(openai.InternalServerError):
            asking.responses.create(model="m", input="warm?")


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"input": []},
        {"input": [3]},
        {"input": [{"type": "reasoning"}]},
        {"input": "a", "background": True},
        {"input": [{"role": "user", "content": [{"type": "input_file"}]}]},
        {"input": "a", "tools": [{"type": "web_search"}]},
    ],
)
def test_what_is_not_honoured_is_refused(body: Any) -> None:
    with pytest.raises(Refused):
        respond(body, ScriptedTeacher(RULES))
