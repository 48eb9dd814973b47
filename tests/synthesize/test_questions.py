from __future__ import annotations

import json

import chunked
from aasut.engine import grammar
from aasut.synthesize import parse, questions
from aasut.synthesize.shelf import Shelf
from aasut.synthesize.writing import AGAIN, COPIED
from aasut.types import Message
from rounds import play, said

ENGLISH, HINDI = chunked.chunks(1)[0], chunked.chunks(1, "hi")[0]
PARTS = {"en/0.md": "train", "hi/0.md": "train"}
SHELF = Shelf("train", PARTS, "t")
BOUND = Shelf("train", PARTS, "t", bound=True)
WANTED = chunked.recipe(synthesize={"questions": 2, "max_tokens": 99, "temperature": 0.5}).synthesize
ONE = {"quote": "उसकी छन्नी 20 दिन चलती है।", "question": "छन्नी कितने दिन चलती है?", "answer": "20 दिन।"}
TWO = {"quote": "Its filter lasts  20 days", "question": "How long does the filter last?", "answer": "20 days."}


def test_each_question_has_its_answer_and_its_sentence() -> None:
    made, asked = play(questions.write((HINDI,), SHELF, WANTED), [said({"questions": [ONE]})])
    (item,) = made.items
    assert item.turns == (Message("user", ONE["question"]), Message("assistant", ONE["answer"]))
    assert (item.evidence, item.spans, item.prompt) == ((ONE["quote"],), (HINDI.span,), "questions/1")
    assert (item.kind, item.language, item.teacher) == ("questions", "hi", "t")
    assert not made.faults + made.repairs + made.unread
    ((request,),) = asked
    assert (request.max_tokens, request.temperature) == (99, 0.5)
    assert HINDI.text.strip() in request.messages[-1].content
    assert "hi/0.md › Upkeep 0" in request.messages[-1].content
    assert request.messages[-1].content.endswith("JSON में प्रश्न:")


def test_a_quote_is_given_as_the_chunk_has_it_and_a_false_one_as_it_is() -> None:
    false = TWO | {"question": "And then?", "quote": "It lasts for ever."}
    made, _ = play(questions.write((ENGLISH,), SHELF, WANTED), [said({"questions": [TWO, false]})])
    assert [item.evidence for item in made.items] == [("Its filter lasts 20 days",), ("It lasts for ever.",)]
    assert made.quoted == {"mended": 1, "not in the text": 1}


def test_faults_are_counted_by_reason() -> None:
    again = TWO | {"question": "HOW long does the  filter last?"}
    answer = {"questions": [TWO, again, ONE, {"question": "x"}, 7]}
    made, _ = play(questions.write((ENGLISH,), SHELF, WANTED), [said(answer)])
    assert [item.questions[0] for item in made.items] == [TWO["question"]]
    assert made.faults == {AGAIN: 1, "more questions than wanted": 1, parse.BLANK: 1, parse.NO_ELEMENT: 1}


def test_what_a_model_copies_from_the_worked_examples_is_a_fault() -> None:
    copied = {"quote": "x", "question": "नगर पुस्तकालय का सदस्य एक बार में कितनी पुस्तकें ले सकता है?", "answer": "पाँच।"}
    made, _ = play(questions.write((HINDI,), SHELF, WANTED), [said({"questions": [copied, ONE]})])
    assert [item.questions[0] for item in made.items] == [ONE["question"]]
    assert made.faults == {COPIED: 1}


def test_answers_that_are_cut_give_their_whole_elements_and_failed_ones_none() -> None:
    cut = json.dumps({"questions": [TWO, ONE]})[:-30]
    for completion in (said(cut, "length"), said(cut, "length", "cut short at max_tokens")):
        made, _ = play(questions.write((ENGLISH,), SHELF, WANTED), [completion])
        assert len(made.items) == 1
        assert made.repairs == {parse.CUT: 1}
    made, _ = play(
        questions.write((ENGLISH,), SHELF, WANTED), [said(cut, "length", "longer than the teacher's context")]
    )
    assert made.unread == {}
    made, _ = play(questions.write((ENGLISH,), SHELF, WANTED), [said("no", "content_filter", "withheld")])
    assert (made.items, made.unread) == ([], {})
    made, _ = play(questions.write((ENGLISH,), SHELF, WANTED), [said("I cannot.")])
    assert made.unread == {parse.NO_JSON: 1}


def test_where_the_engine_can_be_bound_each_question_is_about_a_share_of_the_text() -> None:
    """Its quote is a sentence of that share, its answer the same or a part of it."""
    ((free,),) = play(questions.write((ENGLISH,), SHELF, WANTED), [said({"questions": []})])[1]
    again = TWO | {"quote": "Its filter lasts 20 days."}
    made, (bound,) = play(
        questions.write((ENGLISH,), BOUND, WANTED), [said({"questions": [TWO]}), said({"questions": [again]})]
    )
    assert len(bound) == 2
    shapes = [json.loads(request.schema)["properties"]["questions"] for request in bound]
    assert [shape["maxItems"] for shape in shapes] == [1, 1]
    assert [shape["items"]["properties"]["quote"] for shape in shapes] == [
        {"const": "The compressor number 0 is cleaned every 2 weeks with lukewarm water."},
        {"const": "Its filter lasts 20 days."},
    ]
    assert shapes[1]["items"]["properties"]["answer"] == {"enum": ["Its filter lasts 20 days."]}
    assert json.loads(free.schema)["properties"]["questions"]["maxItems"] == 2
    for request in (free, *bound):
        grammar.check(request.schema)
    for shape in (*shapes, json.loads(free.schema)["properties"]["questions"]):
        assert list(shape["items"]["properties"]) == shape["items"]["required"] == ["quote", "question", "answer"]
    assert free.messages[1:] == bound[0].messages[1:]
    assert (len(made.items), made.faults) == (1, {AGAIN: 1})
