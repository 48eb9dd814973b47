"""A teacher behind an API against real servers that fail: the scripted one, with planned faults, and our own."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import served
from aasut.engine.scripted import ScriptedEngine
from aasut.errors import AasutError, TeacherError
from aasut.prompts import PromptTemplate
from aasut.serve.student import ServedStudent
from aasut.tasks import Classify
from aasut.teacher.faults import Fault, Plan
from aasut.teacher.ledger import Ledger
from aasut.teacher.openai import UNTOLD, OpenAiTeacher
from aasut.teacher.server import ScriptedServer
from aasut.types import Completion, Message, Request
from chat_server import ChatServer, Reply, completion, refusal

RULES = {"odd": "positive", "": "negative"}
CHOICES = ("negative", "positive")
KEY = "AASUT_TEST_KEY"
Make = Callable[..., OpenAiTeacher]
PRICES = {"usd_per_million_input_tokens": 1e6, "usd_per_million_output_tokens": 1e6}


def requests(count: int, **settings: Any) -> list[Request]:
    texts = [f"question {i} {'odd' if i % 2 else 'even'}" for i in range(count)]
    return [Request((Message("user", text),), **({"choices": CHOICES, "max_tokens": 5} | settings)) for text in texts]


def serving(*faults: Fault, rules: dict[str, str] | None = None, **settings: Any) -> ScriptedServer:
    return ScriptedServer(rules or RULES, Plan(faults=faults, **settings))


def line(error: AasutError) -> str:
    text = str(error)
    assert len(text.splitlines()) == 1
    assert len(text) < 500
    assert error.remedy
    return text


PASSING = [
    Fault(fault=429, at=(0,)),
    Fault(fault=429, at=(0,), retry_after_s=0.05),
    Fault(fault=500, at=(0,), body="<html><h1>oops</h1>"),
    Fault(fault=503, at=(0,)),
    Fault(fault="stall", at=(0,), seconds=2),
    Fault(fault="freeze", at=(0,), seconds=2),
    Fault(fault="slow", at=(0,), seconds=2),
    Fault(fault="drip", at=(0,), seconds=8),
    Fault(fault="half", at=(0,)),
    Fault(fault="half_chunked", at=(0,)),
    Fault(fault="hang_up", at=(0,)),
]


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: str(fault.fault))
def test_a_fault_that_passes_costs_another_attempt(endpoint: Make, fault: Fault) -> None:
    with serving(fault) as server:
        limits = {"first_byte_timeout_s": 0.3, "stall_timeout_s": 0.5, "timeout_s": 1.0}
        (found,) = endpoint(server.url, **limits).complete(requests(1))
        assert (found.text, found.failure) == ("negative", "")
        assert server.stats()["requests"] == 2


def test_each_kind_of_silence_has_its_own_limit(endpoint: Make) -> None:
    """Only the fault's own limit is short: what ends the call is named."""
    kinds: dict[Any, tuple[dict[str, float], str]] = {
        "stall": ({"first_byte_timeout_s": 0.2}, "no answer began within 0.2 s"),
        "freeze": ({"stall_timeout_s": 0.2}, "nothing more of an answer for 0.2 s"),
        "drip": ({"timeout_s": 0.2}, "no whole answer within 0.2 s"),
    }
    for kind, (limit, said) in kinds.items():
        with (
            serving(Fault(fault=kind, first=0, seconds=5)) as server,
            pytest.raises(TeacherError, match=said) as caught,
        ):
            endpoint(server.url, retries=0, **limit).complete(requests(1))
        line(caught.value)


def test_a_slow_drip_is_waited_for(endpoint: Make) -> None:
    """The answer takes longer than any silence may."""
    with serving(Fault(fault="drip", at=(0,), seconds=1.0)) as server:
        limits = {"first_byte_timeout_s": 0.5, "stall_timeout_s": 0.5, "timeout_s": 20}
        assert endpoint(server.url, **limits).complete(requests(1))[0].text == "negative"
        assert server.stats()["requests"] == 1


