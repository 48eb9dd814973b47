"""OpenAI's official client, unchanged, through a real gateway: in front of an upstream, and with a student."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from asked import ADA, CALLS, CITIES, SAID, TEMPERATURE, WARM, Person, cascading, passing, user
from running import Running

from aasut.store import digest
from aasut.teacher.embeddings import vector
from aasut.teacher.faults import Fault
from aasut.teacher.server import ScriptedServer

KINDS = pytest.mark.parametrize("kind", ["sync", "async"])
LOOK: Any = {"type": "function", **TEMPERATURE["function"], "strict": True}
SURE = user("Text: a great lovely solid phone")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, ScriptedServer]]:
    with passing(tmp_path_factory.mktemp("passing")) as found:
        yield found


@pytest.fixture(scope="module")
def running(both: tuple[Running, ScriptedServer]) -> Running:
    return both[0]


@pytest.fixture(scope="module")
def student(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with cascading(tmp_path_factory.mktemp("cascading"), made) as (found, _):
        yield found


def call(running: Running, kind: str, name: str, **fields: Any) -> Any:
    """The client's method of this name, by the sync or the async client; of a stream, all its events."""
    fields = fields if "file_id" in fields else {"model": "m"} | fields
    settings: Any = {"base_url": running.url, "api_key": "sk-of-a-client", "max_retries": 0}

    def method(client: Any) -> Any:
        for part in name.split("."):
            client = getattr(client, part)
        return client(**fields)

    async def later() -> Any:
        async with openai.AsyncOpenAI(**settings) as client:
            found = await method(client)
            return [event async for event in found] if fields.get("stream") else found

    if kind == "async":
        return asyncio.run(later())
    with openai.OpenAI(**settings) as client:
        found = method(client)
        return list(found) if fields.get("stream") else found


def chat(running: Running, kind: str, text: str = "hello", **fields: Any) -> Any:
    return call(running, kind, "chat.completions.create", messages=user(text), **fields)


def streamed(running: Running, kind: str, name: str, **fields: Any) -> Any:
    """The final answer that the client's own helper puts together of a stream."""
    settings: Any = {"base_url": running.url, "api_key": "sk-of-a-client", "max_retries": 0}

    async def later() -> Any:
        async with openai.AsyncOpenAI(**settings) as client:
            helper: Any = client.responses if name == "responses" else client.chat.completions
            async with helper.stream(model="m", **fields) as stream:
                return await (stream.get_final_response if name == "responses" else stream.get_final_completion)()

    if kind == "async":
        return asyncio.run(later())
    with openai.OpenAI(**settings) as client:
        helper: Any = client.responses if name == "responses" else client.chat.completions
        with helper.stream(model="m", **fields) as stream:
            return (stream.get_final_response if name == "responses" else stream.get_final_completion)()


def text_of(chunks: list[Any], index: int = 0) -> str:
    choices = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
    return "".join(choice.delta.content or "" for choice in choices)


@KINDS
def test_text_whole_and_streamed(running: Running, kind: str) -> None:
    whole = chat(running, kind)
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == (SAID, "stop")
    chunks = chat(running, kind, stream=True)
    assert text_of(chunks) == SAID
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert not any(chunk.usage for chunk in chunks)
    counted = chat(running, kind, stream=True, stream_options={"include_usage": True})
    assert text_of(counted) == SAID
    assert counted[-1].usage == whole.usage


@KINDS
def test_parallel_tool_calls_whole_and_streamed(running: Running, kind: str) -> None:
    fields: Any = {"messages": user("how warm?"), "tools": [TEMPERATURE], "parallel_tool_calls": True}
    whole = call(running, kind, "chat.completions.create", tool_choice="required", **fields)
    calls = whole.choices[0].message.tool_calls
    assert whole.choices[0].finish_reason == "tool_calls"
    assert [{"name": one.function.name, "arguments": json.loads(one.function.arguments)} for one in calls] == CALLS
    final = streamed(running, kind, "chat", **fields)
    assert [(one.id, one.function.arguments) for one in final.choices[0].message.tool_calls] == [
        (one.id, one.function.arguments) for one in calls
    ]
    results = [{"role": "tool", "tool_call_id": one.id, "content": "18 degrees"} for one in calls]
    turns = [*user("how warm?"), whole.choices[0].message.model_dump(exclude_none=True), *results]
    last = call(running, kind, "chat.completions.create", messages=turns, tools=[TEMPERATURE])
    assert last.choices[0].message.content == WARM


