from __future__ import annotations

import json

import chunked
from aasut.synthesize import conversations, parse
from aasut.synthesize.shelf import Shelf
from aasut.synthesize.writing import AGAIN, COPIED
from aasut.types import Message
from rounds import play, said

CHUNK = chunked.chunks(1, "hi")[0]
SHELF = Shelf("train", {"hi/0.md": "train"}, "t")
WANTED = chunked.recipe(synthesize={"kinds": ["conversations"], "turns": 3}).synthesize
FIRST = {"quote": "उसकी छन्नी 20 दिन चलती है।", "question": "छन्नी कितने दिन चलती है?", "answer": "20 दिन।"}
SECOND = {"quote": "गुनगुने पानी", "question": "और\nसफ़ाई किससे?", "answer": "गुनगुने पानी से।"}
THIRD = {"quote": "हर 2 सप्ताह में", "question": "कब-कब?", "answer": "हर 2 सप्ताह में।"}


def test_each_question_is_asked_with_what_was_said_before() -> None:
    made, asked = play(
        conversations.write((CHUNK,), SHELF, WANTED), [said(FIRST)], [said(SECOND)], [said(json.dumps(THIRD))]
    )
    (item,) = made.items
    assert item.questions == (FIRST["question"], SECOND["question"], THIRD["question"])
    assert item.answers == (FIRST["answer"], SECOND["answer"], THIRD["answer"])
    assert item.evidence == (FIRST["quote"], SECOND["quote"], THIRD["quote"])
    assert item.turns[2] == Message("user", SECOND["question"])
    assert made.quoted == {"verbatim": 3}
    assert not made.repairs + made.faults + made.unread
    ends = [one[0].messages[-1].content.split("अब तक:")[1] for one in asked]
    assert ends[0] == " कुछ नहीं\n\nJSON में अगला प्रश्न:"
    assert ends[2] == (
        f"\nव्यक्ति: {FIRST['question']}\nसहायक: {FIRST['answer']}"
        f"\nव्यक्ति: और सफ़ाई किससे?\nसहायक: {SECOND['answer']}\n\nJSON में अगला प्रश्न:"
    )
    assert len({one[0].messages[:-1] for one in asked}) == 1


def test_it_ends_where_a_question_is_not_usable() -> None:
    made, _ = play(conversations.write((CHUNK,), SHELF, WANTED), [said(FIRST)], [said(SECOND)], [said(FIRST)])
    assert [len(item.questions) for item in made.items] == [2]
    assert made.faults == {AGAIN: 1}
    made, _ = play(conversations.write((CHUNK,), SHELF, WANTED), [said(FIRST)], [said(SECOND)], [said("?")])
    assert [len(item.questions) for item in made.items] == [2]
    assert made.unread == {parse.NO_JSON: 1}
    made, _ = play(conversations.write((CHUNK,), SHELF, WANTED), [said(FIRST)], [said({"quote": "x"})])
    assert made.items == []
    assert made.faults == {parse.BLANK: 1, "a conversation that ends after its first question": 1}


def test_it_ends_where_a_question_is_copied_from_a_worked_example() -> None:
    copied = THIRD | {"question": "तो उसे फिर कैसे चलाऊँ?"}
    made, _ = play(conversations.write((CHUNK,), SHELF, WANTED), [said(FIRST)], [said(SECOND)], [said(copied)])
    assert ([len(item.questions) for item in made.items], made.faults) == ([2], {COPIED: 1})


def test_a_bound_quote_is_one_that_was_not_quoted_before() -> None:
    shelf = Shelf("train", {"hi/0.md": "train"}, "t", bound=True)
    other = SECOND | {"quote": CHUNK.text.split("\n\n")[1].split("। ")[0] + "।"}
    made, asked = play(conversations.write((CHUNK,), shelf, WANTED), [said(FIRST)], [said(other)])
    first, second = (json.loads(one[0].schema) for one in asked)
    assert [one["properties"]["quote"]["const"] for one in first["anyOf"]][1] == FIRST["quote"]
    assert second["properties"]["quote"] == {"const": first["anyOf"][0]["properties"]["quote"]["const"]}
    assert [len(item.questions) for item in made.items] == [2]
