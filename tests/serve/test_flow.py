"""Requests that join and leave answers under way: a random Llama on OpenVINO, over a real socket."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import openai
import pytest

from aasut.engine import openvino
from aasut.engine.base import Piece, Prompt, Session, write
from aasut.engine.openvino import OpenVinoEngine
from aasut.formats import gguf_write
from aasut.prompts import PromptTemplate
from aasut.serve.batch import batcher
from aasut.serve.flow import Flow
from aasut.serve.refusal import Refusal
from aasut.serve.student import ServedStudent
from aasut.tasks import Generate
from served import serving

PROMPT = PromptTemplate.of("Please read this.\nText: {text}\nAnswer:")
SHORT = PromptTemplate.of("{text} =")
LONG = 450  # tokens


class Watched:
    """A real session whose steps can be held up, and which notes what it is asked."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.gate = threading.Event()
        self.gate.set()
        self.steps = 0
        self.left: list[int] = []
        self.broken = self.closed = False

    def add(self, prompt: Prompt) -> int:
        return self.session.add(prompt)

    def step(self) -> list[tuple[int, Piece | Exception]]:
        assert self.gate.wait(20)
        self.steps += 1
        if self.broken:
            raise RuntimeError("secret reason")
        return self.session.step()

    def cancel(self, row: int) -> None:
        self.left.append(row)
        self.session.cancel(row)

    def __len__(self) -> int:
        return len(self.session)

    def close(self) -> None:
        self.closed = True
        self.session.close()


class Watching:
    """The engine, with its sessions watched."""

    def __init__(self, engine: OpenVinoEngine) -> None:
        self.engine = engine
        self.sessions: list[Watched] = []

    def session(self, rows: int) -> Watched:
        self.sessions.append(Watched(self.engine.session(rows)))
        return self.sessions[-1]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)


@pytest.fixture(scope="module")
def engine(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> OpenVinoEngine:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    gguf_write.write(tiny_llama, path, "bf16")
    return openvino.load(path, precision="float32")


@pytest.fixture
def watching(engine: OpenVinoEngine) -> Watching:
    return Watching(engine)


@pytest.fixture
def student(watching: Watching) -> ServedStudent:
    return ServedStudent(Generate(PROMPT, 12), SHORT, watching, "writer", "0" * 64)  # type: ignore[arg-type]


@pytest.fixture
def port(student: ServedStudent) -> Iterator[int]:
    with serving(student, largest_batch=2) as port:
        yield port


@pytest.fixture
def watched(port: int, watching: Watching) -> Watched:
    (session,) = watching.sessions
    return session


def ask(text: str, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"Please read this.\nText: {text}\nAnswer:"}]
    return {"model": "writer", "messages": messages} | fields


def send(port: int, body: dict[str, Any]) -> socket.socket:
    raw = json.dumps(body).encode()
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sendall(
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(raw)}\r\n\r\n".encode() + raw
    )
    return connection


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def client_of(port: int) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0)


def test_many_at_once_get_what_each_gets_alone(port: int, engine: OpenVinoEngine) -> None:
    async def text(client: openai.AsyncOpenAI, number: int) -> tuple[str | None, str, int]:
        made = await client.chat.completions.create(**ask("good " * number, max_tokens=3 + 5 * number))
        assert made.usage is not None
        return made.choices[0].message.content, made.choices[0].finish_reason, made.usage.completion_tokens

    async def all_at_once() -> list[tuple[str | None, str, int]]:
        async with client_of(port) as client:
            return await asyncio.gather(*(text(client, number) for number in range(1, 9)))

    found = asyncio.run(all_at_once())
    alone = [write(engine, [Prompt("good " * number + " =", 3 + 5 * number)])[0] for number in range(1, 9)]
    assert found == [(one.text.lstrip(), one.finish, one.tokens) for one in alone]


