"""What a gateway saw as a recipe's table: which requests teach, in what order, and what becomes of the others."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from aasut import recipe as recipes
from aasut.data import recorded
from aasut.errors import DataError
from aasut.gateway import harvest
from aasut.gateway.exchange import Decision, Exchange
from aasut.gateway.harvest import Harvest, Wish
from aasut.gateway.recorder import Recorder
from aasut.gateway.settings import Record
from logged import PROMPT, line, recipe

LATER = time.time() + 86_400  # after whatever a gateway notes while the tests run


def take(lines: Sequence[dict[str, Any]], wish: Wish | None = None, **changes: Any) -> Harvest:
    found = harvest.take(recipes.parse(recipe(**changes), "recipe.yaml"), lines, wish or Wish())
    assert found.conservation.balanced
    assert len(found.lines) == found.conservation.kept
    return found


def ids(lines: Sequence[dict[str, Any]]) -> list[int]:
    return [int(one["id"].removeprefix("req_")) for one in lines]


def student(number: int, text: str, **more: Any) -> dict[str, Any]:
    """A request that the student answered alone."""
    return line(number, text, None, by="student", **more)


def test_requests_with_the_teachers_answer_teach() -> None:
    found = take([line(1, "a"), line(2, "b", "no"), student(3, "c")])
    assert (ids(found.lines), ids(found.readable)) == ([1, 2], [1, 2, 3])
    assert (found.recorded, found.unanswered, found.escalated) == (2, 0, 0)
    assert found.conservation.as_dict() == {"in": 3, "kept": 2, "dropped": {harvest.BY_STUDENT: 1}, "failed": {}}
    assert set(found.lines[0]) == {"id", "at", "model", "usd", "request", "response"}


def test_what_is_no_request_of_the_prompt_is_counted_by_reason() -> None:
    hello = {"messages": [{"role": "user", "content": "Hello"}]}
    image = {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}]}
    found = take(
        [
            line(1, "a"),
            line(2, "b", body=hello),
            line(3, "c", body={"tools": [{"type": "function"}]}),
            line(4, "d", body=image),
            line(5, "e", None, by="gateway", answered=False),
            line(6, "f", None, answered=False),
            line(7, "g", request=None),
            line(8, "h", request={"model": "big", "input": "embed me"}),
        ]
    )
    assert found.conservation.failed == {
        "does not match the prompt": 1, "uses tools": 1, "holds more than text": 1, harvest.REFUSED: 1,
        harvest.FAILED: 1, harvest.NO_CHAT: 2,
    }  # fmt: skip


def test_an_answer_that_cannot_be_used_does_not_teach_and_says_why() -> None:
    rows = [
        line(1, "a"),
        line(2, "b", "perhaps"),
        line(3, "c", body={"model": "small"}),
        line(4, "d", body={"stop": "."}),
    ]
    assert take(rows).conservation.dropped == {
        f"answer {recorded.NO_FIT}": 1, f"answer {recorded.MODEL}": 1, "answer asked with stop": 1
    }  # fmt: skip
    nothing = take(rows, teacher=recipe()["teacher"] | {"shots": 2})
    assert (nothing.recorded, nothing.conservation.dropped) == (0, {f"answer {recorded.EXAMPLES}": 4})


def test_the_teacher_is_asked_for_as_many_more_as_is_allowed() -> None:
    rows = [student(1, "a"), student(2, "b"), line(3, "c"), line(4, "d", "perhaps")]
    found = take(rows, Wish(buy=1))
    assert (ids(found.lines), found.recorded, found.unanswered) == ([3, 4], 1, 1)  # the newest
    found = take(rows, Wish(buy=None))
    assert (ids(found.lines), found.unanswered) == ([1, 2, 3, 4], 3)


def test_where_there_is_room_for_some_the_escalated_go_first_then_the_newest() -> None:
    rows = [line(n, f"text {n}", escalated=n in (2, 5)) for n in range(8)]
    found = take(rows, Wish(most=4))
    assert (ids(found.lines), found.escalated) == ([2, 5, 6, 7], 2)
    assert found.conservation.dropped == {harvest.OVER: 4}


def test_the_same_request_again_takes_no_room_but_its_answer_counts() -> None:
    rows = [line(1, "a", "no"), line(2, "a", "yes"), line(3, "a", "no"), student(4, "a"), line(5, "b")]
    found = take(rows, Wish(most=2))
    assert (ids(found.lines), found.recorded) == ([1, 2, 3, 4, 5], 2)
    assert [one.completion.text for one in found.answers.answers] == ["no", "yes"]
    found = take([student(1, "a"), student(2, "a")], Wish(buy=5))
    assert (ids(found.lines), found.unanswered, found.conservation.dropped) == ([2], 1, {harvest.AGAIN: 1})


def test_what_people_answered_stays() -> None:
    rows = [student(1, "a"), line(2, "b"), line(3, "c", "perhaps"), line(4, "d")]
    found = take(rows, Wish(most=1, answered={"req_0001", "req_0003"}))
    assert ids(found.lines) == [1, 3, 4]
    assert (found.recorded, found.unanswered) == (1, 0)


def test_a_free_teacher_is_asked_for_all() -> None:
    plain = recipe(teacher={"scripted": {"": "yes"}})
    del plain["data"]["tables"][0]["recorded"]
    found = take([line(1, "a"), student(2, "b")], **plain)
    assert (ids(found.lines), found.recorded, found.unanswered) == ([1, 2], 0, 2)


def test_several_draws_that_the_recipe_wants_must_all_be_there() -> None:
    plain = recipe(
        task={"kind": "generate", "prompt": PROMPT, "max_tokens": 8}, student={"model": {"address": "file:nowhere"}}
    )
    plain["teacher"] |= {"samples": 2, "temperature": 1.0}
    rows = [line(1, "a", "one"), line(2, "a", "two"), line(3, "b", "one")]
    found = take(rows, **plain)
    assert (ids(found.lines), found.conservation.dropped) == ([1, 2], {harvest.SOME: 1})
    assert take(rows, Wish(buy=1), **plain).unanswered == 1


def test_the_file_is_named_by_its_content_and_tells_what_it_is(tmp_path: Path) -> None:
    found = take([line(1, "naïve"), student(2, "b")])
    path = harvest.write(found, tmp_path)
    assert harvest.write(found, tmp_path) == path != harvest.write(take([line(1, "b")]), tmp_path)
    assert json.loads(path.read_text(encoding="utf-8"))["request"]["messages"][0]["content"].endswith("naïve")
    plain = recipe()
    plain["data"]["tables"][0]["source"] = path.name
    facts = harvest.facts_of(recipes.parse(plain, "recipe.yaml"), tmp_path)
    assert facts == found.facts()
    assert harvest.facts_of(recipes.parse(recipe(), "recipe.yaml"), tmp_path) is None


def put(folder: Path, *exchanges: Exchange) -> None:
    recorder = Recorder(folder, Record())
    recorder.event(harvest.UPSTREAM, "https://one/v1")
    for exchange in exchanges:
        recorder.put(exchange)
    recorder.close()
    assert recorder.written == len(exchanges)


def asked(number: int, **more: Any) -> Exchange:
    """As `line`, at a time after what the gateway noted."""
    one = line(number, f"text {number}")
    given: dict[str, Any] = {"model": "big", "status": 200, "usd": 0.25, "id": one["id"], "at": LATER + number}
    given |= {"request": json.dumps(one["request"]).encode(), "response": json.dumps(one["response"]).encode()}
    return Exchange(harvest.CHAT, **given | more)


def test_traffic_is_read_with_its_address_streams_audits_and_what_a_student_passed_on(tmp_path: Path) -> None:
    chunk = {"object": "chat.completion.chunk", "model": "big", "choices": [{"index": 0, "delta": {"content": "no"}}]}
    stream = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode()
    late = Decision("run", "c", "certified", 0.2, False, "score")
    own = Decision("run", "c", "certified", 0.9, True, "", "no", "")
    put(
        tmp_path,
        asked(1, streamed=True, response=stream),
        asked(2, decision=late),
        asked(3, by="student", decision=own),
        asked(4, beside="req_0003", usd=0.5),
        asked(5, by="student", decision=own),
        asked(6, by="student", beside="req_0002", decision=late),
        asked(7, fault="client_gone"),
        asked(8, status=429, response=b"{}"),
        asked(9, request=b"\xff", response=b"[]"),
        Exchange("/v1/embeddings", request=b'{"model": "e", "input": "x"}', status=200, response=b"{}", at=LATER),
    )
    found = harvest.lines(tmp_path)
    by_id = {one["id"]: one for one in found}
    assert len(found) == 8  # other halves are no requests
    assert {one["base_url"] for one in found} == {"https://one/v1"}
    assert by_id["req_0001"]["response"]["choices"][0]["message"]["content"] == "no"
    assert [one["id"] for one in found if one["escalated"]] == ["req_0002"]
    assert by_id["req_0003"]["response"]["choices"][0]["message"]["content"] == "yes"
    assert (by_id["req_0003"]["usd"], by_id["req_0003"]["by"]) == (0.5, "student")
    assert by_id["req_0005"]["response"] is None
    taken = harvest.take(recipes.parse(recipe(url="https://one/v1"), "recipe.yaml"), found, Wish())
    assert sorted(ids(taken.lines)) == [1, 2, 3]
    assert taken.conservation.as_dict() == {
        "in": 8,
        "kept": 3,
        "dropped": {harvest.BY_STUDENT: 1},
        "failed": {harvest.NO_CHAT: 2, harvest.FAILED: 2},
    }
    other = harvest.take(recipes.parse(recipe(url="https://two/v1"), "recipe.yaml"), found, Wish())
    assert other.conservation.dropped[f"answer {recorded.ENDPOINT}"] == 3


def test_no_traffic_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no traffic"):
        harvest.lines(tmp_path)
