"""LangChain's and pydantic-ai's OpenAI models, unchanged, through a real gateway: to an upstream, and to a student."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asked import ADA, CALLS, CITIES, SAID, WARM, Person, cascading, passing
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic_ai import Agent, ModelHTTPError, NativeOutput
from pydantic_ai.messages import ImageUrl
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from running import Running, until

from aasut.gateway import traffic
from aasut.teacher.embeddings import vector
from aasut.teacher.faults import Fault

SURE = "Text: a great lovely solid phone"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with passing(tmp_path_factory.mktemp("passing")) as (found, _):
        yield found


@pytest.fixture(scope="module")
def student(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with cascading(tmp_path_factory.mktemp("cascading"), made) as (found, _):
        yield found


@tool
def temperature(city: str) -> str:
    """The temperature in a city."""
    assert city in CITIES
    return "18 degrees"


def langchain(running: Running, **settings: Any) -> ChatOpenAI:
    return ChatOpenAI(base_url=running.url, api_key="sk-of-a-client", model="m", max_retries=0, **settings)


def model(running: Running) -> OpenAIChatModel:
    return OpenAIChatModel("m", provider=OpenAIProvider(base_url=running.url, api_key="sk-of-a-client"))


def answered_by(running: Running, word: bytes, count: int) -> list[str]:
    """Who answered the requests with this word in them, once so many are recorded."""

    def found() -> list[str]:
        return [one.by for one in traffic.exchanges(running.store) if word in one.request]

    until(lambda: len(found()) >= count, f"{count} exchanges are recorded")
    return found()


def test_langchain_invokes_and_streams(running: Running) -> None:
    chat = langchain(running)
    whole = chat.invoke("hello")
    assert whole.content == SAID
    assert whole.usage_metadata is not None
    chunks = list(chat.stream("hello", stream_usage=True))
    assert "".join(str(chunk.content) for chunk in chunks) == SAID
    assert [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata] == [whole.usage_metadata]
    assert [answer.content for answer in chat.batch(["hello", "who?"])] == [SAID, ADA.model_dump_json()]

    async def later() -> list[str]:
        return [str(chunk.content) async for chunk in chat.astream("hello")]

    assert "".join(asyncio.run(later())) == SAID


def test_langchain_calls_tools(running: Running) -> None:
    bound = langchain(running).bind_tools([temperature], parallel_tool_calls=True)
    asked = HumanMessage("how warm?")
    whole = bound.invoke([asked])
    assert [{"name": one["name"], "arguments": one["args"]} for one in whole.tool_calls] == CALLS
    streamed = None
    for chunk in bound.stream([asked]):
        streamed = chunk if streamed is None else streamed + chunk
    assert [one["args"] for one in streamed.tool_calls] == [one["args"] for one in whole.tool_calls]
    results = [temperature.invoke(one) for one in whole.tool_calls]
    assert all(isinstance(one, ToolMessage) for one in results)
    assert bound.invoke([asked, whole, *results]).content == WARM


@pytest.mark.parametrize(
    ("method", "text"), [("json_schema", "who?"), ("json_mode", "who?"), ("function_calling", "who by person?")]
)
def test_langchain_gives_structured_output(running: Running, method: Any, text: str) -> None:
    assert langchain(running).with_structured_output(Person, method=method).invoke(text) == ADA


def test_langchain_embeds_and_asks_by_the_responses_api(running: Running) -> None:
    embeddings = OpenAIEmbeddings(
        base_url=running.url, api_key="sk-of-a-client", model="m", check_embedding_ctx_length=False
    )
    assert embeddings.embed_documents(["a", "b"]) == [vector("a"), vector("b")]
    chat = langchain(running, use_responses_api=True)
    assert chat.invoke("hello").text == SAID
    assert "".join(chunk.text for chunk in chat.stream("hello")) == SAID


def test_langchain_is_answered_by_a_student(student: Running) -> None:
    chat, sure = langchain(student), f"{SURE} langchain"
    assert chat.invoke(sure).content == "positive"
    assert "".join(str(chunk.content) for chunk in chat.stream(sure, stream_usage=True)) == "positive"
    assert chat.invoke("hello langchain").content == SAID
    assert chat.bind_tools([temperature]).invoke("how warm, langchain?").tool_calls
    assert answered_by(student, b"langchain", 4) == ["student", "student", "upstream", "upstream"]


def test_pydantic_ai_runs_and_streams(running: Running) -> None:
    async def main() -> None:
        agent = Agent(model(running), instructions="Be kind.")
        whole = await agent.run("hello")
        assert whole.output == SAID
        async with agent.run_stream("hello") as stream:
            assert "".join([text async for text in stream.stream_text(delta=True)]) == SAID
        image = ImageUrl("https://example.org/a.png")
        assert (await agent.run(["hello", image])).output == SAID

    asyncio.run(main())


def test_pydantic_ai_calls_tools(running: Running) -> None:
    async def main() -> None:
        agent, called = Agent(model(running)), []

        @agent.tool_plain
        def temperature(city: str) -> str:
            called.append(city)
            return "18 degrees"

        assert (await agent.run("how warm?")).output == WARM
        async with agent.run_stream("how warm?") as stream:
            assert await stream.get_output() == WARM
        assert sorted(called) == sorted(CITIES * 2)

    asyncio.run(main())


def test_pydantic_ai_gives_structured_output(running: Running) -> None:
    async def main() -> None:
        by_tool: Agent[None, Person] = Agent(model(running), output_type=Person)
        assert (await by_tool.run("who by final_result?")).output == ADA
        async with by_tool.run_stream("who by final_result?") as stream:
            assert await stream.get_output() == ADA
        native: Agent[None, Person] = Agent(model(running), output_type=NativeOutput(Person))
        assert (await native.run("who?")).output == ADA

    asyncio.run(main())


def test_pydantic_ai_asks_by_the_responses_api(running: Running) -> None:
    provider = OpenAIProvider(base_url=running.url, api_key="sk-of-a-client")

    async def main() -> None:
        agent = Agent(OpenAIResponsesModel("m", provider=provider))
        assert (await agent.run("hello")).output == SAID
        async with agent.run_stream("hello") as stream:
            assert await stream.get_output() == SAID

    asyncio.run(main())


def test_pydantic_ai_is_answered_by_a_student(student: Running) -> None:
    async def main() -> None:
        agent, sure = Agent(model(student)), f"{SURE} pydantic"
        assert (await agent.run(sure)).output == "positive"
        async with agent.run_stream(sure) as stream:
            assert await stream.get_output() == "positive"
        assert (await Agent(model(student), output_type=NativeOutput(Person)).run("who, pydantic?")).output == ADA

    asyncio.run(main())
    assert answered_by(student, b"pydantic", 3) == ["student", "student", "upstream"]


def test_refusals_are_their_own_errors(tmp_path: Path) -> None:
    with passing(tmp_path, Fault(fault=401, at=(0,)), Fault(fault=404, at=(1,))) as (running, _):
        with pytest.raises(Exception, match="Incorrect API key") as caught:
            langchain(running).invoke("hello")
        assert type(caught.value).__name__.endswith("AuthenticationError")
        with pytest.raises(ModelHTTPError) as unknown:
            Agent(model(running)).run_sync("hello")
        assert unknown.value.status_code == 404
