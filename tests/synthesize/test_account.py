from __future__ import annotations

from collections import Counter

import pytest

import chunked
from aasut.errors import TeacherError
from aasut.synthesize.account import Account
from aasut.synthesize.plan import Task
from aasut.synthesize.shelf import Shelf
from aasut.synthesize.writing import Made
from aasut.types import Completion, Usage

CHUNK = chunked.chunks(1)[0]
SHELF = Shelf("train", {"en/0.md": "train"}, "t")
TASK = Task("questions", (CHUNK,), SHELF)
GOOD, BAD = Completion("{}", Usage(10, 2)), Completion("", failure="no answer in 9 attempts")


def account(planned: int, most: float = 0.1, unread: float = 0.5) -> Account:
    teacher = {"scripted": chunked.RULES, "max_failed": most}
    return Account(chunked.recipe(teacher=teacher, filter={"max_failed": unread}), planned)


def test_rows_add_up() -> None:
    counted = account(10, most=0.5)
    for completion in (GOOD, GOOD, GOOD, BAD, GOOD):
        counted.answered(TASK, completion, False)
    items = [SHELF.item("questions", "questions/1", number, [CHUNK], ()) for number in range(3)]
    counted.finished(TASK, Made(items, Counter(blank=2), Counter(fence=1), Counter(), Counter(verbatim=3)))
    counted.finished(TASK, Made(unread=Counter({"no JSON": 1})))
    facts = counted.facts()
    answers, made = facts["conservation"]["answers"], facts["conservation"]["items"]
    assert answers.balanced
    assert made.balanced
    assert (answers.rows_in, answers.kept) == (5, 3)
    assert answers.failed == {"no answer in 9 attempts": 1, "no JSON": 1}
    assert (made.rows_in, made.kept, made.failed) == (5, 3, {"blank": 2})
    assert facts["items"] == {"train": {"questions": 3}}
    assert facts["tokens"] == {"prompt": 40, "completion": 8}
    assert (facts["repairs"], facts["quotes"], facts["requests"]) == ({"fence": 1}, {"verbatim": 3}, {"questions": 5})


def test_too_many_failures_stop_the_asking_but_a_few_do_not() -> None:
    counted = account(1000)
    for _ in range(100):
        counted.answered(TASK, BAD, False)  # a tenth of what is planned
    with pytest.raises(TeacherError, match=r"101 of 101 answers are unusable \(101 × no answer") as caught:
        counted.answered(TASK, BAD, False)
    assert "teacher.max_failed" in caught.value.remedy
    few = account(30)
    for _ in range(20):
        few.answered(TASK, BAD, False)
    with pytest.raises(TeacherError, match="21 of 21"):
        few.answered(TASK, BAD, False)


def test_too_many_answers_that_cannot_be_read_stop_it_too() -> None:
    counted = account(30)
    for _ in range(21):
        counted.answered(TASK, GOOD, False)
        if counted.made.unread.total() < 20:
            counted.finished(TASK, Made(unread=Counter({"no JSON": 1})))
    with pytest.raises(TeacherError, match=r"21 of 21 answers are not to be read \(21 × no JSON\)") as caught:
        counted.finished(TASK, Made(unread=Counter({"no JSON": 1})))
    assert "filter.max_failed" in caught.value.remedy


def test_in_the_end_few_are_too_many_as_well() -> None:
    counted = account(5)
    for completion in (GOOD, GOOD, GOOD, GOOD, BAD):
        counted.answered(TASK, completion, False)
    with pytest.raises(TeacherError, match="1 of 5 answers are unusable"):
        counted.facts()
    assert account(0).facts()["conservation"]["answers"].rows_in == 0
