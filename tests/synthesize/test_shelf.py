from __future__ import annotations

import pytest

import chunked
from aasut.errors import DataError
from aasut.synthesize.shelf import Shelf, slots_of
from aasut.types import Message

MADE = [*chunked.chunks(10, each=1), *chunked.chunks(4, "hi", each=1)]
PARTS = chunked.parts(MADE)
TURNS = (Message("user", "q"), Message("assistant", "a"))


def test_an_item_is_made_of_its_own_split_alone() -> None:
    shelf = Shelf("train", PARTS, "t")
    for chunk in MADE:
        if PARTS[chunk.span.document] == "train":
            made = shelf.item("questions", "questions/1", 0, [chunk], TURNS, ["e"])
            assert (made.split, made.spans, made.language) == ("train", (chunk.span,), chunk.language)
        else:
            with pytest.raises(DataError, match="is not of train"):
                shelf.item("questions", "questions/1", 0, [chunk], TURNS)
    mixed = [next(chunk for chunk in MADE if PARTS[chunk.span.document] == split) for split in ("train", "test")]
    with pytest.raises(DataError, match="is not of train"):
        shelf.item("relations", "relations/1", 0, mixed, TURNS[1:])


def test_a_search_sees_its_own_split_alone() -> None:
    for split in ("train", "tune", "test"):
        shelf = Shelf(split, PARTS, "t", index=chunked.SharedWords(MADE))
        own = [chunk for chunk in MADE if PARTS[chunk.span.document] == split]
        for chunk in MADE:
            near = shelf.near(chunk.text, own[0])
            assert near in own[1:]
    assert Shelf("train", PARTS, "t").near("words", MADE[2]) is None


def test_ids_differ_by_kind_span_prompt_and_number() -> None:
    shelf = Shelf("train", PARTS, "t")
    one, other = MADE[2], MADE[3]
    names = {
        shelf.item("questions", "questions/1", 0, [one], TURNS).id,
        shelf.item("calls", "questions/1", 0, [one], TURNS).id,
        shelf.item("questions", "questions/2", 0, [one], TURNS).id,
        shelf.item("questions", "questions/1", 1, [one], TURNS).id,
        shelf.item("questions", "questions/1", 0, [other], TURNS).id,
    }
    assert len(names) == 5
    assert shelf.item("questions", "questions/1", 0, [one], TURNS[1:]).id in names


def test_the_recipes_language_goes_before_the_chunks() -> None:
    assert Shelf("train", PARTS, "t").language(MADE[-1]) == "hi"
    assert Shelf("train", PARTS, "t", "de").language(MADE[-1]) == "de"


def test_quotes_are_bound_where_the_engine_follows_a_schema() -> None:
    chunk = MADE[2]
    assert Shelf("train", PARTS, "t").quotable(chunk) == []
    bound = Shelf("train", PARTS, "t", bound=True).quotable(chunk)
    assert len(bound) == 2
    assert all(sentence in chunk.text for sentence in bound)


def test_a_reader_is_told_where_chunks_stand() -> None:
    told = slots_of(MADE[2], MADE[3])
    assert told["source"] == "en/2.md › Upkeep 2; en/3.md › Upkeep 3"
    assert told["text"] == f"{MADE[2].text.strip()}\n\n{MADE[3].text.strip()}"
