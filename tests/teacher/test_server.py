from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import openai
import pytest

from aasut.errors import AasutError
from aasut.formats.tokenizer import Tokenizer
from aasut.store import digest
from aasut.teacher.faults import Fault, Plan
from aasut.teacher.server import ScriptedServer

RULES = {"great": "positive", "": "negative"}


def plan(*faults: Fault, **settings: Any) -> Plan:
    return Plan(faults=faults, **settings)


def body(text: str = "great", **fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}]} | fields


class Client:
    """One connection, kept open."""

    def __init__(self, server: ScriptedServer | str) -> None:
        place = server if isinstance(server, str) else f"{server.host}:{server.port}"
        self.http = http.client.HTTPConnection(place, timeout=20)

    def ask(
        self, plain: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, http.client.HTTPResponse]:
        data = plain if isinstance(plain, bytes) else json.dumps(plain or body())
        self.http.request("POST", "/v1/chat/completions", data, headers or {})
        response = self.http.getresponse()
        raw = response.read()
        return response.status, json.loads(raw) if raw[:1] == b"{" and raw[-1:] == b"}" else raw, response

    def get(self, path: str) -> Any:
        self.http.request("GET", path)
        return json.loads(self.http.getresponse().read())


def test_the_official_client_is_served() -> None:
    with ScriptedServer(RULES) as server, openai.OpenAI(base_url=server.url, api_key="k", max_retries=0) as client:
        made = client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "great"}], logprobs=True, top_logprobs=2
        )
        assert made.choices[0].message.content == "positive"
        assert made.usage is not None
        assert made.usage.completion_tokens == 2
        listed = made.choices[0].logprobs
        assert listed is not None
        assert listed.content is not None
        assert [[bytes(other.bytes or []) for other in token.top_logprobs] for token in listed.content] == [
            [b"posi", b"nega"],
            [b"tive"],
        ]
        assert [model.id for model in client.models.list()] == ["scripted"]
        with pytest.raises(openai.BadRequestError, match="Unsupported parameter: audio"):
            client.chat.completions.create(
                model="m",
                messages=[{"role": "user", "content": "great"}],
                audio={"voice": "alloy", "format": "wav"},
            )
        assert server.stats()["with_key"] == 2


def test_calls_are_counted_by_what_was_asked() -> None:
    faults = Fault(fault=500, at=(1,)), Fault(fault="half", at=(2,))
    with ScriptedServer(RULES, plan(*faults)) as server:
        for text in ("great", "a", "a", "a", "a"):
            client = Client(server)
            try:
                client.ask(body(text))
            except http.client.IncompleteRead:
                continue
        assert client.get("/requests") == {digest(body("great")): [1, 1], digest(body("a")): [4, 2]}
        assert client.get("/stats") == {
            "requests": 5, "answered": 3, "different": 2, "answered_again": 1, "most_at_once": 1, "with_key": 0,
            "left": 0, "faults": {"500": 1, "half": 1},
        }  # fmt: skip


@pytest.mark.parametrize("status", [307, 400, 401, 404, 429, 500, 503])
def test_a_planned_status_is_sent(status: int) -> None:
    with ScriptedServer(RULES, plan(Fault(fault=status, at=(0,)))) as server:
        client = Client(server)
        found, error, _ = client.ask()
        assert (found, set(error["error"])) == (status, {"message", "type", "param", "code"})
        assert client.ask()[1]["choices"][0]["message"]["content"] == "positive"


def test_retry_after_comes_in_seconds_or_as_a_date() -> None:
    faults = (
        Fault(fault=429, at=(0,), retry_after_s=2.5),
        Fault(fault=503, at=(1,), retry_after_s=90, as_date=True, body="busy"),
        Fault(fault=307, at=(2,), location="http://127.0.0.1:1/"),
    )
    with ScriptedServer(RULES, plan(*faults)) as server:
        client = Client(server)
        assert client.ask()[2].headers["Retry-After"] == "2.5"
        _, text, response = client.ask()
        assert text == b"busy"
        assert 85 < parsedate_to_datetime(response.headers["Retry-After"]).timestamp() - time.time() <= 90
        assert client.ask()[2].headers["Location"] == "http://127.0.0.1:1/"


@pytest.mark.parametrize("kind", ["half", "half_chunked", "freeze"])
def test_half_an_answer_ends_in_the_middle(kind: Any) -> None:
    seconds = {"seconds": 0.05} if kind == "freeze" else {}
    with ScriptedServer(RULES, plan(Fault(fault=kind, at=(0,), **seconds))) as server:
        with pytest.raises(http.client.IncompleteRead) as caught:
            Client(server).ask()
        assert caught.value.partial.startswith(b'{"id": "chatcmpl')
        assert server.stats()["answered"] == 0