def test_a_server_that_does_all_of_it_loses_nothing(endpoint: Make, tmp_path: Path) -> None:
    shares: dict[Any, float] = {429: 0.08, 500: 0.05, 503: 0.03, "half": 0.05, "hang_up": 0.05, "stall": 0.01}
    with serving(*(Fault(fault=kind, share=share) for kind, share in shares.items()), latency_s=0.002) as server:
        limits = {"first_byte_timeout_s": 0.3, "concurrency": 16, "retries": 20}
        ledger = Ledger(endpoint(server.url, **limits), tmp_path / "ledger.db")
        found = ledger.complete(requests(400))
        assert [answer.text for answer in found] == ["negative", "positive"] * 200
        stats = server.stats()
        assert len(stats["faults"]) == len(shares)
        assert stats["answered_again"] == 0
        assert ledger.holds(requests(400)) == ledger.calls_made == 400
        ledger.close()


def test_retry_after_is_kept_by_all_calls(endpoint: Make) -> None:
    times: list[float] = []

    def reply(number: int, body: dict[str, Any]) -> Reply:
        times.append(time.monotonic())
        time.sleep(0.02)
        return refusal(429, "slow down") if number == 8 else completion("positive")

    with ChatServer(reply) as server:
        server.headers[8] = {"Retry-After": "0.6"}
        endpoint(server.url).complete(requests(40))
    assert len(times) == 41
    pauses = [later - sooner for sooner, later in pairwise(times[8:])]
    assert max(pauses) >= 0.5
    assert pauses.index(max(pauses)) <= 11  # after those that were begun before the refusal was there


@pytest.mark.parametrize("as_date", [False, True])
def test_too_long_a_retry_after_ends_the_run_at_once(endpoint: Make, as_date: bool) -> None:
    fault = Fault(fault=429, first=0, retry_after_s=7000, as_date=as_date)
    with (
        serving(fault) as server,
        pytest.raises(TeacherError, match=r"asks to wait (7000|6999) s, and 120 s") as caught,
    ):
        endpoint(server.url).complete(requests(1))
    assert "status 429: Rate limit reached" in line(caught.value)


def test_an_endpoint_that_stays_down_ends_in_one_line(endpoint: Make) -> None:
    with serving(Fault(fault=503, first=5)) as server:
        asker = endpoint(server.url, retries=1000, patience_s=0.3, concurrency=8)
        kept: list[Any] = []
        with pytest.raises(TeacherError, match=r"status 503: Planned fault.; nothing was answered for 0.3 s") as caught:
            asker.complete(requests(100), kept.extend)
        line(caught.value)
        assert len(kept) == 5
        assert server.stats()["requests"] < 60


def test_a_call_that_fails_alone_is_a_failed_row(endpoint: Make) -> None:
    def reply(number: int, body: dict[str, Any]) -> Reply:
        time.sleep(0.01)
        return refusal(500, "oops") if "question 3 " in body["messages"][0]["content"] else completion("positive")

    with ChatServer(reply) as server:
        found = endpoint(server.url, retries=3, pause_s=0.05).complete(requests(200))
    assert [n for n, answer in enumerate(found) if answer.failure] == [3]
    assert found[3].failure == "no answer in 4 attempts"
    assert sum("question 3 " in question for question in server.questions()) == 4


@pytest.mark.parametrize(
    ("fault", "said", "remedy"),
    [
        (Fault(fault=401, first=0), "status 401: Incorrect API key provided", "key"),
        (Fault(fault=402, first=0), "status 402", "quota"),
        (Fault(fault=403, first=0), "status 403", "key"),
        (Fault(fault=404, first=0), "status 404: The model does not exist", "model's name"),
        (Fault(fault=405, first=0, body=""), "status 405: no reason given", "base_url"),
        (Fault(fault=302, first=0, location="http://other.example/v1?key=x"), "on to other.example", "base_url"),
        (Fault(fault=429, first=0, body='{"error": {"message": "No money", "code": "insufficient_quota"}}'), "No money",
         "quota"),
        (Fault(fault=403, first=0, body="<html><title>Sign  in\nhere</title>" + "<p>" * 9000),
         "an HTML page, 'Sign", "key"),
    ],
)  # fmt: skip
def test_faults_of_the_run_end_it_without_another_attempt(endpoint: Make, fault: Fault, said: str, remedy: str) -> None:
    with serving(fault) as server:
        with pytest.raises(TeacherError) as caught:
            endpoint(server.url, concurrency=1).complete(requests(5))
        assert server.stats()["requests"] == 1
    assert said in line(caught.value)
    assert remedy in caught.value.remedy