@KINDS
def test_structured_output(running: Running, kind: str) -> None:
    found = call(running, kind, "chat.completions.parse", messages=user("who?"), response_format=Person)
    assert found.choices[0].message.parsed == ADA
    final = streamed(running, kind, "chat", messages=user("who?"), response_format=Person)
    assert final.choices[0].message.parsed == ADA
    tool = openai.pydantic_function_tool(Person)
    called = call(running, kind, "chat.completions.parse", messages=user("who by person?"), tools=[tool])
    assert called.choices[0].message.tool_calls[0].function.parsed_arguments == ADA


@KINDS
def test_log_probabilities_and_several_answers(running: Running, kind: str) -> None:
    made = chat(running, kind, logprobs=True, top_logprobs=2, n=2)
    assert [choice.message.content for choice in made.choices] == [SAID, SAID]
    for choice in made.choices:
        assert "".join(one.token for one in choice.logprobs.content) == SAID
        assert len(choice.logprobs.content[0].top_logprobs) == 2
    chunks = chat(running, kind, logprobs=True, n=2, stream=True)
    assert [text_of(chunks, index) for index in (0, 1)] == [SAID, SAID]
    listed = [one for chunk in chunks for choice in chunk.choices if choice.logprobs for one in choice.logprobs.content]
    assert "".join(one.token for one in listed) == SAID + SAID


@KINDS
def test_embeddings(running: Running, kind: str) -> None:
    found = call(running, kind, "embeddings.create", input=["a text", "another"])
    assert [one.embedding for one in found.data] == [vector("a text"), vector("another")]
    floats = call(running, kind, "embeddings.create", input="a text", dimensions=4, encoding_format="float")
    assert floats.data[0].embedding == pytest.approx(vector("a text", 4))
    assert running.recorded(1)[-1].path.startswith("/v1/")


@KINDS
def test_responses(running: Running, kind: str) -> None:
    whole = call(running, kind, "responses.create", input="hello", instructions="Be kind.")
    assert whole.output_text == SAID
    events = call(running, kind, "responses.create", input="hello", stream=True)
    assert "".join(one.delta for one in events if one.type == "response.output_text.delta") == SAID
    assert events[-1].type == "response.completed"
    final = streamed(running, kind, "responses", input="how warm?", tools=[LOOK])
    assert [one.parsed_arguments for one in final.output] == [{"city": city} for city in CITIES]
    assert call(running, kind, "responses.parse", input="who?", text_format=Person).output_parsed == ADA


def test_responses_are_counted(tmp_path: Path) -> None:
    with passing(tmp_path) as (running, _):
        whole = call(running, "sync", "responses.create", input="hello")
        call(running, "sync", "responses.create", input="hello", stream=True)
        found = running.recorded(2)
        assert [(one.path, one.counted, one.streamed) for one in found] == [
            ("/v1/responses", True, False),
            ("/v1/responses", True, True),
        ]
        for one in found:
            assert (one.prompt_tokens, one.completion_tokens) == (whole.usage.input_tokens, whole.usage.output_tokens)


def test_models(running: Running) -> None:
    with running.client() as client:
        assert [model.id for model in client.models.list()] == ["scripted"]
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("another")


def test_what_the_client_sends_reaches_the_upstream_unchanged(both: tuple[Running, ScriptedServer]) -> None:
    running, server = both
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}}
    turns: Any = [{"role": "user", "content": [{"type": "text", "text": "hello, what is this? ☃"}, image]}]
    made = call(running, "sync", "chat.completions.create", messages=turns, temperature=0.5, seed=7)
    assert made.choices[0].message.content == SAID
    body = {"model": "m", "messages": turns, "temperature": 0.5, "seed": 7}
    assert server.asked[digest(body)] == 1
    call(running, "sync", "chat.completions.create", messages=turns, stream=True)
    counting = {"model": "m", "messages": turns, "stream": True, "stream_options": {"include_usage": True}}
    assert server.asked[digest(counting)] == 1  # the one thing that the gateway adds
    with pytest.raises(openai.BadRequestError, match="Unsupported parameter: novelty"):
        call(running, "sync", "chat.completions.create", messages=turns, extra_body={"novelty": [1, None]})
    assert server.asked[digest({"model": "m", "messages": turns, "novelty": [1, None]})] == 1


