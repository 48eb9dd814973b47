from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import chunked
from aasut.recipe import Endpoint
from aasut.recipe.field import Synthesize
from aasut.synthesize.drive import AT_ONCE, BATCH, drive
from aasut.synthesize.plan import Task
from aasut.synthesize.shelf import Shelf
from aasut.synthesize.writing import Made
from aasut.teacher.base import Keep, Teacher
from aasut.teacher.faults import Fault, Plan
from aasut.teacher.ledger import Ledger
from aasut.teacher.openai import OpenAiTeacher
from aasut.teacher.scripted import ScriptedTeacher
from aasut.teacher.server import ScriptedServer
from aasut.types import Completion, Request

TURNS = 3
WANTED = chunked.recipe(synthesize={"kinds": ["questions", "conversations"], "turns": TURNS}).synthesize
TURNING = {"So far: nothing": chunked.ONE} | {
    f"What of {number}?": chunked.ONE.replace("{{word 1}}", f"{number + 1}") for number in range(9, 0, -1)
} | {"What of": chunked.ONE.replace("{{word 1}}", "1"), "": chunked.RULES["Questions as JSON"]}  # fmt: skip


def tasks(count: int, *kinds: str) -> list[Task]:
    made = chunked.chunks(count, each=1)
    shelf = Shelf("train", dict.fromkeys((chunk.span.document for chunk in made), "train"), "t")
    return [Task(kind, (chunk,), shelf) for kind in kinds for chunk in made]  # type: ignore[arg-type]


def work(
    teacher: Teacher, folder: Path, todo: list[Task], wanted: Synthesize = WANTED
) -> tuple[list[Made], Counter[bool]]:
    """What was made of each task, in the order in which it was told, and how many answers were there before."""
    folder.mkdir(exist_ok=True)
    ledger = Ledger(teacher, folder / "ledger.db")
    told: list[tuple[Task, Made]] = []
    resumed: Counter[bool] = Counter()
    try:
        drive(
            todo,
            wanted,
            ledger,
            lambda task, made: told.append((task, made)),
            lambda _t, _c, was: resumed.update([was]),
        )
    finally:
        ledger.close()
    assert [task for task, _ in told] == todo
    return [made for _, made in told], resumed


@dataclass
class Batches:
    """A scripted teacher that says what was asked of it together."""

    teacher: ScriptedTeacher
    asked: list[list[Request]]

    @property
    def identity(self) -> str:
        return self.teacher.identity

    def complete(self, requests: Sequence[Request], keep: Keep | None = None) -> list[Completion]:
        self.asked.append(list(requests))
        return self.teacher.complete(requests, keep)

    def price(self, usage: object) -> float:
        return 0.0

    def charge(self, usd: float) -> None:
        pass

    def close(self) -> None:
        pass


def test_a_local_teacher_gets_batches_of_one_beginning(tmp_path: Path) -> None:
    todo = tasks(150, "questions", "conversations")
    teacher = Batches(ScriptedTeacher(TURNING), [])
    made, resumed = work(teacher, tmp_path, todo)
    assert {len(one.items) for one in made[:150]} == {2}
    assert {len(one.items[0].questions) for one in made[150:]} == {TURNS}
    assert sum(map(len, teacher.asked)) == 150 * (1 + TURNS) == resumed[False]
    assert all(len({request.messages[:-1] for request in batch}) == 1 for batch in teacher.asked)
    assert max(map(len, teacher.asked)) == BATCH
    assert len(teacher.asked) <= -(-150 * (1 + TURNS) // BATCH) + 4
    assert AT_ONCE < 300


def test_a_second_run_asks_nothing_and_a_killed_one_repeats_its_batch_as_it_was(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    @dataclass
    class Fragile(Batches):
        def complete(self, requests: Sequence[Request], keep: Keep | None = None) -> list[Completion]:
            if len(self.asked) == 4:
                self.asked.append(list(requests))
                raise Killed
            return super().complete(requests, keep)

    todo, whole = tasks(150, "questions", "conversations"), Batches(ScriptedTeacher(TURNING), [])
    made, _ = work(whole, tmp_path / "whole", todo)
    broken = Fragile(ScriptedTeacher(TURNING), [])
    with pytest.raises(Killed):
        work(broken, tmp_path / "broken", todo)
    rest = Batches(ScriptedTeacher(TURNING), [])
    again, resumed = work(rest, tmp_path / "broken", todo)
    assert again == made
    assert broken.asked == whole.asked[:5]
    assert rest.asked == whole.asked[4:]
    assert resumed == {True: sum(map(len, whole.asked[:4])), False: sum(map(len, whole.asked[4:]))}
    nothing = Batches(ScriptedTeacher(TURNING), [])
    assert work(nothing, tmp_path / "broken", todo)[0] == made
    assert nothing.asked == []


def test_an_apis_calls_flow_without_a_barrier_between_rounds(tmp_path: Path) -> None:
    """One slow answer holds its own conversation up and no other: others go through all their rounds meanwhile."""
    todo = tasks(200, "conversations")
    seen: list[str] = []
    finished: list[str] = []
    slow = Fault(fault="slow", at=(0,), seconds=2)
    with ScriptedServer(TURNING, Plan(latency_s=0.005, faults=(slow,))) as server:
        endpoint = Endpoint(base_url=server.url, model="m", api_key_env="", concurrency=8)
        ledger = Ledger(OpenAiTeacher(endpoint), tmp_path / "ledger.db")
        try:
            drive(
                todo,
                WANTED,
                ledger,
                lambda task, _: finished.append(task.chunks[0].id),
                lambda task, *_: seen.append(task.chunks[0].id),
            )
        finally:
            ledger.close()
        assert server.stats()["most_at_once"] == 8
    assert Counter(seen) == dict.fromkeys((task.chunks[0].id for task in todo), TURNS)
    assert finished == [task.chunks[0].id for task in todo]
    assert seen.index(seen[-1]) > 300  # a barrier after the first round would let 199 pass


def test_equal_requests_are_asked_once_and_all_hear_of_the_answer(tmp_path: Path) -> None:
    todo = tasks(1, *["questions"] * 5)
    with ScriptedServer(chunked.RULES) as server:
        endpoint = Endpoint(base_url=server.url, model="m", api_key_env="", concurrency=4)
        made, resumed = work(OpenAiTeacher(endpoint), tmp_path, todo)
        assert server.stats()["answered_again"] == 0
    assert len({item.id for one in made for item in one.items}) == 2
    assert [len(one.items) for one in made] == [2] * 5
    assert resumed.total() == 5


def test_what_the_listeners_raise_stops_the_asking(tmp_path: Path) -> None:
    def refuse(_task: Task, _made: Made) -> None:
        raise ValueError("enough")

    with ScriptedServer(chunked.RULES) as server:
        endpoint = Endpoint(base_url=server.url, model="m", api_key_env="", concurrency=2)
        ledger = Ledger(OpenAiTeacher(endpoint), tmp_path / "l.db")
        with pytest.raises(ValueError, match="enough"):
            drive(tasks(500, "questions"), WANTED, ledger, refuse)
        ledger.close()
        assert server.stats()["requests"] < 100
