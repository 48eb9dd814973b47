from __future__ import annotations

import json

import chunked
from aasut.synthesize import reading
from aasut.synthesize.shelf import Shelf
from aasut.types import Chunk, Message, Span
from rounds import play, said

MADE = chunked.chunks(3, "hi", each=3)
SHELF = Shelf("train", {"hi/0.md": "train", "a": "train"}, "t")
WANTED = chunked.recipe(synthesize={"kinds": ["reading"], "strategies": 2}).synthesize
WAYS = [{"name": "सूची", "task": "हर काम की सूची बनाइए।"}, {"name": "कथा", "task": "क्रम से बताइए।"}]


def test_a_documents_strategies_are_applied_to_each_of_its_chunks() -> None:
    texts = [said(f"पाठ {number}।") for number in range(6)]
    writing = reading.write(MADE, SHELF, WANTED, reading.outline_of(MADE))
    made, asked = play(writing, [said({"strategies": WAYS})], texts)
    assert [len(one) for one in asked] == [1, 6]
    assert "शीर्षक: Upkeep 0; Upkeep 1; Upkeep 2\n" in asked[0][0].messages[-1].content
    assert json.loads(asked[0][0].schema)["properties"]["strategies"]["maxItems"] == 2
    assert [item.turns for item in made.items] == [(Message("assistant", text.text),) for text in texts]
    assert [item.spans for item in made.items] == [(chunk.span,) for chunk in MADE for _ in WAYS]
    assert len({item.id for item in made.items}) == 6
    for number, request in enumerate(asked[1]):
        assert MADE[number // 2].text.strip() in request.messages[-1].content
        assert f"कार्य: {WAYS[number % 2]['task']}" in request.messages[-1].content


def test_what_is_asked_of_the_first_chunk_is_the_same_without_the_others() -> None:
    outline = reading.outline_of(MADE)
    one, all_of_them = (
        play(
            reading.write(chunks, SHELF, WANTED, outline),
            [said({"strategies": WAYS})],
            [said("क।")] * 2 * len(chunks),
        )[1]
        for chunks in (MADE[:1], MADE)
    )
    assert one[0] == all_of_them[0]
    assert one[1] == all_of_them[1][:2]


def test_no_strategy_comes_twice_and_none_too_many() -> None:
    ways = [WAYS[0], WAYS[0] | {"name": "x"}, {"name": "y"}, WAYS[1], {"name": "z", "task": "Third."}]
    made, asked = play(
        reading.write(MADE[:1], SHELF, WANTED, ""), [said({"strategies": ways})], [said("क।"), said("", "length")]
    )
    assert made.faults == {
        "the same strategy again": 1, "an element lacks a text": 1, "more strategies than wanted": 1
    }  # fmt: skip
    assert made.unread == {"the answer is empty": 1}
    assert len(made.items) == 1
    made, asked = play(reading.write(MADE[:1], SHELF, WANTED, ""), [said("none")])
    assert (made.items, made.unread.total(), len(asked)) == ([], 1, 1)


def test_only_the_beginning_of_a_long_document_is_shown_whole_words_of_it() -> None:
    chunk = Chunk("a", "शब्द " * 1000, Span("a", 0, 5000), "hi")
    writing = reading.write([chunk], SHELF, WANTED, reading.outline_of([chunk]))
    shown = next(writing)[0].messages[-1].content
    assert "शीर्षक: -\n" in shown
    assert shown.split("आरंभ: ")[1].split("\n")[0] == ("शब्द " * 120).strip()
