"""Tests of gateway.passing: what goes through a real gateway to a real server, and what is recorded of it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from running import Running, gateway, until

from aasut.teacher.faults import Fault, Plan
from aasut.teacher.server import ScriptedServer

RULES = {"weather": "It will rain in the afternoon.", "great": "positive", "": "negative"}
ASKED: Any = [{"role": "user", "content": "What is the weather?"}]
PRICES = ("--set", "upstream.prices={'*': {input: 1000000, output: 2000000}}")


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedServer]:
    with ScriptedServer(RULES) as server:
        yield server


@pytest.fixture(scope="module")
def running(upstream: ScriptedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with gateway(tmp_path_factory.mktemp("gateway") / "traffic", "--upstream", upstream.url, *PRICES) as found:
        yield found


def broken(tmp_path: Path, *faults: Fault, flags: tuple[object, ...] = (), latency_s: float = 0.0) -> Any:
    """A gateway whose upstream fails as planned."""
    from contextlib import ExitStack, contextmanager

    @contextmanager
    def both() -> Iterator[tuple[Running, ScriptedServer]]:
        with ExitStack() as stack:
            server = stack.enter_context(ScriptedServer(RULES, Plan(faults=faults, latency_s=latency_s)))
            yield stack.enter_context(gateway(tmp_path / "traffic", "--upstream", server.url, *PRICES, *flags)), server

    return both()


def last(running: Running, path: str = "/v1/chat/completions") -> Any:
    """The newest exchange, once all are there."""
    before = len(running._recorded(0, False))
    running.recorded(before)
    return running._recorded(0, False)[-1]


def test_a_whole_answer_passes_unchanged_and_is_recorded(running: Running, upstream: ScriptedServer) -> None:
    before = len(running._recorded(0, False))
    with running.client() as client:
        raw = client.chat.completions.with_raw_response.create(model="m", messages=ASKED, logprobs=True)
    answer = raw.parse()
    assert answer.choices[0].message.content == RULES["weather"]
    assert answer.choices[0].logprobs is not None
    assert raw.headers["x-aasut-answered-by"] == "upstream"
    found = running.recorded(before + 1)[-1]
    assert raw.headers["x-aasut-request-id"] == found.id
    assert (found.by, found.status, found.model, found.fault) == ("upstream", 200, "m", "")
    assert json.loads(found.request)["messages"] == ASKED
    assert json.loads(found.response)["choices"][0]["message"]["content"] == RULES["weather"]
    assert answer.usage is not None
    assert (found.prompt_tokens, found.completion_tokens) == (
        answer.usage.prompt_tokens,
        answer.usage.completion_tokens,
    )
    assert found.usd == found.prompt_tokens + 2 * found.completion_tokens
    assert found.latency_s >= found.first_byte_s > 0
    assert upstream.stats()["with_key"] >= 1  # the client's own


@pytest.mark.parametrize("counts", [False, True])
def test_a_stream_passes_and_is_counted_whether_the_client_asks_or_not(running: Running, counts: bool) -> None:
    before = len(running._recorded(0, False))
    options: Any = {"stream_options": {"include_usage": True}} if counts else {}
    with running.client() as client:
        chunks = list(client.chat.completions.create(model="m", messages=ASKED, stream=True, **options))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == RULES["weather"]
    assert [bool(chunk.usage) for chunk in chunks] == [False] * (len(chunks) - 1) + [counts]
    assert all(chunk.choices for chunk in chunks) == (not counts)
    found = running.recorded(before + 1)[-1]
    assert found.streamed
    assert found.counted
    assert found.completion_tokens > 3
    assert json.loads(found.response)["choices"][0]["message"]["content"] == RULES["weather"]


def test_what_an_api_without_counts_streams_is_estimated(tmp_path: Path) -> None:
    with broken(tmp_path, Fault(fault="no_usage", first=0)) as (running, _), running.client() as client:
        list(client.chat.completions.create(model="m", messages=ASKED, stream=True))
        client.chat.completions.create(model="m", messages=ASKED)
        streamed, whole = running.recorded(2)
        assert not streamed.counted
        assert (streamed.prompt_tokens > 5, streamed.completion_tokens > 3, streamed.usd > 0) == (True, True, True)
        assert (whole.counted, whole.prompt_tokens > 5) == (False, True)


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
def test_the_upstreams_refusals_pass(tmp_path: Path, status: int) -> None:
    fault = Fault(fault=status, at=(0,), retry_after_s=7) if status == 429 else Fault(fault=status, at=(0,))
    with broken(tmp_path, fault) as (running, _), running.client() as client:
        with pytest.raises(openai.APIStatusError) as caught:
            client.chat.completions.create(model="m", messages=ASKED)
        assert caught.value.status_code == status
        assert caught.value.response.headers.get("retry-after") == ("7" if status == 429 else None)
        assert running.recorded(1)[0].status == status


def test_a_page_in_place_of_an_error_becomes_an_error_object(tmp_path: Path) -> None:
    fault = Fault(fault=502, at=(0,), body="<html><h1>Bad Gateway</h1></html>")
    with broken(tmp_path, fault) as (running, _), running.client() as client:
        with pytest.raises(openai.APIStatusError) as caught:
            client.chat.completions.create(model="m", messages=ASKED)
        assert caught.value.status_code == 502
        assert caught.value.body == {
            "message": "The upstream answered 502.", "type": "upstream_error", "param": None, "code": "upstream_error"
        }  # fmt: skip


SLOW = ("--set", "upstream.first_byte_timeout_s=0.3", "--set", "upstream.stall_timeout_s=0.3")


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("hang_up", 502, "upstream_cut"),
        ("half", 502, "upstream_cut"),
        ("half_chunked", 502, "upstream_cut"),
        ("garbage", 502, "upstream_garbage"),
        ("html", 502, "upstream_garbage"),
        ("stall", 504, "upstream_slow"),
        ("freeze", 504, "upstream_slow"),
    ],
)
def test_a_broken_whole_answer_is_one_clear_error(tmp_path: Path, kind: Any, status: int, code: str) -> None:
    with broken(tmp_path, Fault(fault=kind, at=(0,)), flags=SLOW) as (running, _), running.client() as client:
        with pytest.raises(openai.APIStatusError) as caught:
            client.chat.completions.create(model="m", messages=ASKED)
        assert caught.value.status_code == status
        assert isinstance(caught.value.body, dict)
        assert caught.value.body["code"] == code
        assert (running.recorded(1)[0].status, running.recorded(1)[0].fault) == (status, code)
        assert client.chat.completions.create(model="m", messages=ASKED).choices[0].message.content


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("half", "upstream_cut"),
        ("half_chunked", "upstream_cut"),
        ("garbage_event", "upstream_garbage"),
        ("freeze", "upstream_slow"),
    ],
)
def test_a_broken_stream_gives_what_came_whole_and_an_error(tmp_path: Path, kind: Any, code: str) -> None:
    with broken(tmp_path, Fault(fault=kind, at=(0,)), flags=SLOW) as (running, _), running.client() as client:
        text, error = "", None
        try:
            for chunk in client.chat.completions.create(model="m", messages=ASKED, stream=True):
                text += chunk.choices[0].delta.content or ""
        except openai.APIError as caught:
            error = caught
        assert RULES["weather"].startswith(text)
        assert text
        assert error is not None
        assert error.code == code
        found = running.recorded(1)[0]
        assert (found.fault, found.streamed, found.usd > 0) == (code, True, True)
        assert json.loads(found.response)["choices"][0]["message"]["content"] == text


@pytest.mark.parametrize("kind", ["hang_up", "garbage", "stall"])
def test_a_stream_that_does_not_begin_is_an_answer_with_an_error(tmp_path: Path, kind: Any) -> None:
    with broken(tmp_path, Fault(fault=kind, at=(0,)), flags=SLOW) as (running, _), running.client() as client:
        with pytest.raises(openai.InternalServerError):
            client.chat.completions.create(model="m", messages=ASKED, stream=True)
        assert running.recorded(1)[0].fault.startswith("upstream_")


def test_nobody_listens_upstream(tmp_path: Path) -> None:
    with gateway(tmp_path / "traffic", "--upstream", "http://127.0.0.1:9/v1", *PRICES) as running:
        with running.client() as client, pytest.raises(openai.InternalServerError, match="cannot be reached") as caught:
            client.chat.completions.create(model="m", messages=ASKED)
        assert "127.0.0.1" not in str(caught.value)
        found = running.recorded(1)[0]
        assert (found.fault, found.usd) == ("upstream_unreachable", 0.0)


@pytest.mark.parametrize("streams", [False, True])
def test_a_client_that_leaves_cancels_the_upstream_and_is_recorded(tmp_path: Path, streams: bool) -> None:
    with broken(tmp_path, Fault(fault="drip", at=(0,), seconds=30)) as (running, server):
        body = json.dumps({"model": "m", "messages": ASKED, "stream": streams}).encode()
        with socket.create_connection(("127.0.0.1", running.port)) as connection:
            head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
            connection.sendall(head % len(body) + body)
            until(lambda: server.stats()["requests"], "the upstream is asked")
            if streams:
                assert b"200 OK" in connection.recv(1000)
        until(lambda: server.stats()["left"], "the upstream is left")
        found = running.recorded(1)[0]
        assert (found.fault, found.status, found.counted) == ("client_gone", 499, False)
        assert found.usd > 0


def test_other_apis_pass_and_count(tmp_path: Path) -> None:
    with gateway(tmp_path / "traffic", "--upstream", "http://127.0.0.1:9/v1") as running, running.client() as client:
        with pytest.raises(openai.InternalServerError):
            client.embeddings.create(model="e", input="text")
        with pytest.raises(openai.InternalServerError):
            client.responses.create(model="r", input="text")
        assert [(one.path, one.model) for one in running.recorded(2)] == [
            ("/v1/embeddings", "e"),
            ("/v1/responses", "r"),
        ]


def test_a_web_page_cannot_spend_the_gateways_own_key(tmp_path: Path, upstream: ScriptedServer) -> None:
    flags = ("--upstream", upstream.url, "--api-key-env", "KEY_OF_THE_TEST")
    with gateway(tmp_path / "traffic", *flags, env={"KEY_OF_THE_TEST": "sk-secret"}) as running:
        page = running.client(default_headers={"origin": "https://page.example"})
        with page, pytest.raises(openai.PermissionDeniedError, match="A web page needs a key"):
            page.chat.completions.create(model="m", messages=ASKED)
        with running.client() as client:
            assert client.chat.completions.create(model="m", messages=ASKED).choices
