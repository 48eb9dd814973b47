"""Tests of gateway.server: starting, stopping, new settings while it runs, and what it does when it cannot record."""

from __future__ import annotations

import json
import signal
import sqlite3
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml
from running import Running, gateway, until

from aasut.gateway.schema import FILE
from aasut.teacher.faults import Plan
from aasut.teacher.server import ScriptedServer
from command_line import command

RULES = {"": "first"}
ASKED: Any = [{"role": "user", "content": "What is it?"}]


def say(running: Running) -> str:
    with running.client() as client:
        return str(client.chat.completions.create(model="m", messages=ASKED).choices[0].message.content)


def settings(path: Path, url: str, **more: Any) -> Path:
    path.write_text(yaml.safe_dump({"upstream": {"base_url": url}, **more}), encoding="utf-8")
    return path


def test_a_signal_ends_it_after_the_requests_under_way(tmp_path: Path) -> None:
    with (
        ScriptedServer(RULES, Plan(latency_s=1.0)) as server,
        gateway(tmp_path / "traffic", "--upstream", server.url) as running,
    ):
        answers: list[str] = []
        thread = threading.Thread(target=lambda: answers.append(say(running)))
        thread.start()
        until(lambda: server.stats()["requests"], "the upstream is asked")
        assert running.stop() == 0
        thread.join()
        assert answers == ["first"]
        assert [one.status for one in running.recorded(1)] == [200]
        assert len(running.events("start")) == len(running.events("stop")) == 1


def test_what_does_not_end_in_time_is_ended_and_recorded(tmp_path: Path) -> None:
    flags = ("--set", "listen.drain_s=1")
    with (
        ScriptedServer(RULES, Plan(latency_s=60.0)) as server,
        gateway(tmp_path / "traffic", "--upstream", server.url, *flags) as running,
    ):
        failed: list[Exception] = []

        def ask() -> None:
            try:
                say(running)
            except openai.OpenAIError as error:
                failed.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        until(lambda: server.stats()["requests"], "the upstream is asked")
        assert running.stop() == 0
        thread.join()
        assert failed
        assert [one.fault for one in running.recorded(1)] == ["stopped"]


@contextmanager
def asking(running: Running) -> Iterator[list[object]]:
    """Requests from three threads without a pause; yields what came of them so far."""
    came: list[object] = []
    stop = threading.Event()

    def ask() -> None:
        with running.client() as client:
            while not stop.is_set():
                try:
                    answer = client.chat.completions.create(model="m", messages=ASKED)
                    came.append(answer.choices[0].message.content)
                except openai.OpenAIError as error:
                    came.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield came
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_new_settings_are_taken_without_a_dropped_request(tmp_path: Path) -> None:
    store = tmp_path / "traffic"
    with ScriptedServer(RULES) as first, ScriptedServer({"": "second"}) as second:
        path = settings(tmp_path / "gateway.yaml", first.url)
        with gateway(store, "--config", path) as running:
            with asking(running) as came:
                until(lambda: len(came) > 20, "requests are answered")
                settings(path, second.url, record={"redact": ["It"]})
                assert command("gateway", "reload", "--store", store)[0] == 0
                until(lambda: came[-1] == "second", "the new upstream answers")
            assert set(came) == {"first", "second"}
            until(lambda: running.events("reload"), "the new settings are noted")
            found = running.recorded(len(came))
            assert len(found) == len(came)
            said = [json.loads(one.response)["choices"][0]["message"]["content"] for one in found]
            assert sorted(said) == sorted(map(str, came))
            assert json.loads(found[-1].request)["messages"][0]["content"] == "What is it?"  # no match: It


def test_settings_that_are_wrong_change_nothing(tmp_path: Path) -> None:
    store = tmp_path / "traffic"
    with ScriptedServer(RULES) as server:
        path = settings(tmp_path / "gateway.yaml", server.url)
        with gateway(store, "--config", path) as running:
            path.write_text("upstream: {base_url: ftp://x}", encoding="utf-8")
            running.process.send_signal(signal.SIGHUP)
            (why,) = until(lambda: running.events("reload_failed"), "the settings are refused")
            assert "upstream.base_url" in why
            settings(path, server.url, listen={"header_timeout_s": 1})
            running.process.send_signal(signal.SIGHUP)
            until(lambda: len(running.events("reload_failed")) == 2, "what a running server cannot take is refused")
            settings(path, server.url, student={"run": "none"})
            running.process.send_signal(signal.SIGHUP)
            until(lambda: len(running.events("reload_failed")) == 3, "a student that is not there is refused")
            assert "There is no run" in running.events("reload_failed")[2]
            assert say(running) == "first"
            assert not running.events("reload")


