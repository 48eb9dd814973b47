"""Judges over the ledger: both orders, what they see, biased ones, unusable verdicts, and paying once."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import small_run
from aasut.errors import TeacherError
from aasut.evaluate import judges
from aasut.evaluate.judges import Aside, Judgements
from aasut.evaluate.verdict import Answers
from aasut.progress import Progress
from aasut.recipe import Endpoint, Judge, Recipe
from aasut.teacher.ledger import Ledger
from aasut.teacher.openai import OpenAiTeacher
from aasut.teacher.scripted import ScriptedTeacher
from aasut.teacher.server import ScriptedServer
from aasut.types import Completion, Example

STUDENT = ["positive", "negative", "positive", "negative"] * 10
TEACHER = ["positive"] * 40
HUMAN = ["positive", "negative", "negative", "positive"] * 10


def recipe(*wanted: dict[str, Any], text: bool = False) -> Recipe:
    task = {"kind": "generate", "prompt": "Text: {text}", "max_tokens": 8} if text else small_run.RECIPE["task"]
    plain = small_run.recipe(judges=[{"rubric": "Be right.", **one} for one in wanted], task=task)
    if text:
        plain["data"]["tables"][0]["label"] = {"column": "sentiment"}
        plain["student"] = {"model": {"address": "file:x"}}
    return Recipe.model_validate(plain)


def answers(made: Recipe, student: Sequence[str] = STUDENT, teacher: Sequence[str] = TEACHER) -> Answers:
    examples = [Example(f"0:r{i}", {"text": f"no {i}."}, f"g{i // 2}", human) for i, human in enumerate(HUMAN)]
    return Answers(made.task.build(), examples, {"student": list(student), "teacher": list(teacher)}, {})


def asked(
    tmp_path: Path, rules: dict[str, str], *, unlabelled: int = 0, max_failed: float = 0.05, **changes: Any
) -> tuple[Judgements, Ledger]:
    made = recipe({"scripted": rules, "unlabelled": unlabelled, "max_failed": max_failed})
    aside = Aside([Example(f"0:u{i}", {"text": f"more {i}."}, f"u{i}") for i in range(10)], ["positive"] * 10)
    own = {example.id for example in aside.examples[:unlabelled]}
    ledger = Ledger(ScriptedTeacher(rules), tmp_path / "ledger.db")
    given = answers(made, **changes)
    found = judges.ask(made.task.build(), made.judges[0], 0, ledger, given, aside, own, Progress(quiet=True))
    ledger.close()
    return found, ledger


def test_a_judge_that_always_takes_the_first_prefers_nobody(tmp_path: Path) -> None:
    found, ledger = asked(tmp_path, {"Which answer": "A", "": "right"})
    assert found.preferred == [0] * 40
    assert found.inconsistent == 20
    assert found.same == 20
    assert ledger.calls_made == 20 * 2 + 40  # the same answers are not asked about


def test_a_judge_that_looks_at_the_answers_prefers_the_same_side_in_both_orders(tmp_path: Path) -> None:
    rules = {"Answer A:\nnegative": "**A**", "Answer B:\nnegative": " b.", "": "right"}
    found, _ = asked(tmp_path, rules)
    assert found.preferred == [0, 1] * 20
    assert found.inconsistent == 0
    against, _ = asked(tmp_path, {"Answer A:\nnegative": "B", "Answer B:\nnegative": "A", "": "right"})
    assert against.preferred == [0, -1] * 20
    half, _ = asked(tmp_path, {"Answer A:\nnegative": "A", "Answer B:\nnegative": "tie", "": "right"})
    assert half.preferred == [0] * 40
    assert half.inconsistent == 20


def test_correctness_is_asked_of_test_and_of_its_own_inputs_alone(tmp_path: Path) -> None:
    rules = {"Which answer": "tie", "no 3.": "wrong", "more 1.": "Wrong", "": "right"}
    found, _ = asked(tmp_path, rules, unlabelled=4)
    assert found.right == [0 if i == 3 else 1 for i in range(40)]
    assert found.right_aside == [1, 0, 1, 1] + [None] * 6


def test_sees_the_task_the_input_and_bare_answers_and_no_human_one(tmp_path: Path) -> None:
    seen: list[str] = []

    class Watching(ScriptedTeacher):
        def _answer(self, request: Any) -> Completion:
            seen.append(request.messages[-1].content)
            return super()._answer(request)

    made = recipe({"scripted": {"": "x"}, "rubric": "Be {kind}."}, text=True)
    examples = [Example("0:a", {"text": "How?"}, "g", "HUMAN"), Example("0:b", {"text": "Why?"}, "h", "HUMAN")]
    given = Answers(
        made.task.build(), examples, {"student": ["**So** it  is", "x"], "teacher": ["- Not so", "`x`"]}, {}
    )
    ledger = Ledger(Watching({"Which": "tie", "": "right"}), tmp_path / "ledger.db")
    judges.ask(made.task.build(), made.judges[0], 0, ledger, given, Aside([], []), set(), Progress(quiet=True))
    ledger.close()
    assert len(seen) == 4  # the second answers differ in form alone
    assert all("HUMAN" not in text and "*" not in text and text.startswith("Be {kind}.") for text in seen)
    first, second = seen[:2]
    assert "Text: How?" in first
    assert "Answer A:\nSo it is\n\nAnswer B:\nNot so\n" in first
    assert "Answer A:\nNot so\n\nAnswer B:\nSo it is\n" in second
    assert "The answer:\nSo it is\n" in seen[2]


def test_unusable_verdicts_are_counted_or_stop_the_run(tmp_path: Path) -> None:
    rules = {"no 1.": "perhaps", "Which answer": "A", "": "right"}
    found, _ = asked(tmp_path, rules)
    assert found.preferred[1] is None
    assert found.right[1] is None
    assert found.failed == {
        "preference": {"the verdict is none of A, B, tie": 1},
        "correctness": {"the verdict is none of right, wrong": 1},
    }
    with pytest.raises(TeacherError, match=r"of judge 1 \(scripted\) are unusable") as stopped:
        asked(tmp_path, {"Which answer": "A", "": "perhaps"})
    assert "judges[0].max_failed" in stopped.value.remedy


def test_probabilities_are_taken_where_a_judge_gives_them() -> None:
    sure = judges.verdict(Completion("right", choice_logprobs=(-0.105360516, -2.302585093)), judges.RIGHT)
    assert sure == pytest.approx((0.9, 0.1))
    assert judges.verdict(Completion("", failure="no answer"), judges.RIGHT) == "no answer"


def build(made: Recipe, open_judge: Callable[[int], Ledger], folder: Path) -> dict[str, Any]:
    return judges.build(made, open_judge, answers(made), [], Aside([], []), folder, Progress(quiet=True))


def test_an_api_is_paid_once(tmp_path: Path) -> None:
    with ScriptedServer({"Which answer": "tie", "": "right"}) as server:
        endpoint = Endpoint(base_url=server.url, model="gpt-x", api_key_env="", usd_per_million_input_tokens=1.0)
        made = recipe({"endpoint": endpoint.model_dump()}, {"endpoint": endpoint.model_dump(), "rubric": "Other."})

        def open_judge(number: int) -> Ledger:
            judge: Judge = made.judges[number]
            assert judge.endpoint is not None
            return Ledger(OpenAiTeacher(judge.endpoint, judge.max_usd), tmp_path / "ledger.db")

        (tmp_path / "one").mkdir()
        first = build(made, open_judge, tmp_path / "one")
        assert server.answered == 160
        (tmp_path / "two").mkdir()
        second = build(made, open_judge, tmp_path / "two")
        assert server.answered == 160
    assert first["calls"]["calls_made"] == second["calls"]["calls_reused"] == 160
    assert first["calls"]["usd_spent"] == pytest.approx(second["calls"]["usd_reused"])
    assert first["calls"]["usd_spent"] > 0
    assert first["judged"] == second["judged"]
    assert all(rows.balanced for rows in first["conservation"].values())
    assert list(first["conservation"]) == [
        f"judge {number}, {what}" for number in (1, 2) for what in ("preference", "correctness")
    ]
    written = json.loads((tmp_path / "one" / "judgements.json").read_text())
    assert len(written["judges"]) == 2
    assert len(written["judges"][0]["right"]) == 40
