"""A real gateway with keys: who gets in, what its limits refuse, and that no secret comes out anywhere."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import openai
import pytest
from answering import answering
from collector import attributes, collecting
from running import Running, gateway, until

from aasut.commands.keys import app as keys_app
from aasut.gateway import keyring
from command_line import command

ANSWER = {
    "id": "x", "object": "chat.completion", "created": 1, "model": "small-1",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "yes"}}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10},
}  # fmt: skip
PRICES = ("--set", "upstream.prices={'*': {input: 1, output: 1}}")
ASKED: Any = [{"role": "user", "content": "?"}]


class Api(ThreadingHTTPServer):
    """An upstream that keeps the headers it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.seen: list[dict[str, str]] = []


class _Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        assert isinstance(self.server, Api)
        self.server.seen.append({name.lower(): value for name, value in self.headers.items()})
        body = json.dumps(ANSWER).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *_: object) -> None:
        """Say nothing."""


@contextmanager
def api() -> Iterator[Api]:
    with answering(Api()) as server:
        yield server


@contextmanager
def guarded(folder: Path, *flags: object) -> Iterator[tuple[Running, Api]]:
    with api() as server:
        url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        with gateway(folder, "--upstream", url, *PRICES, *flags) as running:
            yield running, server


def ask(running: Running, secret: str, model: str = "small-1", **more: Any) -> Any:
    with running.client(secret) as client:
        return client.chat.completions.with_raw_response.create(model=model, messages=ASKED, max_tokens=5, **more)


def page(running: Running, secret: str) -> str:
    asked = urllib.request.Request(running.url.removesuffix("v1") + "metrics", headers={"x-api-key": secret})
    with urllib.request.urlopen(asked) as answer:
        return str(answer.read().decode())


def test_limits_and_refusals_as_official_clients_see_them(tmp_path: Path) -> None:
    store = tmp_path / "traffic"
    secret, _ = keyring.add(store, "shop", 0.0, requests_per_minute=2, models=["small*"])
    poor, _ = keyring.add(store, "poor", 0.0, usd_per_day=1e-9)
    with guarded(store) as (running, server):
        answer = ask(running, secret)
        assert answer.headers["x-ratelimit-remaining-requests"] == "1"
        with pytest.raises(openai.AuthenticationError) as denied:
            ask(running, secret[:-1] + "!")
        assert denied.value.code == "invalid_api_key"
        with pytest.raises(openai.PermissionDeniedError):
            ask(running, secret, "large")
        ask(running, secret)
        with pytest.raises(openai.RateLimitError) as limited:
            ask(running, secret)
        assert limited.value.code == "rate_limit_exceeded"
        assert 1 <= int(limited.value.response.headers["retry-after"]) <= 60
        with pytest.raises(openai.RateLimitError) as broke:
            ask(running, poor)
        assert broke.value.code == "insufficient_quota"
        assert len(server.seen) == 2
        twice = b'{"model": "small-1", "mod\\u0065l": "large", "messages": []}'
        url = f"{running.url}/chat/completions"
        asked = urllib.request.Request(url, twice, {"api-key": secret, "content-type": "application/json"})
        with pytest.raises(urllib.error.HTTPError, match="400"):
            urllib.request.urlopen(asked)
        shown = page(running, secret)
        assert 'by="gateway",model="other",reason="",status="403"' in shown
        assert 'aasut_gateway_faults_total{fault="invalid_api_key"} 1.0' in shown


def test_keys_are_changed_while_it_runs_by_the_commands(tmp_path: Path) -> None:
    store = tmp_path / "traffic"
    first = command("gateway", "keys", "add", "first", "--store", store)[1].strip()
    assert keys_app.info.help
    with guarded(store) as (running, _):
        ask(running, first)
        second = command("gateway", "keys", "add", "second", "--store", store)[1].strip()
        until(lambda: _opens(running, second), "the new key opens")
        assert command("gateway", "keys", "revoke", "first", "--store", store)[0] == 0
        until(lambda: not _opens(running, first), "the old key does not")
        assert _opens(running, second)


def _opens(running: Running, secret: str) -> bool:
    try:
        ask(running, secret)
    except openai.AuthenticationError:
        return False
    return True


def test_a_public_address_without_keys_is_refused(tmp_path: Path) -> None:
    code, _, said = command("gateway", "--upstream", "http://127.0.0.1:1/v1", "--host", "0.0.0.0", "--port", "0",
                            "--store", tmp_path / "traffic")  # fmt: skip
    assert code == 1
    assert "holds no key" in said
    assert len(said.splitlines()) == 1


def test_no_secret_comes_out_anywhere(tmp_path: Path) -> None:
    store = tmp_path / "traffic"
    secret, _ = keyring.add(store, "shop", 0.0)
    stranger, _ = keyring.new_secret()
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    with collecting() as collector:
        flags = ("--set", "observe.log=all", "--set", f"observe.otlp_url={collector.url}")
        with guarded(store, *flags) as (running, server):
            ask(running, secret, extra_headers={"traceparent": parent})
            ask(running, secret, f"m {secret}", extra_body={"messages": [{"role": "user", "content": secret}]})
            with pytest.raises(openai.AuthenticationError) as denied:
                ask(running, stranger, f"m {stranger}")
            shown = page(running, secret)
            running.recorded(2)
            assert running.stop() == 0
            log = "".join(running.said)
        bodies = b"".join(collector.bodies)
        span = next(one for one in collector.spans() if one.trace_id.hex() == parent[3:35])
    assert attributes(span)["gen_ai.request.model"] == "small-1"
    assert server.seen[0]["traceparent"] == f"00-{parent[3:35]}-{span.span_id.hex()}-01"
    assert '"key": "shop"' in log
    files = b"".join(path.read_bytes() for path in store.rglob("*") if path.is_file())
    assert b"shop" in files
    sent = json.dumps(server.seen)  # the virtual key stays here, although the gateway has none of the upstream's
    for part in (secret, secret[20:], stranger, stranger[20:]):
        for place in (log, shown, sent, str(denied.value.body)):
            assert part not in place
        assert part.encode() not in bodies
        assert part.encode() not in files
