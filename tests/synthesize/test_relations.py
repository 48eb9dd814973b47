from __future__ import annotations

import json

import chunked
from aasut.engine import grammar
from aasut.synthesize import relations
from aasut.synthesize.shelf import Shelf
from aasut.types import Message
from rounds import play, said

MADE = [*chunked.chunks(20, each=1), *chunked.chunks(20, "hi", each=1)]
PARTS = chunked.parts(MADE)
WANTED = chunked.recipe(synthesize={"kinds": ["relations"], "pairs": 2}).synthesize
HINDI = next(chunk for chunk in MADE if chunk.language == "hi" and PARTS[chunk.span.document] == "train")
NAMES = {"names": ["नियामक", "छन्नी", " छन्नी", "इंजन", "", "गुनगुने पानी"]}


def test_pairs_of_names_that_stand_in_the_chunk_are_related() -> None:
    shelf = Shelf("train", PARTS, "t")
    device = HINDI.text.split("का ")[1].split()[0]
    names = {"names": [device, *NAMES["names"][1:]]}
    made, asked = play(
        relations.write((HINDI,), shelf, WANTED), [said(names)], [said("पहला पाठ।"), said("दूसरा पाठ। आधा", "length")]
    )
    assert [item.turns for item in made.items] == [
        (Message("assistant", "पहला पाठ।"),),
        (Message("assistant", "दूसरा पाठ।"),),
    ]
    assert made.repairs == {"cut: whole sentences kept": 1}
    assert {item.spans for item in made.items} == {(HINDI.span,)}
    assert {item.prompt for item in made.items} == {"relations/1"}
    assert len({item.id for item in made.items}) == 2
    assert made.faults == {
        "the same name again": 1, "a name that is not in the text": 1, "a name that is no text": 1
    }  # fmt: skip
    ends = [request.messages[-1].content.splitlines()[-1] for request in asked[1]]
    assert len(set(ends)) == 2
    assert all(sum(name in end for name in (device, "छन्नी", "गुनगुने पानी")) == 2 for end in ends)
    assert all("इंजन" not in end and not request.schema for end, request in zip(ends, asked[1], strict=True))


def test_a_text_that_goes_round_is_a_fault() -> None:
    names = said({"names": ["क्रमांक", "छन्नी", "सप्ताह"]})
    made, _ = play(
        relations.write((HINDI,), Shelf("train", PARTS, "t"), WANTED),
        [names],
        [said("क।"), said("एक दो तीन चार पाँच। " * 9)],
    )
    assert [item.turns[0].content for item in made.items] == ["क।"]
    assert (made.faults, made.unread) == ({"a text that says the same again and again": 1}, {})


def test_a_bound_engine_is_asked_for_the_text_as_json() -> None:
    shelf = Shelf("train", PARTS, "t", bound=True)
    names = said({"names": ["क्रमांक", "छन्नी", "सप्ताह"]})
    made, asked = play(
        relations.write((HINDI,), shelf, WANTED), [names], [said({"text": "क, ख।"}), said('{"text": "एक। दो', "length")]
    )
    assert [item.turns[0].content for item in made.items] == ["क, ख।", "एक।"]
    for request in asked[1]:
        grammar.check(request.schema)
        shown = [json.loads(message.content) for message in request.messages if message.role == "assistant"]
        assert all(list(one) == ["text"] for one in shown)


def test_which_pairs_are_related_hangs_on_the_chunk_alone() -> None:
    names = said({"names": ["क्रमांक", "छन्नी", "सप्ताह", "पानी", "दिन"]})
    texts = [said("क।"), said("ख।")]
    runs = [play(relations.write((HINDI,), Shelf("train", PARTS, "t"), WANTED), [names], texts)[1] for _ in range(2)]
    assert runs[0] == runs[1]


def test_every_second_pair_is_grounded_in_another_chunk_of_the_split_too() -> None:
    index = chunked.SharedWords(MADE)
    shelf = Shelf("train", PARTS, "t", index=index)
    names = said({"names": ["छन्नी", "गुनगुने पानी", "सप्ताह"]})
    made, asked = play(relations.write((HINDI,), shelf, WANTED), [names], [said("क।"), said("ख।")])
    assert [len(item.spans) for item in made.items] == [1, 2]
    assert len(index.asked) == 1
    own, other = made.items[1].spans
    assert own == HINDI.span != other
    assert PARTS[other.document] == "train"
    found = next(chunk for chunk in MADE if chunk.span == other)
    assert found.text.strip() in asked[1][1].messages[-1].content
    assert found.text.strip() not in asked[1][0].messages[-1].content


def test_a_chunk_that_is_found_and_names_neither_is_not_taken() -> None:
    index = chunked.SharedWords([HINDI, *(chunk for chunk in MADE if chunk.language == "en")])
    names = said({"names": ["छन्नी", "गुनगुने पानी", "सप्ताह"]})
    made, _ = play(
        relations.write((HINDI,), Shelf("train", PARTS, "t", index=index), WANTED), [names], [said("क।"), said("ख।")]
    )
    assert [len(item.spans) for item in made.items] == [1, 1]


def test_without_two_names_there_is_nothing_to_relate() -> None:
    shelf = Shelf("train", PARTS, "t")
    made, asked = play(relations.write((HINDI,), shelf, WANTED), [said({"names": ["छन्नी"]})])
    assert (made.items, made.faults, len(asked)) == ([], {"fewer than two names": 1}, 1)
    made, _ = play(relations.write((HINDI,), shelf, WANTED), [said("", failure="no answer in 9 attempts")])
    assert (made.items, made.faults, made.unread) == ([], {}, {})
