from __future__ import annotations

from collections.abc import Sequence

from aasut.teacher.base import Teacher
from aasut.teacher.scripted import ScriptedTeacher
from aasut.types import Completion, Message, Request, Usage


def request(text: str, before: str = "") -> Request:
    shots = (Message("user", before), Message("assistant", "x")) if before else ()
    return Request((*shots, Message("user", text)))


def test_the_first_rule_whose_word_occurs_decides() -> None:
    teacher: Teacher = ScriptedTeacher({"Great": "positive", "great": "second", "poor": "negative", "": "neutral"})
    texts = ["A GREAT one", "poor but great", "very poor", "nothing"]
    found = teacher.complete([request(text) for text in texts])
    assert [completion.text for completion in found] == ["positive", "positive", "negative", "neutral"]
    assert found[0].usage == Usage(3, 1)
    assert all(completion.choice_logprobs is None for completion in found)
    assert teacher.price(found[0].usage) == 0


def test_only_the_last_message_is_read() -> None:
    teacher = ScriptedTeacher({"great": "positive", "poor": "negative"})
    assert teacher.complete([request("poor", before="great")])[0].text == "negative"


def test_without_a_rule_the_row_fails() -> None:
    (found,) = ScriptedTeacher({"great": "positive"}).complete([request("nothing")])
    assert found == Completion("", failure="no rule matches")


def test_answers_are_kept_as_they_come_and_rules_are_its_identity() -> None:
    kept: list[tuple[Request, Completion]] = []

    def keep(answered: Sequence[tuple[Request, Completion]]) -> None:
        kept.extend(answered)

    teacher = ScriptedTeacher({"": "a"})
    asked = [request("one"), request("two")]
    found = teacher.complete(asked, keep)
    assert found == [completion for _, completion in kept]
    assert [question for question, _ in kept] == asked
    assert teacher.identity == ScriptedTeacher({"": "a"}).identity != ScriptedTeacher({"": "b"}).identity