def test_two_gateways_do_not_share_a_folder_nor_a_port(tmp_path: Path) -> None:
    store = tmp_path / "traffic"
    with gateway(store, "--upstream", "http://127.0.0.1:9/v1") as running:
        code, _, said = command("gateway", "--upstream", "http://127.0.0.1:9/v1", "--store", store)
        assert (code, said) == (
            1,
            f"aasut: Another gateway uses {store} (process {running.process.pid}). Stop it, or give another --store.\n",
        )
        code, _, said = command(
            "gateway", "--upstream", "http://127.0.0.1:9/v1", "--store", tmp_path / "b", "--port", running.port
        )
        assert (code, said) == (
            1,
            f"aasut: Port {running.port} on 127.0.0.1 is taken. Stop what listens there, or use --port.\n",
        )


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "Give --upstream URL, or --config FILE"),
        (["--upstream", "api.openai.com"], 1, "upstream.base_url: String should match pattern"),
        (["--upstream", "http://x/v1", "--set", "record.keep=1"], 1, "record.keep: there is no such field"),
        (["--upstream", "http://x/v1", "--student", "none"], 1, "There is no run"),
        (["--upstream", "http://x/v1", "--mode", "shadow"], 1, "student.run: is required"),
        (["--upstream", "http://x/v1", "--api-key-env", "NO_SUCH_KEY"], 1, "NO_SUCH_KEY holds no key for http://x/v1"),
        (["--config", "none.yaml"], 1, "none.yaml"),
        (["--upstream", "http://x/v1", "--host", "0.0.0.0"], 1, "0.0.0.0"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, words: list[str], code: int, said: str) -> None:
    found, _, told = command("gateway", "--store", tmp_path / "traffic", "--port", "0", *words)
    assert (found, said in told, told.count("\n")) == (code, True, 1)


def test_no_gateway_to_tell_anything(tmp_path: Path) -> None:
    code, _, said = command("gateway", "reload", "--store", tmp_path)
    assert (code, "No gateway runs with" in said) == (1, True)


@pytest.mark.parametrize("strict", [False, True])
def test_a_full_disk(tmp_path: Path, strict: bool) -> None:
    store, flags = tmp_path / "traffic", ["--record-strict"] if strict else []
    big: Any = [{"role": "user", "content": "word " * 40_000}]
    with (
        ScriptedServer(RULES) as server,
        gateway(store, "--upstream", server.url, *flags, largest_file=400_000) as running,
        running.client() as client,
    ):
        refused = []
        for _ in range(8):
            try:
                client.chat.completions.create(model="m", messages=big)
            except openai.InternalServerError as error:
                refused.append(error.code)
        assert set(refused) == ({"not_recorded"} if strict else set())
        until(lambda: running.get("/health")["status"] == "failing", "it says that it does not record")
        assert running.get("/health")["recording"]["failing"]
        until(lambda: any("Recording fails" in line for line in running.said), "the log says so")
        with urllib.request.urlopen(running.url.removesuffix("/v1") + "/metrics") as page:
            assert b"recorder_failing 1" in page.read()
        asked = server.stats()["requests"]
        if strict:
            with pytest.raises(openai.InternalServerError, match="cannot record"):
                client.chat.completions.create(model="m", messages=ASKED)
            assert server.stats()["requests"] == asked  # refused before anything was paid
        else:
            assert client.chat.completions.create(model="m", messages=ASKED).choices


def killed(running: Running) -> list[tuple[str, float]]:
    """Kill a gateway under load; (id, age at the kill in seconds) of each request whose answer was whole."""
    came: list[tuple[str, float]] = []

    def ask() -> None:
        request = urllib.request.Request(running.url + "/chat/completions", BODY, {"content-type": "application/json"})
        while True:
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    answer.read()
                    came.append((answer.headers["x-aasut-request-id"], time.monotonic()))
            except OSError:
                return

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: len(came) > 40, "requests are answered")
    time.sleep(0.15)
    end = time.monotonic()
    running.process.kill()
    for thread in threads:
        thread.join()
    return [(name, end - at) for name, at in came]


BODY = json.dumps({"model": "m", "messages": ASKED}).encode()


def test_twenty_kills_under_load_lose_nothing_older_than_a_tenth_of_a_second(tmp_path: Path) -> None:
    store = tmp_path / "traffic"
    old = set()
    with ScriptedServer(RULES) as server:
        for _ in range(20):
            with gateway(store, "--upstream", server.url) as running:
                old |= {name for name, age in killed(running) if age > 0.1}
    with closing(sqlite3.connect(store / FILE)) as database:
        written = [name for (name,) in database.execute("SELECT id FROM exchange")]
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert len(old) > 20 * 20
    assert len(written) == len(set(written))
    assert old <= set(written)
