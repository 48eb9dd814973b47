"""curl through a real gateway: whole answers and streams, errors, HTTP/1.0, and bodies that wait for a 100."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asked import SAID, cascading, passing, user
from running import Running

from aasut.gateway import keyring
from aasut.teacher.faults import Fault

SURE = user("Text: a great lovely solid phone")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with passing(tmp_path_factory.mktemp("passing")) as (found, _):
        yield found


def curl(running: Running, *words: str, body: Any = None, path: str = "/chat/completions") -> tuple[int, str, str]:
    """Exit code, standard output and standard error of curl; `body` is sent as JSON."""
    command = ["curl", "-sS", "--max-time", "60", *words, running.url + path]
    if body is not None:
        command += ["-H", "content-type: application/json", "--data-binary", "@-"]
    ran = subprocess.run(command, input=json.dumps(body), capture_output=True, text=True)
    return ran.returncode, ran.stdout, ran.stderr


def asked(text: str = "hello", **fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": user(text)} | fields


def said(out: str) -> str:
    return str(json.loads(out)["choices"][0]["message"]["content"])


def streamed(out: str) -> str:
    """The text of a stream that came to its end."""
    events = [event.removeprefix("data: ") for event in out.strip().split("\n\n")]
    assert events.pop() == "[DONE]"
    choices = [choice for event in events for choice in json.loads(event)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def test_whole_answers_and_streams(running: Running) -> None:
    code, out, _ = curl(running, body=asked())
    assert (code, said(out)) == (0, SAID)
    code, out, _ = curl(running, "-N", body=asked(stream=True))
    assert (code, streamed(out)) == (0, SAID)
    code, out, _ = curl(running, path="/models")
    assert json.loads(out)["data"][0]["id"] == "scripted"


@pytest.mark.parametrize("stream", [False, True])
def test_http_1_0(running: Running, stream: bool) -> None:
    code, out, told = curl(running, "--http1.0", "-v", body=asked(stream=stream))
    assert (code, streamed(out) if stream else said(out)) == (0, SAID)
    assert "transfer-encoding" not in told.lower()  # HTTP/1.0 knows no chunks


def test_errors_fail_with_their_body(tmp_path: Path) -> None:
    with passing(tmp_path, Fault(fault=429, at=(0,), retry_after_s=3)) as (running, _):
        code, out, _ = curl(running, "--fail-with-body", "-D", str(tmp_path / "head"), body=asked())
        assert code == 22
        assert json.loads(out)["error"]["message"] == "Rate limit reached."
        head = (tmp_path / "head").read_text().lower()
        assert head.startswith("http/1.1 429 ")
        assert "retry-after: 3\n" in head.replace("\r", "")
        code, out, _ = curl(running, "--fail-with-body", "-d", "{")
        assert (code, json.loads(out)["error"]["code"]) == (22, "invalid_json")
        code, out, _ = curl(running, "--fail-with-body", path="/../health")
        assert code in (0, 22)


def test_a_large_body_waits_for_a_100(running: Running) -> None:
    code, out, told = curl(running, "-v", "-H", "Expect: 100-continue", body=asked("hello " + "x" * 3_000_000))
    assert (code, said(out)) == (0, SAID)
    assert "< HTTP/1.1 100 Continue" in told


def test_a_body_over_the_limit_is_refused(tmp_path: Path) -> None:
    with passing(tmp_path, flags=("--set", "listen.body_mb=1")) as (running, server):
        for words in ([], ["-H", "Expect: 100-continue"], ["-H", "Transfer-Encoding: chunked", "-H", "Expect:"]):
            code, out, _ = curl(running, *words, body=asked("x" * 3_000_000))
            assert (code, json.loads(out)["error"]["code"]) == (0, "request_too_large")
        assert server.requests == 0
        assert {(one.status, one.request) for one in running.recorded(3)} == {(413, b"")}


def test_keys(tmp_path: Path) -> None:
    secret, _ = keyring.add(tmp_path / "traffic", "shop", 0.0)
    with passing(tmp_path) as (running, server):
        assert said(curl(running, "-H", f"Authorization: Bearer {secret}", body=asked())[1]) == SAID
        assert said(curl(running, "-H", f"api-key: {secret}", body=asked())[1]) == SAID
        code, out, _ = curl(running, "--fail-with-body", body=asked())
        assert (code, json.loads(out)["error"]["code"]) == (22, "invalid_api_key")
        assert server.requests == 2


def test_a_student_answers(made: Path, tmp_path: Path) -> None:
    with cascading(tmp_path, made) as (running, _):
        for words in ([], ["--http1.0"]):
            _, out, told = curl(running, "-v", *words, body={"model": "m", "messages": SURE})
            assert said(out) == "positive"
            assert "x-aasut-answered-by: student" in told
            _, out, told = curl(running, "-v", "-N", *words, body={"model": "m", "messages": SURE, "stream": True})
            assert streamed(out) == "positive"
            assert "x-aasut-answered-by: student" in told
            assert "content-type: text/event-stream" in told