@pytest.mark.parametrize("status", [400, 413, 422, 451])
def test_faults_of_a_row_fail_it_alone(endpoint: Make, status: int) -> None:
    with serving(Fault(fault=status, at=(1,))) as server:
        found = endpoint(server.url, concurrency=1).complete(requests(3))
        assert [answer.failure for answer in found] == ["", f"refused with status {status}: Planned fault.", ""]
        assert server.stats()["requests"] == 3


def test_the_key_goes_nowhere_else_and_shows_nowhere(
    endpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An endpoint that sends the key back in errors and answers, and one that sends calls on to another host."""
    monkeypatch.setenv(KEY, "sk-very-secret-key\n")
    echo = "you sent sk-very-secret-key"
    with ChatServer(lambda number, _: [completion(echo), refusal(422, echo), refusal(401, echo)][number]) as server:
        asker = endpoint(server.url, api_key_env=KEY, concurrency=1)
        ledger = Ledger(asker, tmp_path / "ledger.db")
        with pytest.raises(TeacherError) as caught:
            ledger.complete(requests(3, choices=()))
        assert "status 401: you sent [key]" in line(caught.value)
        assert [ledger.complete(requests(1, choices=()))[0].text] == ["you sent [key]"]
        ledger.close()
    assert server.keys == ["Bearer sk-very-secret-key"] * 3
    listed = completion("yes", top={"yes": -0.1, "sk-very-secret-key": -3.0})
    halves = [{"token": half, "logprob": -0.1} for half in (echo[:16], echo[16:])]
    content = [half | {"top_logprobs": [half, {"token": "x", "logprob": -3.0}]} for half in halves]
    parted = {"choices": [{"message": {"content": echo}, "logprobs": {"content": content}}]}
    with ChatServer(lambda number, _: [listed, (200, parted)][number]) as server:
        asker = endpoint(server.url, api_key_env=KEY, concurrency=1, logprobs=True)
        told = asker.complete(requests(2, choices=()))
        assert [(answer.text, answer.token_logprobs) for answer in told] == [("yes", None), ("you sent [key]", None)]
        assert asker.notes[UNTOLD] == 2
    with ChatServer(lambda *_: refusal(422, echo)) as server:
        (found,) = endpoint(server.url, api_key_env=KEY).complete(requests(1))
        assert found.failure == "refused with status 422: you sent [key]"
    with (
        ScriptedServer(RULES) as other,
        serving(Fault(fault=307, first=0, location=other.url + "/chat/completions")) as server,
    ):
        with pytest.raises(TeacherError) as caught:
            endpoint(server.url, api_key_env=KEY).complete(requests(1))
        assert (server.stats()["with_key"], other.stats()["requests"]) == (1, 0)
    assert "secret" not in line(caught.value)
    assert not any(b"secret" in path.read_bytes() for path in tmp_path.iterdir())


@pytest.mark.parametrize("bad", ["a key\twith\nlines", "schlüssel"])
def test_a_key_that_is_none_is_refused_unseen(endpoint: Make, monkeypatch: pytest.MonkeyPatch, bad: str) -> None:
    monkeypatch.setenv(KEY, bad)
    with pytest.raises(TeacherError, match="characters that no key has") as caught:
        endpoint("http://127.0.0.1:1/v1", api_key_env=KEY)
    assert bad not in line(caught.value)


@pytest.mark.parametrize("url", ["http://:80/v1", "http://[::1/v1", "http://host:port/v1", "http://host:99999/v1"])
def test_an_address_that_is_none_is_refused(endpoint: Make, url: str) -> None:
    with pytest.raises(TeacherError, match="is no address"):
        endpoint(url)


def test_refused_log_probabilities_name_the_remedy(endpoint: Make) -> None:
    with serving(Fault(fault="no_logprobs", first=0)) as server:
        with pytest.raises(TeacherError, match="logprobs are not supported") as caught:
            endpoint(server.url, logprobs=True, concurrency=1).complete(requests(5))
        assert "teacher.endpoint.logprobs: false" in line(caught.value)
        assert server.stats()["requests"] == 1
        assert endpoint(server.url).complete(requests(1))[0].text == "negative"


def test_a_schema_is_sent_along_and_its_refusal_named(endpoint: Make) -> None:
    asked = requests(1, choices=(), schema='{"type": "object"}')
    with ChatServer(
        lambda number, _: refusal(400, "response_format is unknown") if number else completion("{}")
    ) as server:
        endpoint(server.url).complete(asked)
        with pytest.raises(TeacherError, match="send_schema: false"):
            endpoint(server.url).complete(asked)
        with pytest.raises(TeacherError, match="response_format"):
            endpoint(server.url, send_schema=False).complete(asked)
    sent = [body.get("response_format") for body in server.bodies]
    shape = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}}
    assert sent == [shape, shape, None]


@pytest.mark.parametrize(("kind", "said"), [("length", "cut short"), ("content_filter", "content filter")])
def test_cut_answers_are_failed_rows_that_are_not_paid_twice(
    endpoint: Make, tmp_path: Path, kind: Any, said: str
) -> None:
    with serving(Fault(fault=kind, first=0), rules={"": "neither of them"}) as server:
        for _ in range(2):
            ledger = Ledger(endpoint(server.url), tmp_path / "ledger.db")
            assert all(said in answer.failure for answer in ledger.complete(requests(3)))
            ledger.close()
        assert server.stats()["requests"] == 3


def test_answers_without_counts_are_paid_at_their_worst_and_said(endpoint: Make) -> None:
    with serving(Fault(fault="no_usage", at=(0, 2))) as server:
        asker = endpoint(server.url, concurrency=1, **PRICES)
        found = asker.complete(requests(4))
    worst = len("question 0 even") + 16 + 5
    assert [answer.usage.prompt_tokens + answer.usage.completion_tokens == worst for answer in found] == [
        True, False, True, False
    ]  # fmt: skip
    assert dict(asker.notes) == {"answers without token counts, taken at their worst case": 2}
    assert asker.budget.spent == sum(asker.price(answer.usage) for answer in found)


@pytest.mark.parametrize("seed", range(3))
def test_the_cap_holds_whatever_the_server_does(endpoint: Make, tmp_path: Path, seed: int) -> None:
    """Every call that the server answers, whole or not, is taken to be paid: together never more than the cap."""
    draw, paid, cap = random.Random(seed), [0], 3000
    lock = threading.Lock()

    def reply(number: int, body: dict[str, Any]) -> Reply:
        most = len(body["messages"][0]["content"]) + 16  # as many tokens as there could be
        with lock:
            kind = draw.random()
            if kind < 0.2:
                return refusal(draw.choice([429, 500, 503]), "no")
            paid[0] += most + 5
        if kind < 0.3:
            return None
        return (200, b"garbage") if kind < 0.4 else completion("positive", tokens=(most, 5))

    with ChatServer(reply) as server:
        for _ in range(2):
            ledger = Ledger(endpoint(server.url, cap, concurrency=8, retries=50, **PRICES), tmp_path / "ledger.db")
            with pytest.raises(TeacherError, match=r"could pass the cap of \$3000"):
                ledger.complete(requests(200))
            ledger.close()
    assert cap - 2 * 45 < paid[0] <= cap


def test_calls_flow_with_no_barrier_and_each_answer_is_kept_as_it_comes(endpoint: Make, tmp_path: Path) -> None:
    """The first answer waits until 150 others stand in the file: no batch is waited for, nothing waits in memory."""
    path = tmp_path / "ledger.db"
    kept = 0

    def reply(number: int, body: dict[str, Any]) -> Reply:
        nonlocal kept
        if number == 0:
            deadline = time.monotonic() + 20
            with closing(sqlite3.connect(path)) as other:
                while kept < 150 and time.monotonic() < deadline:
                    kept = other.execute("SELECT COUNT(*) FROM call").fetchone()[0]
                    time.sleep(0.01)
        time.sleep(0.002)
        return completion("positive")

    told: list[int] = []

    def tell(answers: Sequence[Completion], before: bool) -> None:
        told.append(len(answers))

    with ChatServer(reply) as server:
        ledger = Ledger(endpoint(server.url), path)
        assert len(ledger.complete((request for request in requests(200)), tell)) == 200
        ledger.close()
    assert kept >= 150
    assert sum(told) == 200
    assert 2 <= server.most <= 4


def test_what_tells_of_answers_can_stop_the_asking(endpoint: Make, tmp_path: Path) -> None:
    def stop(answers: Sequence[Completion], before: bool) -> None:
        raise TeacherError("Enough.", "Stop.")

    with serving(latency_s=0.01) as server:
        ledger = Ledger(endpoint(server.url), tmp_path / "ledger.db")
        with pytest.raises(TeacherError, match="Enough"):
            ledger.complete(requests(400), stop)
        assert 1 <= ledger.holds(requests(400)) <= 4
        ledger.complete(requests(8))  # the connections are still good
        ledger.close()


def test_calls_in_flight_at_a_kill_count_at_their_worst(endpoint: Make, tmp_path: Path) -> None:
    """While calls are in flight, another reader of the file, as after a kill, finds what they may cost."""
    path = tmp_path / "ledger.db"
    prices = {"concurrency": 2} | PRICES
    worst = 2 * 2 * (len("question 0 even") + 16 + 5)

    def charged(cap: float | None) -> float:
        other = endpoint("http://127.0.0.1:1/v1" if cap is None else server.url, cap, **prices)
        Ledger(other, path).close()
        return other.budget.spent

    def reply(number: int, body: dict[str, Any]) -> Reply:
        if number == 6:
            seen.append(charged(10_000))
        return completion("positive", tokens=(10, 1))

    seen: list[float] = []
    with ChatServer(reply) as server:
        ledger = Ledger(endpoint(server.url, 10_000, **prices), path)
        ledger.complete(requests(10))
        ledger.close()
        assert worst <= seen[0] <= worst + 11 * 6 + 2
        assert charged(10_000) == 110  # all are in: what was set aside is given back
        assert charged(None) == 0  # another endpoint


def test_garbage_is_paid_for_in_the_next_run_too(endpoint: Make, tmp_path: Path) -> None:
    with serving(Fault(fault="garbage", first=0)) as server:
        for runs in range(3):
            asker = endpoint(server.url, 1000, **PRICES)
            ledger = Ledger(asker, tmp_path / "ledger.db")
            assert asker.budget.spent == runs * (len("question 0 even") + 16 + 5)
            ledger.complete(requests(1))
            ledger.close()


def sorter() -> ServedStudent:
    """Our own student with 60 labels that begin alike."""
    labels = tuple(f"label-{n:02d}" for n in range(60))
    task = Classify(labels, PromptTemplate.of("Text: {text}\nLabel:"))
    engine = ScriptedEngine({f"<{n}>": label for n, label in enumerate(labels)})
    return ServedStudent(task, PromptTemplate.of("{text} ="), engine, "sorter", "ab12" * 16)


def test_our_own_server_is_a_teacher(endpoint: Make, tmp_path: Path) -> None:
    labels = tuple(f"label-{n:02d}" for n in range(60))
    asked = [Request((Message("user", f"Text: a <{n}> b\nLabel:"),), labels, max_tokens=16) for n in range(60)]
    with served.serving(sorter()) as port:
        url = f"http://127.0.0.1:{port}/v1"
        ledger = Ledger(endpoint(url, model="sorter", logprobs=True), tmp_path / "ledger.db")
        found = ledger.complete(asked)
        assert [answer.text for answer in found] == list(labels)
        for n, answer in enumerate(found):
            assert answer.choice_logprobs is None or max(answer.choice_logprobs) == answer.choice_logprobs[n]
        (refused,) = ledger.complete([Request((Message("user", "something else"),), labels, max_tokens=16)])
        assert refused.failure.startswith("refused with status 4")
        with pytest.raises(TeacherError, match="status 404"):
            endpoint(url, model="nobody").complete(asked[:1])
        ledger.close()
