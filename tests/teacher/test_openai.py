from __future__ import annotations

import json
import math
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from aasut.errors import AasutError, TeacherError
from aasut.recipe import Endpoint
from aasut.teacher.openai import UNTOLD, OpenAiTeacher
from aasut.teacher.server import ScriptedServer
from aasut.types import Completion, Message, Request, Usage
from chat_server import ChatServer, Reply, completion, refusal

CHOICES = ("negative", "positive")
KEY = "AASUT_TEST_KEY"


def requests(count: int) -> list[Request]:
    return [Request((Message("user", f"question {i}"),), choices=CHOICES, max_tokens=5) for i in range(count)]


def teacher(url: str, max_usd: float | None = None, **settings: Any) -> OpenAiTeacher:
    plain = {"base_url": url, "model": "big", "api_key_env": "", "concurrency": 4} | settings
    return OpenAiTeacher(Endpoint(**plain), max_usd, pause_s=0.01)


def serve(reply: Callable[[int, dict[str, Any]], Reply]) -> ChatServer:
    return ChatServer(reply)


class Kept:
    """A `keep` that notes what it is given."""

    def __init__(self) -> None:
        self.answered: list[tuple[Request, Completion]] = []
        self.first = threading.Event()

    def __call__(self, answered: Sequence[tuple[Request, Completion]]) -> None:
        self.answered.extend(answered)
        self.first.set()


def line(error: AasutError) -> str:
    text = str(error)
    assert len(text.splitlines()) == 1
    assert error.remedy
    return text


def test_plain_answers_in_order() -> None:
    kept = Kept()

    def reply(number: int, body: dict[str, Any]) -> Reply:
        if (
            body["messages"][-1]["content"] == "question 0"
        ):  # answered once another is kept: each the moment it is there
            assert kept.first.wait(60)
        return completion("re: " + body["messages"][-1]["content"], tokens=(7, 2))

    with serve(reply) as server:
        asked = requests(9)
        found = teacher(server.url).complete(asked, kept)
    assert [answer.text for answer in found] == [f"re: question {i}" for i in range(9)]
    assert found[0] == Completion("re: question 0", Usage(7, 2), None, "stop")
    assert 1 < server.most <= 4
    assert sorted(kept.answered, key=lambda pair: asked.index(pair[0])) == list(zip(asked, found, strict=True))
    assert kept.answered[0][0] != asked[0]


def test_the_body_is_what_the_api_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "secret-key")
    messages = (Message("system", "Sort."), Message("user", "a"), Message("assistant", "b"), Message("user", "नमस्ते"))
    with serve(lambda *_: completion("x")) as server:
        teacher(server.url + "/", api_key_env=KEY).complete([Request(messages, max_tokens=3, temperature=0.5)])
        teacher(server.url, logprobs=True).complete([Request(messages)])
    first, second = server.bodies
    assert first == {
        "model": "big",
        "messages": [
            {"role": "system", "content": "Sort."},
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
            {"role": "user", "content": "नमस्ते"},
        ],
        "max_tokens": 3,
        "temperature": 0.5,
    }
    assert (second["logprobs"], second["top_logprobs"]) == (True, 20)
    assert server.keys == ["Bearer secret-key", None]


def test_the_identity_tells_models_apart_and_holds_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "secret-key")
    one = teacher("http://a/v1", api_key_env=KEY)
    others = [
        teacher("http://b/v1"),
        teacher("http://a/v1", model="other"),
        teacher("http://a/v1", revision="2024-05"),
        teacher("http://a/v1", logprobs=True),
    ]
    assert len({one.identity, *(other.identity for other in others)}) == 5
    assert teacher("http://a/v1/").identity == one.identity == teacher("http://a/v1", concurrency=9).identity
    assert "secret" not in one.identity


def test_logprobs_become_choice_logprobs() -> None:
    top = {" Positive": math.log(0.5), "pos": math.log(0.2), "Neg": math.log(0.2), "the": math.log(0.05), " ": -9.0}
    with serve(lambda *_: completion("Positive", top=top)) as server:
        (found,) = teacher(server.url, logprobs=True).complete(requests(1))
    assert found.choice_logprobs is not None
    negative, positive = map(math.exp, found.choice_logprobs)
    assert positive == pytest.approx(0.7 / 0.9, abs=1e-5)
    assert negative + positive == pytest.approx(1)


def test_a_refused_key_is_one_clear_line_and_is_not_tried_again() -> None:
    with serve(lambda *_: refusal(401, "Incorrect API key.")) as server, pytest.raises(TeacherError) as caught:
        teacher(server.url, concurrency=1).complete(requests(8))
    assert len(server.bodies) == 1
    text = line(caught.value)
    assert server.url in text
    assert "status 401: Incorrect API key." in text


