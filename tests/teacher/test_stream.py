"""Tests of teacher.stream: a completion as events, from a real scripted server, plain and broken."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import openai
import pytest

from aasut.teacher.faults import Fault, Plan
from aasut.teacher.server import ScriptedServer
from aasut.teacher.stream import DONE

RULES = {"weather": "It will rain in the afternoon.", "": "I do not know."}
ASKED: Any = [{"role": "user", "content": "What is the weather?"}]


def client(server: ScriptedServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)


def test_pieces_joined_are_the_whole_answer() -> None:
    with ScriptedServer(RULES) as server, client(server) as asking:
        whole = asking.chat.completions.create(model="m", messages=ASKED)
        chunks = list(
            asking.chat.completions.create(
                model="m", messages=ASKED, stream=True, stream_options={"include_usage": True}, logprobs=True
            )
        )
    said = [choice for chunk in chunks for choice in chunk.choices]
    assert (
        "".join(choice.delta.content or "" for choice in said) == whole.choices[0].message.content == RULES["weather"]
    )
    assert [choice.finish_reason for choice in said][-1] == "stop"
    assert [c.logprobs.content[0].token for c in said if c.logprobs and c.logprobs.content] == [
        c.delta.content for c in said if c.delta.content
    ]
    assert chunks[-1].usage == whole.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_without_a_count_there_is_none() -> None:
    with ScriptedServer(RULES) as server, client(server) as asking:
        chunks = list(asking.chat.completions.create(model="m", messages=ASKED, stream=True))
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


async def raw(server: ScriptedServer) -> bytes:
    """All that came of a stream, broken or not."""
    got = b""
    async with aiohttp.ClientSession() as session:
        body = {"model": "m", "messages": ASKED, "stream": True}
        async with session.post(server.url + "/chat/completions", json=body) as response:
            try:
                async for part in response.content.iter_any():
                    got += part
            except aiohttp.ClientPayloadError:
                return got + b"<cut>"
    return got


@pytest.mark.parametrize("kind", ["half", "half_chunked", "garbage_event"])
def test_a_broken_stream_ends_without_its_end(kind: Any) -> None:
    with ScriptedServer(RULES, Plan(faults=(Fault(fault=kind, at=(0,)),))) as server:
        got = asyncio.run(raw(server))
        assert got.endswith(b"<cut>")
        assert DONE not in got
        assert server.stats()["answered"] == 0
        assert asyncio.run(raw(server)).endswith(DONE)
    whole = got.removesuffix(b"<cut>").split(b"\n\n")
    assert (whole[-1] != b"") == (kind == "half")  # in the middle of an event
    assert (b"{not json" in got) == (kind == "garbage_event")


async def leave(server: ScriptedServer) -> None:
    """Ask for a stream, leave after its first piece, and wait until the server has seen that."""
    async with aiohttp.ClientSession() as session:
        body = {"model": "m", "messages": ASKED, "stream": True}
        response = await session.post(server.url + "/chat/completions", json=body)
        await response.content.readany()
        response.close()
        while server.stats()["left"] == 0:
            await asyncio.sleep(0.02)


def test_one_who_leaves_is_counted() -> None:
    with ScriptedServer(RULES, Plan(faults=(Fault(fault="drip", at=(0,), seconds=2),))) as server:
        asyncio.run(asyncio.wait_for(leave(server), 20))
        assert server.stats()["left"] == 1
