from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from aasut.errors import DataError
from aasut.evaluate import comparisons, holm, paired
from aasut.evaluate.metrics import confusion, macro_f1
from aasut.evaluate.verdict import Answers
from aasut.prompts import PromptTemplate
from aasut.tasks import Classify, Generate
from aasut.types import Example

PROMPT = PromptTemplate.of("{text}")
LABELS = ("x", "y", "z")


def labelled(n: int = 400, teacher: float = 0.9, student: float = 0.88, size: int = 4) -> Answers:
    """Answers of which these shares are right, in groups of `size`."""
    rng = np.random.default_rng(1)
    gold = rng.choice(LABELS, n, p=[0.5, 0.3, 0.2])
    said = {
        model: np.where(rng.random(n) < right, gold, rng.choice(LABELS, n)).tolist()
        for model, right in (("teacher", teacher), ("student", student))
    }
    examples = [Example(f"e{i}", {"text": ""}, f"g{i // size}", str(gold[i])) for i in range(n)]
    return Answers(Classify(LABELS, PROMPT), examples, said, {})


def texts(gold: list[str], teacher: list[str], student: list[str]) -> Answers:
    examples = [Example(f"e{i}", {"text": ""}, f"g{i}", answer) for i, answer in enumerate(gold)]
    return Answers(Generate(PROMPT, 9), examples, {"teacher": teacher, "student": student}, {})


def test_accuracy_stands_as_in_the_verdict() -> None:
    answers = labelled()
    (row,) = comparisons.table(answers, ["accuracy"], 0.05, 0.9, 1)
    found = paired.verdict(answers.correct("student"), answers.correct("teacher"), answers.groups, 0.05, 0.9)
    assert (row["difference"], row["ci"]) == (found.paired.difference, [found.paired.lower, found.paired.upper])
    assert (row["lower_bound"], row["upper_bound"]) == (found.lower_bound, found.upper_bound)
    assert row["p_holm"] == row["p_value"] == paired.p_at_most(found.paired, -0.05)
    assert row["non_inferior"] == (found.result == "non_inferior")
    assert row["student"] == pytest.approx(np.mean(answers.correct("student")))
    assert "100 groups" in row["method"]


def test_macro_f1_is_that_of_each_side() -> None:
    answers = labelled()
    row = comparisons.table(answers, ["macro_f1"], 0.05, 0.95, 1)[0]
    for side in ("student", "teacher"):
        matrix = confusion(answers.gold, answers.predicted[side], LABELS)
        assert row[side] == pytest.approx(macro_f1(matrix), abs=1e-12)
    assert row["difference"] == pytest.approx(row["student"] - row["teacher"], abs=1e-12)
    assert row["ci"][0] < row["lower_bound"] < row["difference"] < row["upper_bound"] < row["ci"][1]
    assert row["method"] == "BCa bootstrap of 100 groups"


def test_all_rows_are_adjusted_together() -> None:
    answers = labelled()
    judged = comparisons.of_items("preference", np.full(400, 0.5), np.full(400, 0.5), answers.groups, 0.05, 0.95, 1)
    rows = comparisons.table(answers, ["accuracy", "macro_f1"], 0.05, 0.95, 1, [judged])
    assert [row["name"] for row in rows] == ["accuracy", "macro_f1", "preference"]
    assert [row["p_holm"] for row in rows] == holm.adjusted([row["p_value"] for row in rows])
    assert [row["p_equal_holm"] for row in rows] == holm.adjusted([row["p_equal"] for row in rows])
    assert all(row["non_inferior"] == (row["p_holm"] <= 0.05) for row in rows)
    assert rows[2]["ci"][0] < 0 < rows[2]["ci"][1]  # no difference at all still has an error bar
    json.dumps(rows, allow_nan=False)


def test_a_preference_may_lie_anywhere_from_minus_one_to_one() -> None:
    rng = np.random.default_rng(3)
    student = rng.choice([0.0, 0.5, 1.0], 300, p=[0.2, 0.5, 0.3])
    found = comparisons.of_items("preference", student, 1 - student, list(range(300)), 0.05, 0.95, 1)
    assert found.difference == pytest.approx(2 * student.mean() - 1)
    assert found.interval[1] - found.interval[0] == pytest.approx(2 * 1.96 * 2 * student.std() / 300**0.5, rel=0.1)


def test_texts() -> None:
    call, other = ('{"name": "a", "arguments": {"k": 1}}', '{"name": "a", "arguments": {"k": 2}}')
    gold = [call, "no tool here"] * 20
    rows = comparisons.table(
        texts(gold, [call, "no tool here"] * 20, [other, "no tools here"] * 20),
        ["exact", "token_f1", "tool_calls", "tool_names"], 0.05, 0.95, 1,
    )  # fmt: skip
    found = {row["name"]: row for row in rows}
    assert found["exact"]["difference"] == -1
    assert found["token_f1"]["student"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert (found["tool_calls"]["student"], found["tool_names"]["student"]) == (0.5, 1.0)
    assert (found["tool_calls"]["non_inferior"], found["tool_calls"]["p_holm"]) == (False, pytest.approx(1, abs=0.01))
    assert found["tool_names"]["lower_bound"] == pytest.approx(-(1 - 0.05 ** (1 / 40)))  # nothing differs


def test_one_group_is_refused() -> None:
    alone: Any = texts(["a"], ["a"], ["a"])
    for name in ("exact", "token_f1"):
        with pytest.raises(DataError):
            comparisons.table(alone, [name], 0.05, 0.95, 1)


def test_the_same_seed_gives_the_same_table() -> None:
    first, again, other = (comparisons.table(labelled(), ["macro_f1"], 0.05, 0.95, seed) for seed in (1, 1, 2))
    assert first == again != other