def test_a_busy_server_is_asked_again() -> None:
    def reply(number: int, body: dict[str, Any]) -> Reply:
        if number < 3:
            return [refusal(429, "slow down"), refusal(503, "busy"), None][number]
        return completion("positive")

    kept = Kept()
    with serve(reply) as server:
        (found,) = teacher(server.url).complete(requests(1), kept)
    assert (found.text, found.failure) == ("positive", "")
    assert len(server.bodies) == 4
    assert len(kept.answered) == 1


def test_a_server_that_stays_busy_ends_the_run() -> None:
    with serve(lambda *_: refusal(429, "slow down")) as server, pytest.raises(TeacherError, match="429: slow down"):
        teacher(server.url, retries=2).complete(requests(1))
    assert len(server.bodies) == 3


def test_too_slow_an_answer_is_asked_for_again() -> None:
    def reply(number: int, body: dict[str, Any]) -> Reply:
        time.sleep(1.5 if number == 0 else 0)
        return completion("positive")

    with serve(reply) as server:
        (found,) = teacher(server.url, timeout_s=0.5).complete(requests(1))
    assert found.text == "positive"
    assert len(server.bodies) > 1


def test_garbage_fails_its_row_alone() -> None:
    garbage = [b"", b"<html>", b"null", b"{}", b'{"choices": []}', b"\xff\xfe", b"[" * 100_000]
    with serve(lambda number, _: (200, garbage[number]) if number < len(garbage) else completion("ok")) as server:
        found = teacher(server.url, concurrency=1).complete(requests(len(garbage) + 1))
    assert [answer.failure for answer in found] == ["the answer is no chat completion"] * len(garbage) + [""]
    assert len(server.bodies) == len(garbage) + 1


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_request_fails_its_row_alone(status: int) -> None:
    with serve(lambda number, _: refusal(status, "too long") if number == 1 else completion("ok")) as server:
        found = teacher(server.url, concurrency=1).complete(requests(3))
    assert [answer.text for answer in found] == ["ok", "", "ok"]
    assert found[1].failure == f"refused with status {status}: too long"
    assert len(server.bodies) == 3


def test_a_cut_answer_fails_its_row_and_counts_at_its_worst_where_it_says_no_price() -> None:
    empty = b'{"choices": [{"message": {"content": null}, "finish_reason": "length"}]}'
    with serve(lambda *_: (200, empty)) as server:
        asker = teacher(server.url)
        (found,) = asker.complete(requests(1))
    assert found == Completion("", Usage(10 + 16, 5), None, "length", "cut short at max_tokens")
    assert dict(asker.notes) == {"answers without token counts, taken at their worst case": 1}


def test_answers_without_the_log_probabilities_asked_for_are_counted() -> None:
    """Not those to a choice, which may do without, nor failed ones."""
    shifted = completion("yes", top={"no": -0.1, "yes": -9.0})
    replies = [completion("yes", top={"yes": -0.1}), completion("yes"), shifted]
    cut = b'{"choices": [{"message": {"content": "ye"}, "finish_reason": "length"}], "usage": {}}'
    free = [Request((Message("user", f"{i}"),)) for i in range(4)]
    with serve(lambda number, _: [*replies, (200, cut), *replies][number]) as server:
        asker = teacher(server.url, logprobs=True, concurrency=1)
        told = [answer.token_logprobs is not None for answer in asker.complete(free)]
        assert (told, asker.notes[UNTOLD]) == ([True, False, False, False], 2)
        asker.complete([Request(free[0].messages, choices=("yes", "no"))] * 3)
        assert asker.notes[UNTOLD] == 2
    with serve(lambda *_: completion("yes")) as server:
        asker = teacher(server.url)
        asker.complete(free)
        assert UNTOLD not in asker.notes


def test_the_cap_is_never_passed_and_what_is_done_is_kept() -> None:
    """Each call costs 11 dollars; at its worst, 10 bytes + 16 for the message and 5 for the answer, 31."""
    kept = Kept()
    with serve(lambda *_: completion("positive")) as server:
        asker = teacher(
            server.url, 100, usd_per_million_input_tokens=1e6, usd_per_million_output_tokens=1e6, concurrency=8
        )
        with pytest.raises(TeacherError, match=r"could pass the cap of \$100\.0000") as caught:
            asker.complete(requests(50), kept)
    line(caught.value)
    assert server.most <= 6  # 69 are set aside for 6 calls that end and 31 for one that begins
    # After 7 calls 77 are spent, and 31 more could pass 100: as many as one after another would be.
    assert len(kept.answered) == len(server.bodies) == 7
    assert asker.budget.spent == 77
    assert asker.budget.in_flight == 0