@pytest.mark.parametrize("fault", [Fault(fault="hang_up", at=(0,)), Fault(fault="stall", at=(0,), seconds=0.05)])
def test_nothing_comes_before_the_end_of_the_connection(fault: Fault) -> None:
    with ScriptedServer(RULES, plan(fault)) as server, pytest.raises(http.client.RemoteDisconnected):
        Client(server).ask()


def test_garbage_pages_and_cut_answers() -> None:
    kinds: Iterable[Any] = ("garbage", "html", "no_usage", "length", "content_filter")
    faults = [Fault(fault=kind, at=(number,)) for number, kind in enumerate(kinds)]
    with ScriptedServer(RULES, plan(*faults)) as server:
        client = Client(server)
        assert client.ask()[:2] == (200, b'{"choices": [')
        assert b"<html>" in client.ask()[1]
        assert "usage" not in client.ask()[1]
        cut, filtered = client.ask()[1]["choices"][0], client.ask()[1]["choices"][0]
        assert (cut["message"]["content"], cut["finish_reason"]) == ("posi", "length")
        assert (filtered["message"]["content"], filtered["finish_reason"]) == ("", "content_filter")
        assert server.stats()["faults"] == dict.fromkeys(kinds, 1)


def test_log_probabilities_can_be_refused() -> None:
    with ScriptedServer(RULES, plan(Fault(fault="no_logprobs", first=0))) as server:
        client = Client(server)
        status, error, _ = client.ask(body(logprobs=True))
        assert (status, "logprobs" in error["error"]["message"]) == (400, True)
        assert client.ask()[0] == 200


def test_slow_and_dripping_answers_take_their_time() -> None:
    faults = Fault(fault="slow", at=(0,), seconds=0.2), Fault(fault="drip", at=(1,), seconds=0.2)
    with ScriptedServer(RULES, plan(*faults)) as server:
        client = Client(server)
        for _ in range(2):
            started = time.monotonic()
            assert client.ask()[1]["choices"][0]["message"]["content"] == "positive"
            assert time.monotonic() - started >= 0.2


def test_calls_beyond_what_it_takes_at_once_are_refused() -> None:
    with ScriptedServer(RULES, plan(latency_s=0.3, most_at_once=2)) as server:
        with ThreadPoolExecutor(5) as pool:
            found = sorted(pool.map(lambda i: Client(server).ask(body(f"{i}"))[0], range(5)))
        assert found == [200, 200, 429, 429, 429]
        assert server.stats()["most_at_once"] <= 5


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: many\r\n\r\n", b"400"),
        (b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", b"413"),
        (b"POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"411"),
        (b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 1\r\n\r\n{", b"400"),
        (b"GET /nowhere HTTP/1.1\r\n\r\n", b"404"),
        (b"X: " + b"a" * 100_000 + b"\r\n\r\n", b"431"),
    ],
)
def test_strange_requests_get_an_error(sent: bytes, status: bytes) -> None:
    with ScriptedServer(RULES) as server:
        with socket.create_connection((server.host, server.port), timeout=20) as raw:
            raw.sendall(sent)
            assert raw.recv(1000).startswith(b"HTTP/1.1 " + status)
        assert Client(server).ask()[0] == 200


def test_a_port_that_is_taken_is_one_clear_line() -> None:
    with (
        ScriptedServer(RULES) as server,
        pytest.raises(AasutError, match="is taken"),
        ScriptedServer(RULES, port=server.port),
    ):
        pass


def test_the_command_serves_files_until_it_is_stopped(tmp_path: Path, tiny_llama: Path) -> None:
    (tmp_path / "rules.json").write_text(json.dumps(RULES))
    (tmp_path / "plan.yaml").write_text("faults: [{fault: 503, at: [0]}]")
    command = [sys.executable, "-m", "aasut", "teacher", "rules.json", "--faults", "plan.yaml", "--port", "0", "--json"]
    command += ["--tokenizer", str(tiny_llama)]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert process.stderr is not None
    ready = json.loads(process.stderr.readline())["message"]
    client = Client(next(word for word in ready.split() if word.startswith("http")).split("/")[2])
    assert client.ask()[0] == 503
    status, made, _ = client.ask(body(logprobs=True, top_logprobs=2))
    said = [bytes(token["bytes"]) for token in made["choices"][0]["logprobs"]["content"]]
    assert (status, len(said)) == (200, len(Tokenizer.load(tiny_llama).encode("positive")))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, json.loads(out)["requests"], err) == (0, 2, "")
