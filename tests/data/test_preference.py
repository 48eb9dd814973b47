"""Pairs of a student's answers and the teacher's verdicts: what is asked, what is kept, and why others are not."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import small_run
from aasut.comparison import compared
from aasut.data import preference
from aasut.data.preference import Own, inputs, load, pairs_of
from aasut.errors import DataError, TeacherError
from aasut.progress import Progress
from aasut.recipe import Recipe
from aasut.teacher.ledger import Ledger
from aasut.teacher.scripted import ScriptedTeacher
from aasut.types import Completion, Example, Request

GOOD = {"Which answer is better": "{{better good}}"}


def recipe(**section: Any) -> Recipe:
    plain = small_run.recipe(task={"kind": "generate", "prompt": "Text: {text}", "max_tokens": 8})
    plain["student"] = {"model": {"address": "file:x"}, "preference": {"rubric": "Be good.", "samples": 4, **section}}
    return Recipe.model_validate(plain)


def examples(count: int) -> list[Example]:
    return [Example(f"0:r{i}", {"text": f"no {i}."}, f"g{i // 2}") for i in range(count)]


def given(count: int, *texts: str, **more: Any) -> list[Own]:
    return [Own(example, texts, **more) for example in examples(count)]


def ranked(tmp_path: Path, own: list[Own], rules: dict[str, str], **section: Any) -> tuple[dict[str, Any], Ledger]:
    ledger = Ledger(ScriptedTeacher(rules), tmp_path / "ledger.db")
    try:
        return preference.build(recipe(**section), own, ledger, tmp_path, Progress(quiet=True)), ledger
    finally:
        ledger.close()


def test_the_preferred_answer_is_chosen_whatever_the_order(tmp_path: Path) -> None:
    facts, ledger = ranked(tmp_path, given(10, "so good", "so bad"), GOOD)
    assert {(pair.chosen, pair.rejected) for pair in load(tmp_path)} == {("so good", "so bad")}
    assert facts["pairs"] == 10
    assert ledger.calls_made == 20
    assert {pair.group for pair in load(tmp_path)} == {f"g{i}" for i in range(5)}


def test_a_pair_on_which_the_orders_disagree_is_dropped_as_ties_are(tmp_path: Path) -> None:
    odd = [Own(Example(f"0:x{i}", {"text": "odd."}, "x"), ("a", "b")) for i in range(4)]
    even = [Own(Example(f"0:y{i}", {"text": f"{i}."}, "y"), ("c", "d")) for i in range(3)]
    own = [*given(10, "so good", "so bad"), *odd, *even]
    facts, _ = ranked(tmp_path, own, {"odd.": "A", **GOOD})
    rows = facts["conservation"]["rank, pairs"]
    assert (rows.rows_in, rows.kept) == (17, 10)
    assert rows.dropped == {preference.DISAGREE: 4, preference.TIE: 3}
    assert facts["always_first"] == 4


def test_an_answer_that_is_better_in_one_order_and_as_good_in_the_other_is_not_preferred(tmp_path: Path) -> None:
    own = [*given(10, "so good", "so bad"), Own(Example("0:x", {"text": "x"}, "x"), ("half", "other"))]
    facts, _ = ranked(tmp_path, own, {"Answer A:\nhalf": "A", "Answer B:\nhalf": "tie", **GOOD})
    assert facts["conservation"]["rank, pairs"].dropped == {preference.DISAGREE: 1}
    assert facts["always_first"] == 0


def test_every_input_answer_and_pair_is_accounted_for(tmp_path: Path) -> None:
    own = [
        *given(8, "good", "bad", "worse", equal=1),
        Own(Example("0:a", {"text": "t"}, "a"), ("bad",), 2, {"cut": 1}),
        Own(Example("0:b", {"text": "t"}, "b"), (), 0, {"cut": 4}),
        Own(Example("0:c", {"text": "t"}, "c"), ("bad", "worse"), 2),
    ]
    facts, _ = ranked(tmp_path, own, GOOD, pairs=3)
    rows = facts["conservation"]
    assert all(one.balanced for one in rows.values())
    assert rows["rank, inputs"].as_dict() == {
        "in": 11, "kept": 8, "dropped": {preference.NOTHING_ELSE: 1, preference.NONE_KEPT: 1}, "failed": {"cut": 1},
    }  # fmt: skip
    assert rows["rank, answers"].as_dict() == {
        "in": 44, "kept": 27, "dropped": {preference.EQUAL: 12}, "failed": {"cut": 5},
    }  # fmt: skip
    assert rows["rank, pairs"].as_dict() == {"in": 25, "kept": 16, "dropped": {preference.TIE: 9}, "failed": {}}


def test_the_teacher_sees_rubric_task_and_bare_answers(tmp_path: Path) -> None:
    seen: list[str] = []

    class Watching(ScriptedTeacher):
        def _answer(self, request: Request) -> Completion:
            seen.append(request.messages[-1].content)
            return super()._answer(request)

    ledger = Ledger(Watching(GOOD), tmp_path / "ledger.db")
    preference.build(recipe(), given(8, "**good**  one", "`bad`"), ledger, tmp_path, Progress(quiet=True))
    ledger.close()
    assert all(text.startswith("Be good.") and "Text: no " in text for text in seen)
    assert {compared(text) for text in seen} == {("good one", "bad"), ("bad", "good one")}
    assert load(tmp_path)[0].chosen == "**good**  one"  # as the student wrote it


def test_verdicts_are_asked_for_once(tmp_path: Path) -> None:
    facts, first = ranked(tmp_path, given(10, "so good", "so bad"), GOOD)
    again, second = ranked(tmp_path, given(10, "so good", "so bad"), GOOD)
    assert (first.calls_made, second.calls_made, second.calls_reused) == (20, 0, 20)
    assert again == facts


def test_unusable_verdicts_are_counted_or_stop_the_run(tmp_path: Path) -> None:
    rules = {"no 3.": "perhaps", **GOOD}
    facts, _ = ranked(tmp_path, given(12, "so good", "so bad"), rules)
    assert facts["conservation"]["rank, pairs"].failed == {"the verdict is none of A, B, tie": 1}
    with pytest.raises(TeacherError, match=r"1 of 12 verdicts .* unusable \(1 × the verdict is none") as stopped:
        ranked(tmp_path, given(12, "so good", "so bad"), rules, max_failed=0.05)
    assert "student.preference.max_failed" in stopped.value.remedy


def test_a_teacher_without_preferences_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"prefers one answer of 7 of 7 pairs") as stopped:
        ranked(tmp_path, given(7, "so good", "so bad"), GOOD)
    assert "student.preference.inputs" in stopped.value.remedy
    with pytest.raises(DataError, match=r"prefers one answer of 0 of 20 pairs"):
        ranked(tmp_path, given(20, "so good", "so bad"), {"": "A"})


def test_pairs_are_spread_over_the_answers() -> None:
    texts = list("abcdef")
    for seed in range(20):
        found = pairs_of(texts, 3, random.Random(seed))
        assert Counter(text for pair in found for text in pair) == Counter(texts)
        assert found == pairs_of(texts, 3, random.Random(seed))
    assert len({tuple(pairs_of(texts, 3, random.Random(seed))) for seed in range(20)}) > 10
    assert sorted(map(sorted, pairs_of(texts[:3], 9, random.Random(1)))) == [["a", "b"], ["a", "c"], ["b", "c"]]
    assert pairs_of(["a"], 3, random.Random(1)) == []


def test_inputs_are_drawn_by_the_seed_and_not_by_their_order() -> None:
    pool = examples(30)
    first = inputs(recipe(inputs=10), pool)
    assert len(first) == 10
    assert first == inputs(recipe(inputs=10), pool[::-1])
    assert first == inputs(recipe(inputs=20), pool)[:10]
    other = recipe(inputs=10).model_copy(update={"seed": 8})
    assert first != inputs(other, pool)