def test_who_comes_later_does_not_wait_for_those_under_way(port: int, watched: Watched) -> None:
    with closing(send(port, ask("bad", max_tokens=LONG, stream=True))) as long:
        assert long.recv(1000).startswith(b"HTTP/1.1 200")
        with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) as client:
            client.chat.completions.create(**ask("good", max_tokens=5))
        assert len(watched) == 1
        assert watched.steps < LONG
    wait_until(lambda: len(watched) == 0)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_frees_its_place(port: int, watched: Watched, stream: bool) -> None:
    connections = [send(port, ask(text, max_tokens=LONG, stream=stream)) for text in ("good", "bad", "so")]
    wait_until(lambda: len(watched) == 3)  # two under way, one waiting
    watched.gate.clear()
    for connection in connections[1:]:
        connection.close()
    time.sleep(0.2)  # the server learns of it while the engine is held up
    watched.gate.set()
    wait_until(lambda: len(watched) == 1)
    assert sorted(watched.left) == [1, 2]
    answer = b""
    while b"finish_reason" not in answer or (stream and b"[DONE]" not in answer):
        answer += connections[0].recv(100_000)
    connections[0].close()
    assert watched.steps < 2 * LONG  # the third was not worked on after the first two
    assert sorted(watched.left) == [1, 2]


def test_too_many_are_turned_away(student: ServedStudent, watching: Watching) -> None:
    with serving(student, largest_batch=1, waiting=1) as port:
        (watched,) = watching.sessions
        watched.gate.clear()
        connections = [send(port, ask("good", max_tokens=3)) for _ in range(2)]
        answers: list[bytes] = []
        wait_until(lambda: answers.append(_whole(port, ask("good", max_tokens=3))) or b" 503 " in answers[-1])
        assert b'"overloaded"' in answers[-1]
        watched.gate.set()
        for connection in connections:
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
            connection.close()


def _whole(port: int, body: dict[str, Any]) -> bytes:
    with closing(send(port, body)) as connection:
        connection.settimeout(0.5)
        try:
            return connection.recv(10_000)
        except TimeoutError:
            return b""


def test_a_prompt_that_is_too_long_is_refused_and_disturbs_no_other(port: int) -> None:
    async def both() -> list[Any]:
        async with client_of(port) as client:
            asked = (ask("zq" * 400), ask("good"), ask("good", max_tokens=600))
            made = (client.chat.completions.create(**one) for one in asked)
            return await asyncio.gather(*made, return_exceptions=True)

    first, second, third = asyncio.run(both())
    assert isinstance(first, openai.BadRequestError)
    assert "context" in first.message
    assert second.choices[0].message.content
    assert isinstance(third, openai.BadRequestError)


def test_an_engine_that_fails_fails_all_under_way_and_the_server_lives(
    port: int, watched: Watched, capfd: pytest.CaptureFixture[str]
) -> None:
    watched.broken = True
    with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            client.chat.completions.create(**ask("good"))
        assert "secret" not in str(caught.value.body)
        watched.broken = False
        assert client.chat.completions.create(**ask("good")).choices[0].message.content
    assert "secret reason" in capfd.readouterr().err


def test_closing_ends_the_thread_and_leaves_the_engine_free(
    student: ServedStudent, watching: Watching, engine: OpenVinoEngine
) -> None:
    async def begin() -> None:
        waiter = batcher(student, 4, 10)
        assert isinstance(waiter, Flow)
        answer = waiter.ask(Prompt("good =", LONG))
        await anext(answer)
        await asyncio.to_thread(waiter.close)
        await answer.aclose()

    asyncio.run(begin())
    assert watching.sessions[0].closed
    assert engine.paged.blocks.free == engine.paged.blocks.count
    assert not any(thread.name == "engine" for thread in threading.enumerate())


def test_room_is_counted_over_all_that_are_open(engine: OpenVinoEngine) -> None:
    async def fill() -> None:
        flow = Flow(engine.session(1), 2)
        first, second, third = (flow.ask(Prompt("good =", LONG)) for _ in range(3))
        await anext(first)
        waiting = asyncio.create_task(anext(second))
        await asyncio.sleep(0)
        with pytest.raises(Refusal):
            await anext(third)
        await first.aclose()
        assert (await waiting).text
        await second.aclose()
        again = flow.ask(Prompt("good =", 2))
        assert [piece async for piece in again][-1].finish
        await asyncio.to_thread(flow.close)

    asyncio.run(fill())
