from __future__ import annotations

import json

import pytest

from aasut.synthesize import round_trip
from aasut.synthesize.round_trip import fault, requests, said, unsaid
from aasut.types import Completion
from written import HINDI, MANUAL, TOOL, asked, chunks, conversation, read

CHUNK, HINDI_CHUNK = chunks("a.md", MANUAL)[0], chunks("b.md", HINDI, "hi")[0]
PAIRS = [("Which fuse is it?", "It is F12."), ("And its rating, {text}?", "15 A.")]


def test_each_question_follows_the_turns_before_it_and_no_answer_of_its_own() -> None:
    first, second = requests(conversation("1", PAIRS, CHUNK), "PASSAGE {question}", 99)
    assert first.messages[-1].content == "Text: PASSAGE {question}\n\nQuestion: Which fuse is it?\nAnswer:"
    assert "F12" not in str(first.messages)
    assert [turn.content for turn in second.messages[-3:]] == [
        first.messages[-1].content, '{"answer": "It is F12."}', "Question: And its rating, {text}?\nAnswer:",
    ]  # fmt: skip
    assert "15 A" not in str(second.messages)
    assert (first.temperature, first.max_tokens, first.tools) == (0.0, 99, "")
    assert first.messages[0].role == "system"
    assert requests(read("1", "A text.", CHUNK), "PASSAGE", 99) == []


def test_hindi_is_asked_in_hindi_and_other_languages_in_english() -> None:
    (hindi,) = requests(asked("1", "कौन-सा फ़्यूज़?", "F12", HINDI_CHUNK), "पाठ्य", 9)
    assert hindi.messages[-1].content == "पाठ: पाठ्य\n\nप्रश्न: कौन-सा फ़्यूज़?\nउत्तर:"
    (other,) = requests(asked("1", "Welche Sicherung?", "F12", CHUNK, language="de"), "Text", 9)
    assert other.messages[-1].content.endswith("Question: Welche Sicherung?\nAnswer:")


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ("Fuse F12.", "fuse F12", ""),
        ("It is fuse F12.", "Fuse F12", ""),
        ("It is fuse F12.", "The gearbox.", round_trip.OTHER),
        ("Fuse F12.", "Not stated.", round_trip.NOT_STATED),
        ("Fuse F12.", "", round_trip.NOT_STATED),
        ("Fuse F12.", "The passage does not say which fuse it is.", round_trip.NOT_STATED),
        ("F12 फ़्यूज़", "नहीं बताया गया।", round_trip.NOT_STATED),
        ("१५ एम्पियर", "15 एम्पियर", ""),
    ],
)
def test_two_answers_agree_by_their_words(first: str, second: str, reason: str) -> None:
    assert fault(asked("1", "Which?", first, CHUNK), [Completion(second)], 0.5)[0] == reason


def test_one_turn_that_differs_is_enough_and_it_is_shown() -> None:
    item = conversation("1", PAIRS, CHUNK)
    assert fault(item, [Completion("F12, it is"), Completion("30 V")], 0.5) == (round_trip.OTHER, "30 V")
    assert fault(item, [Completion("F12, it is"), Completion("", failure="refused")], 0.5) == (
        round_trip.UNANSWERED, "refused",
    )  # fmt: skip


def test_calls_are_the_same_calls_or_none() -> None:
    def calls(**given: object) -> str:
        return json.dumps([{"name": "order", "arguments": given}])

    item = asked("1", "Order F12.", calls(part="F12", count=1), CHUNK, kind="calls")
    (request,) = requests(item, "PASSAGE", 9, [TOOL])
    assert json.loads(request.tools) == [TOOL]
    assert len(request.messages) == 2
    same = '[{"name":"order","arguments":{"count":1.0,"part":"F12"}}]'
    assert fault(item, [Completion(same)], 1.0, [TOOL]) == ("", "")
    for other in (calls(part="F12", count=2), calls(part="F12"), "Fuse F12.", calls(parts="F12")):
        assert fault(item, [Completion(other)], 0.1, [TOOL]) == (round_trip.OTHER, other)
    plain = asked("2", "Which fuse?", "Fuse F12.", CHUNK, kind="calls")
    assert fault(plain, [Completion("fuse F12")], 0.5, [TOOL]) == ("", "")
    assert fault(plain, [Completion(calls(part="F12"))], 0.5, [TOOL])[0] == round_trip.OTHER


def test_what_says_that_there_is_no_answer() -> None:
    assert unsaid("NOT MENTIONED")
    assert unsaid("।")
    assert not unsaid("The rating is not stated on the fuse itself but in the table on the lid of the box.")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('{"answer": "Ten amperes."}', "Ten amperes."),
        (' {"answer": " दस एम्पियर "} ', "दस एम्पियर"),
        ("Ten amperes.", "Ten amperes."),
        ('{"answer": "Ten', '{"answer": "Ten'),
        ('{"answer": 10}', '{"answer": 10}'),
        ('["Ten"]', '["Ten"]'),
    ],
)
def test_an_answer_is_read_from_its_json_or_taken_as_it_stands(text: str, answer: str) -> None:
    assert said(text) == answer


def test_an_engine_is_bound_to_say_something() -> None:
    (request,) = requests(conversation("1", PAIRS[:1], CHUNK), "PASSAGE", 99)
    assert json.loads(request.schema)["properties"]["answer"]["minLength"] == 1