def test_the_cap_counts_what_earlier_runs_paid() -> None:
    prices = {"usd_per_million_input_tokens": 1e6, "usd_per_million_output_tokens": 1e6}
    with serve(lambda *_: completion("positive")) as server:
        asker = teacher(server.url, 100, **prices)
        asker.charge(70)
        with pytest.raises(TeacherError, match=r"spent so far: \$70\.0000"):
            asker.complete(requests(1))
        asker = teacher(server.url, 100, **prices)
        asker.charge(69)
        assert asker.complete(requests(1))[0].text == "positive"
    assert len(server.bodies) == 1


@pytest.mark.parametrize("reply", [(200, b"garbage"), None])
def test_answers_of_unknown_price_count_at_their_worst(reply: Reply) -> None:
    with serve(lambda *_: reply) as server:
        prices = {"usd_per_million_input_tokens": 1e6, "usd_per_million_output_tokens": 1e6}
        asker = teacher(server.url, 62, **prices, retries=9, concurrency=1)
        with pytest.raises(TeacherError, match="cap"):
            asker.complete(requests(9))
    assert len(server.bodies) == 2


def test_a_fault_keeps_the_calls_in_flight_and_begins_no_other() -> None:
    def reply(number: int, body: dict[str, Any]) -> Reply:
        if body["messages"][0]["content"] == "question 0":
            return refusal(403, "no access")
        time.sleep(0.8)  # longer than the refusal takes
        return completion("positive")

    kept = Kept()
    with serve(reply) as server, pytest.raises(TeacherError, match="no access"):
        teacher(server.url, concurrency=3).complete(requests(30), kept)
    assert len(server.bodies) == 3
    assert len(kept.answered) == 2


def test_a_missing_key_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY, raising=False)
    with pytest.raises(TeacherError, match=f"environment variable {KEY} holds no key") as caught:
        teacher("http://127.0.0.1:1/v1", api_key_env=KEY)
    line(caught.value)
    monkeypatch.setenv(KEY, "")
    with pytest.raises(TeacherError, match=KEY):
        teacher("http://127.0.0.1:1/v1", api_key_env=KEY)


def test_a_host_that_is_not_there_is_one_clear_line() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(TeacherError, match="does not answer") as caught:
        teacher(url, retries=1).complete(requests(3))
    assert url in line(caught.value)
    with pytest.raises(TeacherError, match="does not answer"):
        teacher("http://no-such-host.invalid/v1", retries=0).complete(requests(1))


TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
CALLS = '[{"name": "weather", "arguments": {"city": "Goa"}}, {"name": "weather", "arguments": {}}]'


def test_tools_are_sent_as_the_api_has_them_and_calls_come_back_as_text() -> None:
    shots = (
        Message("user", "Goa?"),
        Message("assistant", CALLS),
        Message("user", "Hi"),
        Message("assistant", "Where?"),
    )
    asked = Request((*shots, Message("user", "in Goa")), tools=json.dumps(TOOLS))
    with ScriptedServer({"goa": CALLS, "": "Where?"}) as server:
        asker = teacher(server.url)
        plain = Request((Message("user", "elsewhere"),), tools=json.dumps(TOOLS))
        called, said = asker.complete([asked, plain])
        asker.close()
    assert (called.text, called.finish_reason) == (CALLS, "tool_calls")
    assert (said.text, said.finish_reason) == ("Where?", "stop")
    body = asker.body(asked)
    assert body["tools"] == TOOLS
    assert [m["role"] for m in body["messages"]] == ["user", "assistant", "tool", "tool", "user", "assistant", "user"]
    first, second = body["messages"][1]["tool_calls"]
    assert first["function"] == {"name": "weather", "arguments": '{"city": "Goa"}'}
    assert [m["tool_call_id"] for m in body["messages"][2:4]] == [first["id"], second["id"]]
    assert len({first["id"], second["id"]}) == 2
    assert "tools" not in asker.body(Request((Message("user", "a"),)))


def test_the_worst_case_of_a_call_counts_its_tools() -> None:
    price = {"usd_per_million_input_tokens": 1e6, "usd_per_million_output_tokens": 0}
    asker = teacher("http://127.0.0.1:1/v1", 1e9, concurrency=1, **price)
    bare = asker.at_risk(0, Request((Message("user", "a"),)))
    assert asker.at_risk(0, Request((Message("user", "a"),), tools="x" * 100)) == pytest.approx(bare + 2 * 100)
