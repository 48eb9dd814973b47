from __future__ import annotations

import json

import chunked
from aasut import tools
from aasut.engine import grammar
from aasut.synthesize import calls
from aasut.synthesize.shelf import Shelf
from aasut.types import Message
from rounds import play, said

MADE = chunked.chunks(200, "hi", each=1)
SHELF = Shelf("train", dict.fromkeys((chunk.span.document for chunk in MADE), "train"), "t")
REFERRING = {
    "type": "function",
    "function": {
        "name": "warn",
        "description": "Warn somebody.",
        "parameters": {
            "type": "object",
            "$defs": {"person": {"type": "string", "minLength": 2}},
            "properties": {"who": {"$ref": "#/$defs/person"}},
            "required": ["who"],
        },
    },
}
WANTED = chunked.recipe(synthesize={"kinds": ["calls"], "tools": [*chunked.TOOLS, REFERRING]}).synthesize


def plain(number: int) -> bool:
    """Is the chunk for a request without calls?"""
    return next(calls.write((MADE[number],), SHELF, WANTED))[0].messages[-1].content.endswith("बिना कॉल का अनुरोध:")


NONE = next(number for number in range(200) if plain(number))
SOME = next(number for number in range(200) if not plain(number))


def test_about_a_quarter_of_the_chunks_are_for_requests_without_calls() -> None:
    assert 30 <= sum(map(plain, range(200))) <= 70


def test_calls_are_written_in_their_one_form() -> None:
    given = [
        {"name": "warn", "arguments": {"who": "रवि"}},
        {"function": {"name": "order_part", "arguments": '{"count": 2.0, "part": "छन्नी"}'}},
    ]
    made, asked = play(
        calls.write((MADE[SOME],), SHELF, WANTED), [said({"request": "दो छन्नियाँ मँगाओ, रवि को बताओ।", "calls": given})]
    )
    (item,) = made.items
    expected = (
        '[{"name": "order_part", "arguments": {"part": "छन्नी", "count": 2}}, '
        '{"name": "warn", "arguments": {"who": "रवि"}}]'
    )
    assert item.turns == (Message("user", "दो छन्नियाँ मँगाओ, रवि को बताओ।"), Message("assistant", expected))
    assert (item.kind, item.prompt, item.evidence) == ("calls", "calls/1", ())
    assert tools.canonical(item.answers[0], json.dumps(WANTED.tools)) == expected
    request = asked[0][0]
    assert '"description": "Warn somebody."' in request.messages[-1].content
    assert request.messages[-1].content.count("order_part") == 1
    grammar.check(request.schema)


def test_calls_that_do_not_fit_are_a_fault() -> None:
    for given in (
        [{"name": "fly", "arguments": {}}],
        [{"name": "order_part", "arguments": {"count": 2}}],
        [{"name": "warn", "arguments": {"who": "र"}}],
        [],
        "order_part",
    ):
        made, _ = play(calls.write((MADE[SOME],), SHELF, WANTED), [said({"request": "कुछ करो।", "calls": given})])
        assert (made.items, made.faults) == ([], {"calls that do not fit the functions": 1})
    made, _ = play(calls.write((MADE[SOME],), SHELF, WANTED), [said({"request": " ", "calls": []})])
    assert made.faults == {"an element lacks a text": 1}


def test_requests_that_are_copied_from_worked_examples_are_a_fault() -> None:
    given = [{"name": "order_part", "arguments": {"part": "छन्नी"}}]
    answer = {"request": "अब से पंप 30 सेमी पर चालू हो, और उसे अभी फिर चालू कर दीजिए।", "calls": given}
    made, _ = play(calls.write((MADE[SOME],), SHELF, WANTED), [said(answer)])
    assert (made.items, made.faults) == ([], {"copied from a worked example": 1})
    plain_answer = {"quote": "x", "request": "तहखाने का पंप लगातार कितनी देर चलता है?", "answer": "दस मिनट।"}
    made, _ = play(calls.write((MADE[NONE],), SHELF, WANTED), [said(plain_answer)])
    assert (made.items, made.faults) == ([], {"copied from a worked example": 1})


def test_a_request_without_calls_is_answered_with_evidence() -> None:
    quote = MADE[NONE].text.split("\n\n")[1].split("। ")[0] + "।"
    answer = {"quote": quote, "request": "कब साफ़ करें?", "answer": "हर कुछ सप्ताह में।"}
    made, _ = play(calls.write((MADE[NONE],), SHELF, WANTED), [said(answer)])
    (item,) = made.items
    assert (item.questions, item.answers, item.evidence) == ((answer["request"],), (answer["answer"],), (quote,))
    assert (item.kind, item.prompt) == ("calls", "no_calls/1")
    assert not tools.is_calls(item.answers[0])
    made, _ = play(calls.write((MADE[NONE],), SHELF, WANTED), [said(answer | {"answer": "[1] हाँ"})])
    assert (made.items, made.faults) == ([], {"an answer that reads as calls": 1})
