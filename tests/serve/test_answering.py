"""Tools over a real socket with the official client: by rule, and bound on a model that knows nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import openai
import pytest

from aasut.engine.base import Piece, Prompt, load
from aasut.engine.scripted import ScriptedEngine
from aasut.prompts import PromptTemplate
from aasut.serve.answering import draws
from aasut.serve.protocol import parse_plain
from aasut.serve.student import Answer, ServedStudent
from aasut.tasks import Classify, Tools
from aasut.types import Usage
from served import serving

CITY = {"type": "object", "properties": {"city": {"enum": ["Goa", "Pune"]}}, "required": ["city"],
        "additionalProperties": False}  # fmt: skip
WEATHER: Any = {"type": "function", "function": {"name": "weather", "description": "Tells it.", "parameters": CITY}}
STOP: Any = {"type": "function", "function": {"name": "stop"}}
TASK = Tools(PromptTemplate.of("Ask: {text}"), 60, json.dumps([WEATHER, STOP]))
CALLS = '[{"name": "weather", "arguments": {"city": "Goa"}}, {"name": "stop", "arguments": {}}]'


class Breaking(ScriptedEngine):
    """Breaks after the first piece of a poisoned prompt."""

    def generate(self, prompts: Sequence[Prompt], *, prefix: str = "") -> Iterator[Piece]:
        for number, piece in enumerate(super().generate(prompts, prefix=prefix)):
            yield piece
            if number == 0 and "poison" in prompts[0].text:
                raise RuntimeError("secret reason")


def student(engine: Any) -> ServedStudent:
    return ServedStudent(TASK, PromptTemplate.of("{text} ="), engine, "caller", "0" * 64)


@pytest.fixture(scope="module")
def ruled() -> Iterator[openai.OpenAI]:
    engine = Breaking({"goa": CALLS, "poison": "It is warm.", "hello": "Which city do you mean?"})
    with (
        serving(student(engine)) as port,
        openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def bound(tiny_llama: Path) -> Iterator[openai.OpenAI]:
    engine = load("torch", tiny_llama, precision="float32")
    with (
        serving(student(engine)) as port,
        openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client
    engine.close()


def asked(text: str, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"Ask: {text}"}]
    return {"model": "caller", "messages": messages, "tools": [STOP, WEATHER]} | fields


def test_calls_and_texts_reach_the_client_as_its_own(ruled: openai.OpenAI) -> None:
    made = ruled.chat.completions.create(**asked("Goa")).choices[0]
    calls = made.message.tool_calls or []
    assert [(c.function.name, json.loads(c.function.arguments)) for c in calls if c.type == "function"] == [
        ("weather", {"city": "Goa"}), ("stop", {}),
    ]  # fmt: skip
    assert (made.message.content, made.finish_reason) == (None, "tool_calls")
    said = ruled.chat.completions.create(**asked("hello")).choices[0]
    assert (said.message.content, said.message.tool_calls) == ("Which city do you mean?", None)
    assert said.finish_reason == "stop"


def test_the_clients_stream_helper_puts_calls_together(ruled: openai.OpenAI) -> None:
    with ruled.chat.completions.stream(**asked("Goa")) as stream:
        found = stream.get_final_completion().choices[0]
    calls = found.message.tool_calls or []
    assert [(call.function.name, json.loads(call.function.arguments)) for call in calls] == [
        ("weather", {"city": "Goa"}), ("stop", {}),
    ]  # fmt: skip
    assert found.finish_reason == "tool_calls"


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [STOP]},
        {"tools": openai.omit},
        {"stop": "x"},
        {"tool_choice": "any"},
        {"response_format": {"type": "json_object"}},
        {"logprobs": True, "top_logprobs": 2},
        {
            "messages": [
                {"role": "user", "content": "Ask: Goa"},
                {"role": "assistant", "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "stop", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "1", "content": "warm"},
            ]
        },
    ],
    ids=range(7),
)  # fmt: skip
def test_what_a_caller_cannot_do_is_refused(ruled: openai.OpenAI, fields: dict[str, Any]) -> None:
    for streamed in (False, True):
        with pytest.raises(openai.BadRequestError) as caught:
            ruled.chat.completions.create(**asked("Goa", stream=streamed, **fields))
        assert caught.value.param is not None


@pytest.mark.parametrize("seed", range(4))
def test_a_model_that_knows_nothing_calls_what_it_may(bound: openai.OpenAI, seed: int) -> None:
    def answered(**fields: Any) -> Any:
        choice = bound.chat.completions.create(**asked("x", temperature=1.0, seed=seed, max_tokens=300, **fields))
        return choice.choices[0]

    one = answered(tool_choice="required", parallel_tool_calls=False)
    (call,) = one.message.tool_calls
    schema = {"weather": CITY, "stop": {"maxProperties": 0}}[call.function.name]
    jsonschema.validate(json.loads(call.function.arguments), schema)
    named = answered(tool_choice={"type": "function", "function": {"name": "weather"}}, parallel_tool_calls=False)
    assert [call.function.name for call in named.message.tool_calls] == ["weather"]
    silent = answered(tool_choice="none")
    assert silent.message.tool_calls is None
    assert silent.message.content.lstrip()[:1] not in ("[", "{")


def test_a_stream_that_breaks_ends_with_an_error(ruled: openai.OpenAI, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(openai.APIError) as caught:
        list(ruled.chat.completions.create(**asked("poison", stream=True)))
    assert "secret" not in str(caught.value.body)
    assert "RuntimeError: secret reason" in capfd.readouterr().err
    with pytest.raises(openai.InternalServerError):
        ruled.chat.completions.create(**asked("poison", n=2))


def test_labels_are_drawn_as_often_as_asked_for() -> None:
    scored = Answer("a", {"a": -0.7, "b": -0.7}, Usage(1, 1))
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "temperature": 1, "seed": 4}
    drawn = draws(parse_plain(body | {"n": 8}), "T", scored)
    assert set(drawn) == {"a", "b"}
    assert draws(parse_plain(body | {"n": 8}), "T", scored) == drawn
    assert draws(parse_plain(body), "T", scored) == drawn[:1]


def test_several_labels_come_over_the_wire() -> None:
    task = Classify(("no", "yes"), PromptTemplate.of("Ask: {text}"))
    judge = ServedStudent(task, PromptTemplate.of("{text} ="), ScriptedEngine({"good": "yes"}), "judge", "0" * 64)
    ask: list[Any] = [{"role": "user", "content": "Ask: good"}]
    with (
        serving(judge) as port,
        openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) as client,
    ):
        made = client.chat.completions.create(model="judge", messages=ask, n=8, temperature=2, seed=1)
        assert {choice.message.content for choice in made.choices} == {"no", "yes"}
        assert made.usage is not None
        assert (made.usage.prompt_tokens, made.usage.completion_tokens) == (2, 8)
