from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from collector import attributes, collecting
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from aasut.gateway.exchange import Decision, Exchange
from aasut.gateway.spans import Spans
from aasut.gateway.trace import begin

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
BODY = b'{"id": "x", "object": "chat.completion", "model": "gpt-4o-mini-2024-07-18", "choices": [{"model": "no"}]}'


def say(level: str, message: str) -> None:
    raise AssertionError(f"{level}: {message}")


def exported(exchange: Exchange, error: str = "", base_url: str = "https://api.openai.com/v1") -> list[Any]:
    with collecting() as collector:
        spans = Spans(collector.url, base_url, say)
        spans.done(exchange, "chat", error, exchange.model)
        spans.close()
        return collector.spans()


def exchange(**more: Any) -> Exchange:
    given = {"trace": begin(PARENT, "vendor=1"), "model": "gpt-4o-mini", "status": 200, "latency_s": 1.5, "at": 1.8e9}
    return Exchange("/v1/chat/completions", **{**given, **more})


def test_a_call_upstream_has_the_conventions_names() -> None:
    one = exchange(streamed=True, first_byte_s=0.25, response=BODY, prompt_tokens=100, completion_tokens=7,
                   cached_tokens=64, counted=True, usd=0.5, key="shop",
                   decision=Decision(run="r", reason="low score"))  # fmt: skip
    (span,) = exported(one)
    assert span.name == "chat gpt-4o-mini"
    assert span.kind == Span.SPAN_KIND_CLIENT
    assert span.status.code == Status.STATUS_CODE_UNSET
    assert span.trace_id.hex() == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert span.parent_span_id.hex() == "00f067aa0ba902b7"
    assert one.trace is not None
    assert f"-{span.span_id.hex()}-" in one.trace.headers()["traceparent"]
    assert span.trace_state == "vendor=1"
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (1_800_000_000 * 10**9, 1_800_000_001_500_000_000)
    assert attributes(span) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.request.stream": True,
        "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
        "gen_ai.response.time_to_first_chunk": 0.25,
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": 64,
        "http.response.status_code": 200,
        "server.address": "api.openai.com",
        "server.port": 443,
        "aasut.gateway.by": "upstream",
        "aasut.gateway.key": "shop",
        "aasut.gateway.request_id": one.id,
        "aasut.gateway.run": "r",
        "aasut.gateway.reason": "low score",
        "aasut.gateway.usd": 0.5,
        "aasut.gateway.saved_usd": 0.0,
    }


def test_the_students_answer_is_the_gateways_own_work() -> None:
    one = exchange(by="student", saved_usd=0.1, decision=Decision(run="r", accepted=True, audit="agreed"))
    (span,) = exported(one, base_url="http://127.0.0.1:8001/v1")
    assert span.kind == Span.SPAN_KIND_SERVER
    found = attributes(span)
    assert found["gen_ai.provider.name"] == "aasut"
    assert found["aasut.gateway.audit"] == "agreed"
    assert "server.address" not in found


def test_the_upstreams_port_is_told() -> None:
    (span,) = exported(exchange(), base_url="http://127.0.0.1:8001/v1")
    assert attributes(span)["server.port"] == 8001


def test_an_upstream_that_has_moved_is_told() -> None:
    with collecting() as collector:
        spans = Spans(collector.url, "http://127.0.0.1:8001/v1", say)
        spans.upstream("https://api.mistral.ai/v1")
        spans.done(exchange(), "chat", "", "m")
        spans.close()
        found = attributes(collector.spans()[0])
    assert (found["server.address"], found["server.port"]) == ("api.mistral.ai", 443)
    assert found["gen_ai.provider.name"] == "mistral_ai"


def test_an_error_is_one() -> None:
    (span,) = exported(exchange(status=200, fault="client_gone", response=BODY), "client_gone")
    assert span.status.code == Status.STATUS_CODE_ERROR
    found = attributes(span)
    assert found["error.type"] == "client_gone"
    assert "gen_ai.response.model" not in found


def test_a_trace_of_ones_own_has_no_parent() -> None:
    (span,) = exported(exchange(trace=begin()))
    assert span.parent_span_id == b""


@pytest.mark.parametrize("trace", [None, begin(PARENT[:-1] + "0")])
def test_what_is_not_sampled_is_not_exported(trace: Any) -> None:
    assert exported(exchange(trace=trace)) == []


def test_spans_go_in_batches_under_the_services_name() -> None:
    with collecting() as collector:
        spans = Spans(collector.url, "http://127.0.0.1:8001/v1", say)
        for _ in range(300):
            spans.done(exchange(trace=begin()), "chat", "", "m")
        spans.close()
        assert len(collector.spans()) == 300
        assert len(collector.bodies) <= 3
        resource = collector.requests()[0].resource_spans[0].resource
    assert attributes(resource)["service.name"] == "aasut-gateway"


def test_a_collector_that_fails_is_told_of_and_holds_up_nobody() -> None:
    told: list[tuple[str, str]] = []
    with collecting(status=400) as collector:
        spans = Spans(collector.url, "http://127.0.0.1:8001/v1", lambda *said: told.append(said))
        for _ in range(2000):
            spans.done(exchange(), "chat", "", "m")
        spans.close()
        assert len(collector.bodies) > 1
    assert [level for level, _ in told] == ["error"]  # once, not for each batch
    assert "Failed to export" in told[0][1]


def test_a_collector_that_is_not_there_does_not_keep_the_gateway_from_closing() -> None:
    with collecting() as collector:
        url = collector.url
    told: list[tuple[str, str]] = []
    spans = Spans(url, "http://127.0.0.1:8001/v1", lambda *said: told.append(said))
    spans.done(exchange(), "chat", "", "m")
    spans.close(0.2)
    assert told


def test_without_the_extra_there_is_one_clear_line() -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from aasut.errors import AasutError\n"
        "from aasut.gateway.observe import Observer\n"
        "from aasut.gateway.settings import parse\n"
        "plain = {'upstream': {'base_url': 'http://127.0.0.1:1/v1'}, 'observe': {}}\n"
        "Observer(parse(plain, 'x')).close()\n"
        "plain['observe']['otlp_url'] = 'http://127.0.0.1:1/v1/traces'\n"
        "try: Observer(parse(plain, 'x'))\n"
        "except AasutError as error: print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "observe.otlp_url is set, and opentelemetry" in ran.stdout
    assert "pip install 'aasut[otel]'" in ran.stdout
    assert len(ran.stdout.splitlines()) == 1
