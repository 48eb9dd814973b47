from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aasut.errors import StoreError, TeacherError
from aasut.recipe import Endpoint
from aasut.store import connect, digest
from aasut.teacher.base import Keep
from aasut.teacher.ledger import MIGRATIONS, Ledger
from aasut.teacher.logprobs import unpack
from aasut.teacher.openai import UNTOLD, OpenAiTeacher
from aasut.teacher.scripted import ScriptedTeacher
from aasut.types import Completion, Message, Request, Usage
from chat_server import ChatServer, Reply, completion, refusal


class Counted(ScriptedTeacher):
    """Notes what it is asked; has log-probabilities and a price."""

    def __init__(self, rules: dict[str, str] | None = None) -> None:
        super().__init__(rules if rules is not None else {"": "a"})
        self.asked: list[Request] = []
        self.charged = 0.0

    def complete(self, requests: Sequence[Request], keep: Keep | None = None) -> list[Completion]:
        self.asked += requests
        answers = [
            replace(
                self._answer(request), usage=Usage(10, 2, 3), choice_logprobs=(-0.1, -2.35), finish_reason="tool_calls"
            )
            for request in requests
        ]
        if keep is not None:
            keep(list(zip(requests, answers, strict=True)))
        return answers

    def price(self, usage: Usage) -> float:
        return 0.5

    def charge(self, usd: float) -> None:
        self.charged += usd


def request(text: str, **settings: Any) -> Request:
    return Request((Message("user", text),), **settings)


def requests(count: int) -> list[Request]:
    return [request(f"question {i}") for i in range(count)]


def test_nothing_is_asked_twice(tmp_path: Path) -> None:
    teacher = Counted()
    ledger = Ledger(teacher, tmp_path / "ledger.db")
    first = ledger.complete(requests(3))
    assert ledger.complete(requests(5)[::-1]) == [*[first[0]] * 2, *first[::-1]]
    assert [r.messages[0].content for r in teacher.asked] == [f"question {i}" for i in (0, 1, 2, 4, 3)]
    assert (ledger.calls_made, ledger.calls_reused, ledger.usd_spent) == (5, 3, 2.5)
    ledger.close()


def test_answers_come_back_whole_in_another_process_life(tmp_path: Path) -> None:
    ledger = Ledger(Counted({"": "a \ud83d"}), tmp_path / "ledger.db")
    first = ledger.complete([request("नमस्ते\n\"'\ud83d")])
    ledger.close()
    teacher = Counted({"": "a \ud83d"})
    again = Ledger(teacher, tmp_path / "ledger.db")
    assert again.complete([request("नमस्ते\n\"'\ud83d")]) == first
    assert first[0] == Completion("a \ud83d", Usage(10, 2, 3), (-0.1, -2.35), "tool_calls")
    assert (teacher.asked, again.calls_made, again.calls_reused, again.usd_spent) == ([], 0, 1, 0.0)
    again.complete([request("नमस्ते\n\"'\ud83d"), request("new"), request("new")])
    again.complete([request("new")])
    assert (again.usd_spent, again.usd_reused) == (0.5, 0.5)  # each answer once
    again.close()


def test_the_same_question_twice_in_one_batch_is_one_call(tmp_path: Path) -> None:
    teacher = Counted()
    ledger = Ledger(teacher, tmp_path / "ledger.db")
    assert len(ledger.complete([request("a"), request("b"), request("a")])) == 3
    assert len(teacher.asked) == 2
    assert (ledger.calls_made, ledger.calls_reused) == (2, 1)
    ledger.close()


def test_every_field_of_the_request_is_part_of_the_key(tmp_path: Path) -> None:
    teacher = Counted()
    ledger = Ledger(teacher, tmp_path / "ledger.db")
    asked = [
        request("a"),
        request("a", sample=1),
        request("a", temperature=1.0),
        request("a", max_tokens=65),
        request("a", choices=("x", "y")),
        Request((Message("system", "a"), Message("user", "a"))),
    ]
    for one in asked:
        ledger.complete([one])
    assert teacher.asked == asked
    ledger.close()


