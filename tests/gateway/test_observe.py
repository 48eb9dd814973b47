from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from collector import collecting

from aasut.gateway import keyring
from aasut.gateway.exchange import Decision, Exchange
from aasut.gateway.keys import Keys
from aasut.gateway.limits import Limits
from aasut.gateway.observe import LONGEST, Observer, shown
from aasut.gateway.settings import Settings, parse
from aasut.serve.protocol import Refusal


def settings(**observe: Any) -> Settings:
    return parse({"upstream": {"base_url": "http://127.0.0.1:8001/v1"}, "observe": observe}, "settings")


def exchange(**more: Any) -> Exchange:
    given = {"model": "m", "status": 200, "latency_s": 0.0125, "at": 1.8e9}
    return Exchange("/v1/chat/completions", **{**given, **more})


def lines(observer: Observer, stream: io.StringIO) -> list[dict[str, Any]]:
    observer.close()
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_request_is_one_line() -> None:
    stream = io.StringIO()
    observer = Observer(settings(log="all"), stream)
    one = exchange(key="shop", prompt_tokens=9, completion_tokens=3, usd=0.5, request=b"body", response=b"body",
                   decision=Decision(reason="low score", audit="agreed"))  # fmt: skip
    observer.done(one)
    assert lines(observer, stream) == [
        {
            "time": "2027-01-15T08:00:00.012+00:00",
            "level": "info",
            "id": one.id,
            "key": "shop",
            "model": "m",
            "status": 200,
            "by": "upstream",
            "reason": "low score",
            "prompt_tokens": 9,
            "completion_tokens": 3,
            "usd": 0.5,
            "saved_usd": 0.0,
            "latency_ms": 12.5,
            "fault": "",
            "audit": "agreed",
        }
    ]


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("none", []),
        ("errors", ["warning", "warning", "error", "error", "error"]),
        ("all", ["info", "warning", "warning", "error", "error", "error"]),
    ],
)
def test_what_is_logged_is_as_the_settings_say(log: str, said: list[str]) -> None:
    stream = io.StringIO()
    observer = Observer(settings(log=log), stream)
    for more in (
        {},
        {"status": 429, "by": "gateway", "fault": "rate_limit_exceeded"},
        {"fault": "client_gone"},
        {"status": 502},
        {"fault": "stream_cut"},
        {"status": 0, "fault": "upstream_gone"},
    ):
        observer.done(exchange(**more))
    observer.event("error", "of the gateway itself")
    found = lines(observer, stream)
    assert [line["level"] for line in found[:-1]] == said
    assert found[-1]["message"] == "of the gateway itself"


def test_changes_of_state_are_told_once() -> None:
    stream = io.StringIO()
    observer = Observer(settings(log="none"), stream)
    for failing in ("", "disk full", "disk full", "", ""):
        observer.recorder(3, 7, failing)
    for alarm in ("", "drift", "drift"):
        observer.student(not alarm, alarm)
    observer.in_flight(4)
    page = observer.render().decode()
    for line in ("in_flight 4.0", "recorder_queue 3.0", "recorder_lost_total 7.0", "recorder_failing 0.0",
                 "alarm 1.0", "student_up 0.0"):  # fmt: skip
        assert f"aasut_gateway_{line}\n" in page
    said = [line["message"] for line in lines(observer, stream)]
    assert said == ["Recording fails: disk full", "Recording goes on.", "The student is off: drift"]


def test_without_metrics_there_is_no_page() -> None:
    observer = Observer(settings(metrics=False), io.StringIO())
    observer.done(exchange())
    observer.in_flight(1)
    observer.recorder(0, 0, "")
    observer.student(True, "")
    assert observer.render() == b""
    assert observer.begin(None) is None
    observer.close()


@pytest.mark.parametrize("model", ["\ud800", 'q"uote\\', "a\nb 1\n# HELP x", "é" * 500, "", "x\x00"])
def test_a_models_name_breaks_no_page_and_no_line(model: str) -> None:
    stream = io.StringIO()
    with collecting() as collector:
        observer = Observer(settings(log="all", otlp_url=collector.url), stream)
        observer.done(exchange(model=model, trace=observer.begin(None)))
        observer.render().decode("utf-8")
        (line,) = lines(observer, stream)
        assert len(line["model"]) <= LONGEST
        assert len(collector.spans()) == 1


def test_no_secret_is_in_logs_metrics_spans_or_the_folder(tmp_path: Path) -> None:
    """Secrets where clients put them, rightly and wrongly: headers, bodies, the model's name, the path."""
    secret, _ = keyring.add(tmp_path, "shop", 0.0, requests_per_minute=1)
    stranger, _ = keyring.new_secret()
    upstream = "sk-proj-0123456789abcdefghijklmnop"
    keys, limits, stream = Keys.load(tmp_path), Limits(), io.StringIO()
    told: list[str] = []  # to the clients
    with collecting() as collector:
        observer = Observer(settings(log="all", otlp_url=collector.url), stream)

        def request(authorization: str, model: str, path: str) -> None:
            one = exchange(model=model, trace=observer.begin(None, authorization))
            one.path = path
            one.request = one.response = f'{{"model": "m", "key": "{authorization}"}}'.encode()
            try:
                key = keys.identify(authorization)
                one.key = "" if key is None else key.name
                with limits.admit(key, model) as hold:
                    hold.settle(1, 0.0)
            except Refusal as refusal:
                one.by, one.status, one.response = "gateway", refusal.status, json.dumps(refusal.body).encode()
                told.append(json.dumps(refusal.body))
            observer.done(one)

        chat = "/v1/chat/completions"
        for hidden in (secret, stranger, upstream):
            request(f"Bearer {hidden}", "m", chat)
            request(f"Bearer {hidden}", "m", f"{chat}?api_key={hidden}")
            request(f"Bearer {hidden}", f"x {hidden}", chat)
            request(f"Bearer {secret}", f"{'m' * 90}{hidden}", f"/v1/{hidden}")
        keys.refresh()
        page = observer.render().decode()
        observer.close()
        bodies = b"".join(collector.bodies)
        assert len(collector.spans()) == 12
    log = stream.getvalue()
    assert len(log.splitlines()) == 12
    assert '"status": 401' in log
    assert len(told) > 5
    folder = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for hidden in (secret, stranger, upstream):
        for part in (hidden, hidden[18:30], hidden[-12:]):
            assert part not in log
            assert part not in page
            assert part not in "".join(told)
            assert part.encode() not in bodies
            assert part.encode() not in folder


def test_names_are_shown_cut() -> None:
    assert shown("gpt-4o-mini") == "gpt-4o-mini"
    assert shown("Bearer abcdefghijkl") == "[secret]"
    assert len(shown("x" * 1000)) == LONGEST
