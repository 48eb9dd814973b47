"""What judges of known errors come to: the truth within the interval, one vote a family, and what cannot be had."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import small_run
from aasut.evaluate import judged
from aasut.evaluate.judges import Aside, Judgements
from aasut.evaluate.verdict import Answers
from aasut.recipe import Recipe
from aasut.types import Example

SHARE = 0.85  # of the student's answers that are right


def recipe(*names: str, strata: str | None = None, teacher: str = "claude-x") -> Recipe:
    endpoint = {"base_url": "http://localhost:1/v1", "model": ""}
    judges = [{"endpoint": endpoint | {"model": name}, "rubric": "Be right.", "unlabelled": 9} for name in names]
    plain = small_run.recipe(judges=judges, teacher={"endpoint": endpoint | {"model": teacher}})
    plain["evaluate"]["strata"] = strata
    if strata:
        plain["data"]["tables"][0]["slots"][strata] = strata
    return Recipe.model_validate(plain)


def study(made: Recipe, rates: list[tuple[float, float]], n: int = 300, more: int = 2000, seed: int = 0) -> Any:
    """Answers to n test examples and `more` others, and judges of the given sensitivity and specificity."""
    rng = np.random.default_rng(seed)
    right = rng.random(n + more) < SHARE
    said = [
        np.where(right, rng.random(n + more) < se, rng.random(n + more) > sp).astype(float).tolist() for se, sp in rates
    ]
    parts = ["short" if i % 3 else "long" for i in range(n + more)]
    examples = [Example(f"0:r{i}", {"text": "t", "kind": parts[i]}, f"g{i}", "positive") for i in range(n + more)]
    given = ["positive" if r else "negative" for r in right]
    answers = Answers(made.task.build(), examples[:n], {"student": given[:n], "teacher": ["positive"] * n}, {})
    found = [Judgements(preferred=[0] * n, right=one[:n], right_aside=one[n:], failed={}) for one in said]
    return answers, Aside(examples[n:], given[n:]), found


def test_a_judge_of_known_errors_is_corrected_to_the_truth() -> None:
    made, covered, helped = recipe("gpt-x"), 0, 0
    for seed in range(25):
        facts = judged.facts(made, *study(made, [(0.9, 0.75)], seed=seed))
        correct = facts["correctness"]
        covered += correct["corrected"][1] <= SHARE <= correct["corrected"][2]
        helped += facts["ppi"]["ci"][0] <= SHARE <= facts["ppi"]["ci"][1]
        assert not correct["raw"] > SHARE - 0.02  # uncorrected it is far off
    assert min(covered, helped) >= 22
    assert correct["sensitivity"][0] == pytest.approx(0.9, abs=0.06)
    assert correct["specificity"][0] == pytest.approx(0.75, abs=0.2)
    assert (correct["n"], correct["unlabelled"]) == (300, 2000)
    assert correct["judge"] == "gpt-x"
    assert facts["ppi"]["n"] == 300
    assert facts["warnings"] == []
    assert facts["judges"] == [{"name": "gpt-x", "family": "gpt", "unlabelled": 2000}]


def test_three_families_vote_and_a_family_has_one_vote() -> None:
    rates = [(0.9, 0.85), (0.85, 0.9), (0.9, 0.8), (0.55, 0.5)]
    made = recipe("gpt-x", "qwen-x", "llama-x", "phi-x")
    answers, aside, found = study(made, rates)
    facts = judged.facts(made, answers, aside, found)
    alone = judged.facts(recipe("gpt-x"), answers, aside, found[:1])
    assert facts["correctness"]["judge"].startswith("4 judges of 4 families")
    together, single = (
        one["correctness"]["sensitivity"][0] + one["correctness"]["specificity"][0] for one in (facts, alone)
    )
    assert together > single + 0.03
    few = recipe("gpt-x", "gpt-y", "qwen-x", "our-own")
    assert judged.facts(few, *study(few, rates))["correctness"]["judge"].startswith("4 judges of 3 families")
    same = recipe("gpt-x", "gpt-x", "qwen-x")
    assert judged.facts(same, *study(same, rates[:3]))["correctness"]["judge"] == "gpt-x (1)"


def preferred(made: Recipe, *verdicts: list[int | None], same: int = 0, inconsistent: int = 0) -> Any:
    answers, _, found = study(made, [(1.0, 1.0)] * len(verdicts), n=len(verdicts[0]), more=0)
    for one, given in zip(found, verdicts, strict=True):
        one.preferred, one.same, one.inconsistent = given, same, inconsistent
    return judged.facts(made, answers, Aside([], []), found)


def test_preference_is_paired_and_keeps_an_error_bar() -> None:
    made = recipe("gpt-x")
    found = preferred(made, [1] * 30 + [-1] * 10 + [0] * 55 + [None] * 5, same=20, inconsistent=15)["preference"]
    assert (found["student_wins"], found["teacher_wins"]) == pytest.approx((30 / 95, 10 / 95))
    assert found["ties"] == pytest.approx(55 / 95)
    assert found["difference"] == pytest.approx(20 / 95)
    assert found["ci"][0] < 20 / 95 < found["ci"][1]
    assert found["n"] == 95
    assert found["inconsistent"] == pytest.approx(15 / 75)
    ties = preferred(made, [0] * 100, inconsistent=100)["preference"]
    assert (ties["ties"], ties["difference"], ties["inconsistent"]) == (1, 0, 1)
    assert ties["ci"][1] - ties["ci"][0] > 0.05


def test_judges_of_one_family_count_once_in_a_preference() -> None:
    made = recipe("gpt-x", "gpt-y", "qwen-x")
    found = preferred(made, [1] * 20, [1] * 20, [-1] * 20)["preference"]
    assert found["ties"] == 1
    found = preferred(made, [1] * 20, [None] * 20, [0] * 20)["preference"]
    assert found["student_wins"] == 1


def test_what_cannot_be_had_is_null_and_said() -> None:
    made = recipe("gpt-x")
    facts = judged.facts(made, *study(made, [(0.9, 0.8)], n=80))
    assert facts["ppi"] is None
    assert facts["correctness"]["corrected"] is not None
    assert any("80 human labels are too few" in note for note in facts["warnings"])
    facts = judged.facts(made, *study(made, [(0.4, 0.3)]))
    assert facts["correctness"]["corrected"] is None
    assert any("no better than chance" in note for note in facts["warnings"])
    answers, _, found = study(made, [(0.9, 0.8)], more=0)
    facts = judged.facts(made, answers, Aside([], []), found)
    assert facts["ppi"] is None
    assert facts["correctness"]["corrected"] is None
    assert facts["warnings"] == []
    answers.predicted["student"] = ["positive"] * 300  # all right: specificity cannot be seen
    facts = judged.facts(made, answers, Aside([], []), found)
    assert facts["correctness"] is None
    assert any("answers wrong: too few" in note for note in facts["warnings"])


def test_strata_are_used_or_given_up_with_a_word() -> None:
    made = recipe("gpt-x", strata="kind")
    answers, aside, found = study(made, [(0.9, 0.8)])
    assert judged.facts(made, answers, aside, found)["ppi"]["strata"] == "kind"
    rare = [Example(e.id, {**e.slots, "kind": "rare" if i < 5 else "usual"}, e.group, e.answer)
            for i, e in enumerate(answers.examples)]  # fmt: skip
    facts = judged.facts(made, Answers(answers.task, rare, answers.predicted, {}), aside, found)
    assert facts["ppi"]["strata"] is None
    assert any("by strata: Stratum rare has 5 human labels" in note for note in facts["warnings"])


def test_warns_of_a_side_that_is_a_relative_and_of_other_tables() -> None:
    made = recipe("claude-y")
    answers, aside, found = study(made, [(0.9, 0.8)])
    elsewhere = Aside([Example(f"1:{e.id}", e.slots, e.group) for e in aside.examples], aside.predicted)
    notes = judged.facts(made, answers, elsewhere, found)["warnings"]
    assert any("claude-y is of the teacher's family, claude" in note for note in notes)
    assert any("other tables" in note for note in notes)
