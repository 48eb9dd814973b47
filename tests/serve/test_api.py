from __future__ import annotations

import asyncio
import http.client
import json
import math
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

import served
from aasut.engine.base import Prompt, Scores
from aasut.engine.scripted import ScriptedEngine
from aasut.errors import AasutError
from aasut.prompts import PromptTemplate
from aasut.serve import api
from aasut.serve.batch import batcher
from aasut.serve.student import Answer, ServedStudent
from aasut.tasks import Classify

LABELS = tuple(f"label-{n:02d}" for n in range(60))
RULES = {f"<{n}>": label for n, label in enumerate(LABELS)}
PROMPT = [{"role": "system", "content": "Sort it."}, {"role": "user", "content": "Text: {text}\nLabel:"}]


class Gated(ScriptedEngine):
    """Waits in `score` until the gate is open, notes the size of each call, fails on poison."""

    def __init__(self) -> None:
        super().__init__(RULES, context=50)
        self.gate = threading.Event()
        self.gate.set()
        self.sizes: list[int] = []

    def score(self, prompts: Sequence[str], answers: Sequence[str], *, prefix: str = "") -> Scores:
        self.sizes.append(len(prompts))
        assert self.gate.wait(20)
        if any("poison" in prompt for prompt in prompts):
            raise RuntimeError("secret reason")
        return super().score(prompts, answers, prefix=prefix)


def student(engine: ScriptedEngine) -> ServedStudent:
    task = Classify(LABELS, PromptTemplate.of(PROMPT))
    return ServedStudent(task, PromptTemplate.of("{text} ="), engine, "sorter", "ab12" * 16)


def ask(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "system", "content": "Sort it."}, {"role": "user", "content": f"Text: {text}\nLabel:"}]


def serving(engine: ScriptedEngine, **settings: int) -> AbstractContextManager[int]:
    return served.serving(student(engine), **settings)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving(Gated()) as port:
        yield port


@pytest.fixture(scope="module")
def client(port: int) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) as client:
        yield client


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def send(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, Any, http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, body)
    response = connection.getresponse()
    text = response.read()
    connection.close()
    return response.status, json.loads(text), response


def post(port: int, **fields: Any) -> tuple[int, Any]:
    body = {"model": "sorter", "messages": ask("<7>")} | fields
    return send(port, "POST", "/v1/chat/completions", json.dumps(body).encode())[:2]


# --- the official client


def test_a_plain_completion(client: openai.OpenAI) -> None:
    made = client.chat.completions.create(model="sorter", messages=ask("a <7> b"))
    assert made.choices[0].message.content == "label-07"
    assert made.choices[0].message.role == "assistant"
    assert (made.choices[0].finish_reason, made.choices[0].logprobs) == ("stop", None)
    assert made.usage is not None
    assert (made.usage.prompt_tokens, made.usage.completion_tokens, made.usage.total_tokens) == (4, 1, 5)
    assert (made.model, made.object, made.system_fingerprint) == ("sorter", "chat.completion", "fp_ab12ab12ab12")
    assert made.id.startswith("chatcmpl-")
    assert abs(made.created - time.time()) < 60


def test_logprobs(client: openai.OpenAI) -> None:
    made = client.chat.completions.create(
        model="sorter", messages=ask("<7> and <9>, <9>"), logprobs=True, top_logprobs=3
    )
    assert made.choices[0].logprobs is not None
    assert made.choices[0].logprobs.content is not None
    (token,) = made.choices[0].logprobs.content
    assert token.token == "label-07"
    assert bytes(token.bytes or []) == b"label-07"
    assert token.logprob == pytest.approx(math.log(10 / 78))
    assert [t.token for t in token.top_logprobs] == ["label-07", "label-09", "label-00"]
    assert [math.exp(t.logprob) * 78 for t in token.top_logprobs] == pytest.approx([10, 10, 1])