@KINDS
def test_errors_are_the_clients_own_classes(tmp_path: Path, kind: str) -> None:
    classes: dict[int, type[openai.APIStatusError]] = {
        400: openai.BadRequestError, 401: openai.AuthenticationError, 403: openai.PermissionDeniedError,
        404: openai.NotFoundError, 409: openai.ConflictError, 422: openai.UnprocessableEntityError,
        429: openai.RateLimitError, 500: openai.InternalServerError, 503: openai.InternalServerError,
    }  # fmt: skip
    faults = [
        Fault(fault=status, at=(2 * place, 2 * place + 1), retry_after_s=7 if status == 429 else None)
        for place, status in enumerate(classes)
    ]
    with passing(tmp_path, *faults) as (running, _):
        for status, kind_of_error in classes.items():
            for stream in (False, True):
                with pytest.raises(kind_of_error) as caught:
                    chat(running, kind, stream=stream)
                assert caught.value.status_code == status
                assert caught.value.type in ("invalid_request_error", "server_error")
                assert caught.value.response.headers.get("retry-after") == ("7" if status == 429 else None)
        with pytest.raises(openai.NotFoundError) as unknown:
            call(running, kind, "files.retrieve", file_id="f-1")
        assert unknown.value.status_code == 404


def test_the_clients_retries_come_through(tmp_path: Path) -> None:
    faults = (Fault(fault=429, at=(0,), retry_after_s=0.01), Fault(fault=503, at=(1,)))
    with passing(tmp_path, *faults) as (running, _), running.client().with_options(max_retries=2) as client:
        made = client.chat.completions.create(model="m", messages=user("hello"))
        assert made.choices[0].message.content == SAID
        assert [one.status for one in running.recorded(3)] == [429, 503, 200]


@KINDS
def test_a_student_answers_in_the_same_form(student: Running, kind: str) -> None:
    raw = call(student, kind, "chat.completions.with_raw_response.create", messages=SURE, logprobs=True, top_logprobs=2)
    assert raw.headers["x-aasut-answered-by"] == "student"
    whole = raw.parse()
    assert (whole.model, whole.choices[0].message.content, whole.choices[0].finish_reason) == ("m", "positive", "stop")
    assert [one.token for one in whole.choices[0].logprobs.content[0].top_logprobs] == ["positive", "negative"]
    chunks = call(student, kind, "chat.completions.create", messages=SURE, stream=True)
    assert text_of(chunks) == "positive"
    assert not any(chunk.usage for chunk in chunks)
    options = {"include_usage": True}
    counted = call(student, kind, "chat.completions.create", messages=SURE, stream=True, stream_options=options)
    assert counted[-1].usage == whole.usage
    assert streamed(student, kind, "chat", messages=SURE).choices[0].message.content == "positive"


@KINDS
@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [TEMPERATURE]},
        {"n": 2},
        {"response_format": {"type": "json_object"}},
        {"messages": user("hello")},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_what_the_student_cannot_honour_goes_upstream(student: Running, kind: str, fields: Any) -> None:
    raw = call(student, kind, "chat.completions.with_raw_response.create", **{"messages": SURE} | fields)
    assert raw.headers["x-aasut-answered-by"] == "upstream"
    assert raw.parse().choices[0].message.content in (SAID, "negative")


def test_other_apis_pass_beside_a_student(student: Running) -> None:
    with student.client() as client:
        assert client.responses.create(model="m", input="hello").output_text == SAID
        assert client.embeddings.create(model="m", input="a").data[0].embedding == vector("a")
        parsed = client.chat.completions.parse(model="m", messages=user("who?"), response_format=Person)
        assert parsed.choices[0].message.parsed == ADA
