"""A sitting: who is asked what, in which order, blind to whom; and what is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aasut.data import gold
from aasut.data.gold import Line
from aasut.errors import DataError, RecipeError
from aasut.gold.session import Item, Session, pace
from aasut.prompts import PromptTemplate
from aasut.tasks import Classify, Extract, Generate, Task
from aasut.types import Example

LABELS = Classify(("negative", "neutral", "positive"), PromptTemplate.of("{text}"))


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 0}}, "required": ["a"]}
FREE = Extract(PromptTemplate.of("{text}"), 64, json.dumps(SCHEMA))
ROWS = [Example(f"0:{i}", {"text": f"text {i}"}, f"g{i // 2}") for i in range(12)]


def session(
    folder: Path, task: Task = LABELS, rater: str = "ann", double: float = 1.0, adjudicate: bool = False
) -> Session:
    path = folder / "gold.jsonl"
    return Session(task, path, ROWS, rater=rater, double=double, seed=7, adjudicate=adjudicate)


def asked(sitting: Session) -> Item:
    item = sitting.item()
    assert item is not None
    return item


def answer_all(sitting: Session, text: str = "neutral", most: int = 99) -> list[str]:
    """Row ids in the order in which they were asked."""
    found = []
    while (item := sitting.item()) is not None and len(found) < most:
        sitting.answer(item.key, text)
        found.append(item.example.id)
    return found


def test_rows_come_in_order_once_and_the_next_sitting_goes_on(tmp_path: Path) -> None:
    first = answer_all(session(tmp_path), most=5)
    rest = answer_all(session(tmp_path))
    assert first + rest == [row.id for row in ROWS]
    assert session(tmp_path).item() is None  # never one's own double


def test_a_second_person_is_asked_the_doubles_first_and_then_what_is_open(tmp_path: Path) -> None:
    answer_all(session(tmp_path, double=0.5), most=8)
    bob = session(tmp_path, rater="bob", double=0.5)
    assert bob.doubles == session(tmp_path, double=0.5).doubles  # whoever asks
    found = answer_all(bob)
    twice = [row.id for row in ROWS[:8] if row.id in bob.doubles]
    assert 0 < len(twice) < 8
    assert found == twice + [row.id for row in ROWS[8:]]
    rounds = {line.id: line.round for line in gold.read(tmp_path / "gold.jsonl") if line.by == "bob"}
    assert {row_id for row_id, rnd in rounds.items() if rnd == "second"} == set(twice)
    # A third person finds nothing but the doubles among bob's own first answers.
    third = answer_all(session(tmp_path, rater="eve", double=0.5))
    assert third == [row.id for row in ROWS[8:] if row.id in bob.doubles]


def test_what_one_skips_is_asked_of_another(tmp_path: Path) -> None:
    ann, bob = session(tmp_path, double=0.0), session(tmp_path, rater="bob", double=0.0)
    ann.skip(asked(ann).key, "hm")
    ann.unusable(asked(ann).key, "broken")
    assert asked(ann).example.id == "0:2"
    assert (asked(bob).example.id, asked(bob).round) == ("0:0", "first")
    bob.answer(asked(bob).key, "neutral")
    assert asked(bob).example.id == "0:2"


def test_two_sittings_at_once_see_each_others_answers(tmp_path: Path) -> None:
    ann, bob = session(tmp_path, double=0.0), session(tmp_path, rater="bob", double=0.0)
    key = asked(bob).key
    assert key == asked(ann).key
    ann.answer(key, "neutral")
    with pytest.raises(DataError, match="not the one asked now"):
        bob.answer(key, "neutral")
    assert asked(bob).example.id == "0:1"


def test_undo_goes_back_step_by_step_and_asks_the_same_row_again(tmp_path: Path) -> None:
    answer_all(session(tmp_path, rater="bob", double=1.0), most=3)
    ann = session(tmp_path)
    answer_all(ann, most=5)
    again = session(tmp_path)  # after a restart too
    assert again.undo()
    assert asked(again).example.id == "0:4"
    assert again.undo()
    assert asked(again).example.id == "0:3"
    again.answer(asked(again).key, "positive")
    assert asked(again).example.id == "0:4"
    assert [again.undo() for _ in range(5)] == [True] * 4 + [False]
    bobs = [line for rows in session(tmp_path).rows.values() for line in rows]
    assert [line.by for line in bobs] == ["bob"] * 3


def test_only_the_rows_with_different_answers_are_decided_blind(tmp_path: Path) -> None:
    answer_all(session(tmp_path), "neutral")
    bob = session(tmp_path, rater="bob")
    for number in range(12):
        if number == 5:
            bob.unusable(asked(bob).key, "broken")
        else:
            bob.answer(asked(bob).key, "positive" if number < 4 else "neutral")
    eve = session(tmp_path, rater="eve", adjudicate=True)
    said = []
    assert eve.tally().left == 5
    while (item := eve.item()) is not None and len(said) < 3:
        assert item.round == "adjudicated"
        said.append(item.said)
        eve.answer(item.key, "neutral")
    assert {tuple(sorted(one)) for one in said} == {("neutral", "positive")}
    eve.skip(asked(eve).key, "cannot decide")
    assert sorted(asked(eve).said) == ["", "neutral"]
    eve.undo()
    eve.answer(asked(eve).key, "positive")
    eve.unusable(asked(eve).key, "")
    assert eve.item() is None
    rows = session(tmp_path).rows
    assert [gold.settle(rows[row.id])[0] for row in ROWS[:6]] == ["neutral"] * 3 + ["positive", "neutral", None]


def test_the_order_of_what_people_said_tells_nothing_about_who(tmp_path: Path) -> None:
    answer_all(session(tmp_path), "neutral")
    answer_all(session(tmp_path, rater="bob"), "positive")
    eve = session(tmp_path, rater="eve", adjudicate=True)
    orders = []
    while (item := eve.item()) is not None:
        orders.append(item.said)
        eve.answer(item.key, "neutral")
    assert set(orders) == {("neutral", "positive"), ("positive", "neutral")}


def test_an_answer_is_kept_in_its_one_form_and_others_are_refused(tmp_path: Path) -> None:
    ann = session(tmp_path)
    key = asked(ann).key
    for text, why in (("so so", "the answers are negative, neutral, positive"), ("x" * 100_001, "characters long"),
                      ("\ud800", "not valid Unicode")):  # fmt: skip
        with pytest.raises(DataError, match=why):
            ann.answer(key, text)
    assert not (tmp_path / "gold.jsonl").exists()
    ann.answer(key, " NEUTRAL ")
    assert gold.read(tmp_path / "gold.jsonl")[0].text == "neutral"
    free = session(tmp_path, FREE, rater="bob")
    for text, why in (
        ("", "it is empty"), ("{", "no JSON"), ("[]", "not of type 'object'"), ('{"a": -1}', "a: -1 is less than"),
        ("{}", "'a' is a required property"), ("[" * 9999, "nested too deeply"), ('{"a": NaN}', "a: nan is"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=why):
            free.answer(asked(free).key, text)


def test_free_text_is_kept_without_the_space_around_it(tmp_path: Path) -> None:
    ann = session(tmp_path, Generate(PromptTemplate.of("{text}"), 64))
    with pytest.raises(DataError, match="it is empty"):
        ann.answer(asked(ann).key, " \n ")
    ann.answer(asked(ann).key, "  दो दिन\nचलती है ")
    assert gold.read(tmp_path / "gold.jsonl")[0].text == "दो दिन\nचलती है"


def test_answers_to_another_text_are_asked_again(tmp_path: Path) -> None:
    stale = Line("0:0", "another", "answer", "neutral", "ann", "t")
    gold.append(tmp_path / "gold.jsonl", stale)
    ann = session(tmp_path)
    assert asked(ann).example.id == "0:0"
    assert not ann.undo()


def test_the_tally_and_the_pace(tmp_path: Path) -> None:
    def line(number: int, seconds: float) -> Line:
        return Line(f"0:{number}", "h", "answer", "neutral", "ann", f"t{number:03}", "first", seconds)

    assert pace([]) is None
    assert pace([line(0, 4.0), line(1, 6.0)]) == 5.0
    assert pace([line(0, 4.0), line(1, 4.0), line(2, 9000.0)]) == pytest.approx(20 / 3)  # a pause counts little
    assert pace([line(i, 99.0) for i in range(50)] + [line(i, 2.0) for i in range(50, 100)]) == 2.0
    ann = session(tmp_path)
    assert (ann.tally().done, ann.tally().left, ann.tally().seconds_left) == (0, 12, None)
    answer_all(ann, most=3)
    assert (ann.tally().done, ann.tally().left) == (3, 9)
    assert ann.tally().seconds_left is not None
    bob = session(tmp_path, rater="bob")
    assert (bob.tally().done, bob.tally().left) == (0, 12)


def test_keys_do_not_give_ids_away(tmp_path: Path) -> None:
    item = asked(session(tmp_path))
    assert item.example.id not in item.key
    assert len(item.key) == 16


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 101])
def test_who_answers_has_a_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecipeError, match="no name of a person"):
        session(tmp_path, rater=name)


def test_a_folder_that_is_not_there_is_said_before_anything_is_asked(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="There is no folder"):
        session(tmp_path / "nowhere")