def test_streaming(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="sorter", messages=ask("<7>"), stream=True, logprobs=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert [c.choices[0].delta.content for c in chunks if c.choices] == ["", "label-07", None]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[2].choices[0].finish_reason == "stop"
    assert chunks[1].choices[0].logprobs is not None
    assert (chunks[3].choices, chunks[2].usage) == ([], None)
    assert chunks[3].usage is not None
    assert chunks[3].usage.total_tokens == 3
    assert len(chunks) == 4


def test_the_clients_stream_helper_understands_the_events(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="sorter", messages=ask("<8>")) as stream:
        assert stream.get_final_completion().choices[0].message.content == "label-08"


def test_temperature_draws_from_the_labels_and_a_seed_repeats(client: openai.OpenAI) -> None:
    def draw(**settings: Any) -> str | None:
        made = client.chat.completions.create(model="sorter", messages=ask("<7>"), **settings)
        return made.choices[0].message.content

    seeded = [draw(temperature=2, seed=n) for n in range(20)]
    assert len(set(seeded)) > 5
    assert set(seeded) <= set(LABELS)
    assert [draw(temperature=2, seed=n) for n in range(20)] == seeded
    assert len({draw(temperature=2) for _ in range(20)}) > 5
    assert {draw(temperature=2, top_p=0.01) for _ in range(5)} == {"label-07"}
    assert {draw(seed=n) for n in range(5)} == {"label-07"}


def test_models_and_health(client: openai.OpenAI, port: int) -> None:
    (model,) = client.models.list().data
    assert (model.id, model.object, model.owned_by) == ("sorter", "model", "aasut")
    assert client.models.retrieve("sorter").id == "sorter"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt/4o")
    assert caught.value.code == "model_not_found"
    status, body, _ = send(port, "GET", "/health")
    assert status == 200
    assert body == {"status": "ok", "model": "sorter", "sha256": "ab12" * 16, "engine": "scripted"}


def test_errors_reach_the_client_as_its_own(client: openai.OpenAI) -> None:
    create = client.chat.completions.create
    with pytest.raises(openai.NotFoundError) as missing:
        create(model="gpt-4o", messages=ask("<7>"))
    assert missing.value.code == "model_not_found"
    assert "'sorter'" in missing.value.message
    with pytest.raises(openai.BadRequestError) as mismatch:
        create(model="sorter", messages=[{"role": "user", "content": "Text: <7>"}])
    assert (mismatch.value.code, mismatch.value.param) == ("prompt_mismatch", "messages")
    with pytest.raises(openai.BadRequestError) as tools:
        create(model="sorter", messages=ask("<7>"), tools=[{"type": "function", "function": {"name": "f"}}])
    assert (tools.value.param, tools.value.type) == ("tools", "invalid_request_error")
    with pytest.raises(openai.BadRequestError) as unknown:
        create(model="sorter", messages=ask("<7>"), extra_body={"guided_choice": ["a"]}, stream=True)
    assert (unknown.value.param, unknown.value.code) == ("guided_choice", "unknown_parameter")
    with pytest.raises(openai.BadRequestError) as stop:
        create(model="sorter", messages=ask("<7>"), stop="-0")
    assert stop.value.param == "stop"
    with pytest.raises(openai.BadRequestError) as long:
        create(model="sorter", messages=ask("word " * 60))
    assert "the context has 50" in long.value.message
    with pytest.raises(openai.APIStatusError) as large:
        create(model="sorter", messages=ask("x" * 3_000_000))
    assert (large.value.status_code, large.value.code) == (413, "request_too_large")


def test_an_unexpected_failure_says_nothing_inside_and_all_on_standard_error(
    client: openai.OpenAI, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="sorter", messages=ask("poison"))
    assert caught.value.body is not None
    assert "secret" not in json.dumps(caught.value.body)
    assert (caught.value.code, caught.value.type) == ("internal_error", "server_error")
    shown = capfd.readouterr().err
    assert shown.count("RuntimeError: secret reason") == 1
    assert client.chat.completions.create(model="sorter", messages=ask("<3>")).choices[0].message.content == "label-03"


# --- many at once


def client_of(port: int) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0)


async def label(client: openai.AsyncOpenAI, text: str) -> str | None:
    made = await client.chat.completions.create(model="sorter", messages=ask(text))
    return made.choices[0].message.content


def test_fifty_in_flight_are_scored_together_and_get_their_own_answers() -> None:
    engine = Gated()

    async def all_at_once(port: int) -> list[str | None]:
        engine.gate.clear()
        async with client_of(port) as client:
            tasks = [asyncio.create_task(label(client, f"<{n}>")) for n in range(50)]
            await asyncio.sleep(1)  # they arrive while the engine is busy with the first
            health = await asyncio.to_thread(send, port, "GET", "/health")
            assert health[0] == 200
            engine.gate.set()
            return list(await asyncio.gather(*tasks))

    with serving(engine) as port:
        assert asyncio.run(all_at_once(port)) == list(LABELS[:50])
    assert sum(engine.sizes) == 50
    assert max(engine.sizes) <= 32
    assert len(engine.sizes) <= 10