def test_another_endpoint_never_gets_these_answers(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    one, two = Ledger(Counted({"": "one"}), path), Ledger(Counted({"": "two"}), path)
    assert one.complete([request("a")])[0].text == "one"
    assert two.complete([request("a")])[0].text == "two"
    assert one.complete([request("a")])[0].text == "one"
    assert one.key(request("a")) != two.key(request("a"))
    assert (one.holds(requests(2)), one.holds([request("a"), request("b")])) == (0, 1)
    for ledger in (one, two):
        ledger.close()


def test_the_model_and_its_revision_are_part_of_the_endpoint(tmp_path: Path) -> None:
    with ChatServer(lambda number, _: completion(f"answer {number}")) as server:
        settings = [{"model": "m"}, {"model": "n"}, {"model": "m", "revision": "r2"}, {"model": "m", "logprobs": True}]
        for number, more in enumerate(settings * 2):
            ledger = Ledger(openai(server.url, **more), tmp_path / "ledger.db")
            assert ledger.complete([request("a")])[0].text == f"answer {number % 4}"
            ledger.close()
    assert len(server.bodies) == 4


def test_the_address_is_part_of_the_endpoint(tmp_path: Path) -> None:
    """Two servers have a model of the same name: neither is given the other's answers."""
    with ChatServer(lambda *_: completion("one")) as one, ChatServer(lambda *_: completion("two")) as two:
        for server, said in [(one, "one"), (two, "two")] * 2:
            ledger = Ledger(openai(server.url), tmp_path / "ledger.db")
            assert ledger.complete([request("a")])[0].text == said
            ledger.close()
    assert (len(one.bodies), len(two.bodies)) == (1, 1)


def test_failed_answers_are_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = Ledger(Counted({"good": "a"}), path)
    assert [c.failure for c in ledger.complete([request("good"), request("odd")])] == ["", "no rule matches"]
    ledger.close()
    teacher = Counted({"good": "a"})
    again = Ledger(teacher, path)
    again.complete([request("good"), request("odd")])
    assert [r.messages[0].content for r in teacher.asked] == ["odd"]
    again.close()


def test_entries_are_never_changed(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = Ledger(Counted(), path)
    (first,) = ledger.complete([request("a")])
    ledger._keep([(request("a"), Completion("another"))])
    assert ledger.complete([request("a")]) == [first]
    ledger.close()


def test_what_earlier_runs_paid_is_charged(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    Ledger(Counted(), path).complete(requests(3))
    Ledger(Counted({"": "other"}), path).complete(requests(2))
    teacher = Counted()
    ledger = Ledger(teacher, path)
    assert (teacher.charged, ledger.usd_spent) == (1.5, 0.0)
    ledger.close()


def openai(url: str, max_usd: float | None = None, **settings: Any) -> OpenAiTeacher:
    plain = {"base_url": url, "model": "m", "api_key_env": "", "concurrency": 4, "retries": 0} | settings
    return OpenAiTeacher(Endpoint(**plain), max_usd, pause_s=0.01)


def test_answers_outlive_a_teacher_that_dies_midway(tmp_path: Path) -> None:
    """The server fails after 10 answers: they are kept one by one, and the next run asks for the other 20 alone."""
    broken = True

    def reply(number: int, body: dict[str, Any]) -> Reply:
        if broken and number >= 10:
            return refusal(500, "broken")
        time.sleep(0.002)
        return completion("re: " + body["messages"][0]["content"])

    with ChatServer(reply) as server:
        ledger = Ledger(openai(server.url), tmp_path / "ledger.db")
        with pytest.raises(TeacherError, match="status 500"):
            ledger.complete(requests(30))
        assert ledger.holds(requests(30)) == ledger.calls_made == 10
        ledger.close()
        broken, before = False, len(server.bodies)
        ledger = Ledger(openai(server.url), tmp_path / "ledger.db")
        found = ledger.complete(requests(30))
        assert [answer.text for answer in found] == [f"re: question {i}" for i in range(30)]
        assert (ledger.calls_made, ledger.calls_reused) == (20, 10)
        assert len(server.bodies) - before == 20
        ledger.close()


def test_the_cap_holds_across_runs(tmp_path: Path) -> None:
    """11 dollars a call, 31 at worst: a cap of 100 pays for 7 calls, however often the command is run again."""
    prices = {"usd_per_million_input_tokens": 1e6, "usd_per_million_output_tokens": 1e6, "concurrency": 1}
    asked = [request(f"question {i}", max_tokens=5) for i in range(20)]
    with ChatServer(lambda *_: completion("yes")) as server:
        for _ in range(3):
            ledger = Ledger(openai(server.url, 100, **prices), tmp_path / "ledger.db")
            with pytest.raises(TeacherError, match=r"spent so far: \$77\.0000"):
                ledger.complete(asked)
            assert ledger.holds(asked) == 7
            ledger.close()
    assert len(server.bodies) == 7


def test_a_full_disk_is_one_clear_line_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = Ledger(Counted(), path)
    ledger.complete(requests(5))
    (pages,) = ledger._database.execute("PRAGMA page_count").fetchone()
    ledger._database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match="No space left for"):
        ledger.complete([request("long " * 9999)])
    assert ledger.holds(requests(5)) == 5
    ledger._database.execute("PRAGMA max_page_count = 100000")
    assert ledger.complete([request("long " * 9999)])[0].text == "a"
    ledger.close()


def test_a_batch_is_committed_when_it_is_there(tmp_path: Path) -> None:
    """Another connection sees the answers at once: nothing waits in memory."""
    path = tmp_path / "ledger.db"
    ledger = Ledger(Counted(), path)
    ledger.complete(requests(3))
    with sqlite3.connect(path) as other:
        assert other.execute("SELECT COUNT(*), SUM(usd) FROM call").fetchone() == (3, 1.5)
    other.close()
    ledger.close()


class Dying(Counted):
    """Keeps each answer as it is there, and dies of the fourth new question that it is asked."""

    def complete(self, requests: Sequence[Request], keep: Keep | None = None) -> list[Completion]:
        answers: list[Completion] = []
        for one in requests:
            if len(self.asked) == 3:
                raise KeyboardInterrupt
            answers += super().complete([one], keep)
        return answers


def test_what_is_kept_before_a_local_teacher_dies_is_not_asked_again(tmp_path: Path) -> None:
    ledger = Ledger(Dying(), tmp_path / "ledger.db")
    with pytest.raises(KeyboardInterrupt):
        ledger.complete(requests(5))
    ledger.close()
    teacher = Counted()
    again = Ledger(teacher, tmp_path / "ledger.db")
    assert len(again.complete(requests(5))) == 5
    assert (teacher.asked, again.calls_reused) == (requests(5)[3:], 3)
    again.close()


def test_tokens_are_kept_and_never_paid_for_twice(tmp_path: Path) -> None:
    def top(_: int, body: dict[str, Any]) -> Reply:
        asked = body["messages"][0]["content"]
        return completion("yes", top={"yes": -0.1, "no": -2.5}) if asked == "a" else completion("no")

    with ChatServer(top) as server:
        ledger = Ledger(openai(server.url, logprobs=True), tmp_path / "ledger.db")
        first = ledger.complete([request("a"), request("b")])
        assert ledger.notes() == [(UNTOLD, 1)]
        ledger.close()
        again = Ledger(openai(server.url, logprobs=True), tmp_path / "ledger.db")
        assert again.complete([request("a"), request("b")]) == first
        assert (again.calls_made, again.notes(), len(server.bodies)) == (0, [], 2)
        again.close()
    told, untold = first
    assert (told.text, untold.text, untold.token_logprobs) == ("yes", "no", None)
    assert told.token_logprobs is not None
    (token,) = unpack(told.token_logprobs)
    assert token.top == ((b"yes", pytest.approx(-0.1)), (b"no", -2.5))


def test_answers_of_an_older_ledger_are_used_and_have_no_tokens(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with ChatServer(lambda *_: completion("new", top={"new": -0.1})) as server:
        teacher = openai(server.url, logprobs=True)
        old = connect(path, MIGRATIONS[:2])
        usage = "[7, 2, 0]"
        plain = f'{{"text": "old", "choice_logprobs": null, "finish_reason": "stop", "failure": "", "usage": {usage}}}'
        key = digest([teacher.identity, request("a").body()])
        old.execute("INSERT INTO call VALUES (?, ?, ?, ?, ?, ?)", (key, teacher.identity, "{}", plain, 0.5, 0.0))
        old.commit()
        old.close()
        ledger = Ledger(teacher, path)
        found, new = ledger.complete([request("a"), request("b")])
        assert found == Completion("old", Usage(7, 2), token_logprobs=None)
        assert (new.token_logprobs is not None, ledger.usd_reused, len(server.bodies)) == (True, 0.5, 1)
        ledger.close()


def test_each_answer_is_told_with_its_request_and_equal_requests_once(tmp_path: Path) -> None:
    asked = [request("one"), request("two"), request("one")]
    for was_there in (False, True):
        heard: list[tuple[Request, Completion, bool]] = []
        ledger = Ledger(Counted({"one": "1", "two": "2"}), tmp_path / "ledger.db")
        found = ledger.complete(asked, heard=lambda *one, heard=heard: heard.append(one))  # type: ignore[misc]
        assert [(one.text, resumed) for _, one, resumed in heard][:2] == [("1", was_there), ("2", was_there)]
        assert [one for one, _, _ in heard][:2] == asked[:2]
        assert [completion for _, completion, _ in heard][:2] == found[:2]
        assert len(heard) == 2
        ledger.complete(asked)
        assert len(heard) == 2
        ledger.close()


def test_what_is_asked_may_hang_on_what_was_heard(tmp_path: Path) -> None:
    """An API's answers are heard while further requests are taken."""
    follows: list[Request] = []

    def reply(number: int, body: dict[str, Any]) -> Reply:
        return completion("yes", tokens=(1, 1))

    def source() -> Any:
        for number in range(200):
            yield follows.pop() if follows else request(f"first {number}")

    def hear(one: Request, answer: Completion, _was_there: bool) -> None:
        if one.messages[-1].content.startswith("first"):
            follows.append(request(f"{answer.text}, after {one.messages[-1].content}"))

    with ChatServer(reply) as server:
        endpoint = Endpoint(base_url=server.url, model="m", api_key_env="", concurrency=2)
        ledger = Ledger(OpenAiTeacher(endpoint), tmp_path / "ledger.db")
        ledger.complete(source(), heard=hear)
        ledger.close()
        after = [question for question in server.questions() if question.startswith("yes, after first")]
    assert len(after) > 50