def test_what_waits_is_scored_in_full_batches_in_order() -> None:
    engine = Gated()

    async def feed() -> list[str]:
        waiter = batcher(student(engine), largest=32, room=100)

        async def answer(text: str) -> Any:
            (said,) = [said async for said in waiter.ask(Prompt(text, 1))]
            return said

        engine.gate.clear()
        first = asyncio.create_task(answer("<50> ="))
        await asyncio.to_thread(wait_until, lambda: engine.sizes == [1])
        rest = [asyncio.create_task(answer(f"<{n}> =")) for n in range(50)]
        await asyncio.sleep(0)
        rest[3].cancel()  # nobody waits for this one any more
        engine.gate.set()
        answers = await asyncio.gather(first, *rest, return_exceptions=True)
        waiter.close()
        return [a.label if isinstance(a, Answer) else type(a).__name__ for a in answers]

    expected = ["label-50", *LABELS[:50]]
    expected[4] = "CancelledError"
    assert asyncio.run(feed()) == expected
    assert engine.sizes == [1, 32, 17]


def test_a_bad_prompt_fails_alone_among_its_neighbours() -> None:
    engine = Gated()

    async def all_at_once(port: int) -> list[Any]:
        engine.gate.clear()
        async with client_of(port) as client:
            texts = ["<1>", "<2>", "poison", "<3>", "word " * 60, "<4>"]
            tasks = [asyncio.create_task(label(client, text)) for text in texts]
            await asyncio.sleep(0.5)
            engine.gate.set()
            return await asyncio.gather(*tasks, return_exceptions=True)

    with serving(engine) as port:
        results = asyncio.run(all_at_once(port))
    shown = [r if isinstance(r, str) else type(r) for r in results]
    assert shown == [
        "label-01",
        "label-02",
        openai.InternalServerError,
        "label-03",
        openai.BadRequestError,
        "label-04",
    ]


def test_a_client_that_goes_away_disturbs_no_other(caplog: pytest.LogCaptureFixture) -> None:
    engine = Gated()
    with serving(engine) as port:
        engine.gate.clear()
        body = json.dumps({"model": "sorter", "messages": ask("<5>"), "stream": True}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        for sent in (head + body, head + body, head + body[:20], head):
            with socket.create_connection(("127.0.0.1", port)) as gone:
                gone.sendall(sent)
                time.sleep(0.1)
        answers: list[tuple[int, Any]] = []
        thread = threading.Thread(target=lambda: answers.append(post(port)))
        thread.start()
        time.sleep(0.2)
        engine.gate.set()
        thread.join(20)
        assert answers[0][0] == 200
        assert answers[0][1]["choices"][0]["message"]["content"] == "label-07"
        assert post(port)[0] == 200
    assert caplog.records == []


def test_too_many_waiting_are_turned_away() -> None:
    engine = Gated()
    with serving(engine, waiting=2) as port:
        engine.gate.clear()
        results: list[int] = []
        threads = [threading.Thread(target=lambda: results.append(post(port)[0])) for _ in range(3)]
        for number, thread in enumerate(threads):
            thread.start()
            wait_until(lambda: len(engine.sizes) == 1)
            time.sleep(0.2 if number else 0)
        status, body = post(port)
        assert (status, body["error"]["code"]) == (503, "overloaded")
        engine.gate.set()
        for thread in threads:
            thread.join(20)
        assert results == [200, 200, 200]


# --- raw HTTP


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("DELETE", "/health", 405, "method_not_allowed"),
        ("GET", "/", 404, "unknown_url"),
        ("POST", "/v1/completions", 404, "unknown_url"),
        ("POST", "/v1/chat/completions/", 404, "unknown_url"),
        ("GET", "/v1/models/other", 404, "model_not_found"),
        ("GET", "/%ff%00/../x", 404, "unknown_url"),
    ],
)
def test_wrong_paths_and_methods_get_openais_error(port: int, method: str, path: str, status: int, code: str) -> None:
    found, body, response = send(port, method, path)
    assert (found, body["error"]["code"]) == (status, code)
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert response.headers["content-type"] == "application/json"
    if status == 405:
        assert response.headers["allow"]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe\x00", b"[]", b'"x"', b"[" * 100_000, b'{"model": "\\ud800"}'])
def test_malformed_bodies_get_openais_error(port: int, body: bytes) -> None:
    status, answer, _ = send(port, "POST", "/v1/chat/completions", body)
    assert status == 400
    assert answer["error"]["type"] == "invalid_request_error"


def test_the_limit_of_the_body_is_exact(port: int) -> None:
    body = json.dumps({"model": "sorter", "messages": ask("<7>")}).encode()
    fits = b" " * (api.BODY_LIMIT - len(body)) + body
    assert send(port, "POST", "/v1/chat/completions", fits)[0] == 200
    assert send(port, "POST", "/v1/chat/completions", b" " + fits)[0] == 413
    assert send(port, "POST", "/v1/chat/completions", b" " * 25 * api.BODY_LIMIT)[0] == 413


def test_a_chunked_body_is_limited_too(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("POST", "/v1/chat/completions", (b"x" * 100_000 for _ in range(11)), encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\xff\r\n\r\n",
        b"GET\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
)
def test_garbage_is_answered_400_and_the_server_lives(port: int, garbage: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as raw:
        raw.sendall(garbage)
        with suppress(OSError):
            raw.shutdown(socket.SHUT_WR)
        answer = raw.recv(1000)
    assert not answer or answer.startswith(b"HTTP/1.1 400")
    assert post(port)[0] == 200


def test_the_stream_is_server_sent_events(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    body = json.dumps({"model": "sorter", "messages": ask("<7>"), "stream": True})
    connection.request("POST", "/v1/chat/completions", body)
    response = connection.getresponse()
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.read().endswith(b"data: [DONE]\n\n")
    connection.close()


# --- run


SCRIPT = """
import sys, time
from aasut.engine.scripted import ScriptedEngine
from aasut.serve import api
from aasut.serve.batch import batcher
from aasut.serve.student import ServedStudent
from aasut.prompts import PromptTemplate
from aasut.tasks import Classify

class Slow(ScriptedEngine):
    def score(self, prompts, answers, *, prefix=""):
        time.sleep(1.0 if "slow" in prompts[0] else 0.0)
        return super().score(prompts, answers, prefix=prefix)

prompt = PromptTemplate.of("T: {text} =")
task = Classify(("no", "yes"), prompt)
api.run(ServedStudent(task, prompt, Slow({"good": "yes"}), "mini", "0" * 64), port=0)
print("returned")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_says_when_it_is_ready_and_a_signal_lets_requests_finish(number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    ready = process.stderr.readline()
    found = re.search(r"Serving mini at http://127\.0\.0\.1:(\d+)/v1 ", ready)
    assert found, ready
    port = int(found[1])
    answers: list[Any] = []
    body = json.dumps({"model": "mini", "messages": [{"role": "user", "content": "T: slow good ="}]}).encode()
    thread = threading.Thread(target=lambda: answers.append(send(port, "POST", "/v1/chat/completions", body)[1]))
    thread.start()
    time.sleep(0.4)
    process.send_signal(number)
    thread.join(20)
    out, err = process.communicate(timeout=20)
    assert answers[0]["choices"][0]["message"]["content"] == "yes"
    assert (process.returncode, out, err) == (0, "returned\n", "")


def test_a_taken_port_is_one_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AasutError, match=f"Port {port} on 127.0.0.1 is taken") as caught:
            api.run(student(Gated()), port=port)
    assert "--port" in caught.value.remedy


@pytest.mark.parametrize(
    ("host", "port", "message"),
    [
        ("127.0.0.1", 70_000, "There is no port 70000"),
        ("127.0.0.1", -1, "There is no port -1"),
        ("no.such.host.invalid", 8000, "Cannot listen on no.such.host.invalid"),
        ("a" * 70, 8000, "Cannot listen"),
        ("192.0.2.1", 8000, "Cannot listen on 192.0.2.1"),
    ],
)
def test_an_impossible_address_is_one_clear_error(host: str, port: int, message: str) -> None:
    with pytest.raises(AasutError, match=message) as caught:
        api.run(student(Gated()), host, port)
    assert caught.value.remedy


def test_answers_are_sent_without_tcps_delay(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    body = json.dumps({"model": "sorter", "messages": ask("<7>")})
    times = []
    for _ in range(30):
        started = time.perf_counter()
        connection.request("POST", "/v1/chat/completions", body)
        connection.getresponse().read()
        times.append(time.perf_counter() - started)
    connection.close()
    assert sorted(times)[10] < 0.03  # delayed, most would take 0.04 s
