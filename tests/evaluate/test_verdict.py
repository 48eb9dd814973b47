from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aasut.evaluate import verdict
from aasut.evaluate.verdict import Answers
from aasut.prompts import PromptTemplate
from aasut.tasks import Classify, Extract, Generate
from aasut.types import Example

TASK = Classify(("negative", "neutral", "positive"), PromptTemplate.of("{text}"))
HUMAN = ["negative", "positive", "neutral", "positive", "negative", "positive"]


def examples(human: list[str] = HUMAN) -> list[Example]:
    return [
        Example(f"e{i}", {"text": f"text {i}", "more": "m"}, f"g{i // 2}", answer) for i, answer in enumerate(human)
    ]


def sure_of(answers: list[str], confidence: list[float]) -> list[list[float]]:
    """Probabilities with this much on each answer."""
    rows = []
    for answer, sure in zip(answers, confidence, strict=True):
        row = [(1 - sure) / 2] * 3
        row[TASK.answers.index(answer)] = sure
        rows.append(row)
    return rows


def answers(**models: list[list[float]]) -> Answers:
    predictions: dict[str, Any] = {"ids": [f"e{i}" for i in range(len(HUMAN))], "probabilities": models}
    return Answers.of(TASK, examples(), predictions)


TEACHER = sure_of([*HUMAN[:5], "negative"], [0.9] * 6)  # wrong on the last
STUDENT = sure_of(
    ["negative", "negative", "neutral", "negative", "neutral", "positive"], [0.9, 0.6, 0.8, 0.95, 0.7, 0.97]
)


def test_predictions_meet_their_examples_by_id() -> None:
    turned = {"ids": ["e2", "e0"], "probabilities": {"student": sure_of(["neutral", "positive"], [0.9, 0.8])}}
    found = Answers.of(TASK, examples(), turned)
    assert found.gold == ["neutral", "negative"]
    assert found.groups == ["g1", "g0"]
    assert found.predicted["student"] == ["neutral", "positive"]
    assert found.correct("student") == [True, False]


def test_a_models_figures() -> None:
    found = verdict.result(answers(teacher=TEACHER, student=STUDENT), "student", 0.95)
    assert found["accuracy"] == pytest.approx(3 / 6)
    assert found["ci95"][0] < 0.5 < found["ci95"][1]
    # Rows are the human answers, columns the student's.
    assert found["confusion"] == [[1, 1, 0], [0, 1, 0], [2, 0, 1]]
    assert found["macro_f1"] == pytest.approx(np.mean([2 / 5, 2 / 3, 2 / 4]))
    assert [c["answer"] for c in found["per_class"]] == list(TASK.answers)
    assert [c["recall"] for c in found["per_class"]] == pytest.approx([1 / 2, 1, 1 / 3])
    assert 0 <= found["calibration_error"] <= 1


def test_a_wider_confidence_gives_a_wider_interval() -> None:
    found = answers(student=STUDENT)
    narrow, wide = verdict.result(found, "student", 0.8), verdict.result(found, "student", 0.99)
    assert narrow["ci95"][0] > wide["ci95"][0]
    assert narrow["ci95"][1] < wide["ci95"][1]


def test_the_verdict_is_student_minus_teacher() -> None:
    found = verdict.against_teacher(answers(teacher=TEACHER, student=STUDENT), "student", 0.03, 0.95)
    assert found.paired.difference == pytest.approx(3 / 6 - 5 / 6)
    assert (found.paired.only_a, found.paired.only_b) == (1, 3)
    assert found.margin == 0.03
    assert found.lower_bound < found.paired.difference < found.upper_bound


def test_a_bound_is_as_sure_as_the_recipe_wants_it() -> None:
    found = answers(teacher=TEACHER, student=STUDENT, linear=TEACHER)
    weak, strong = (verdict.against_teacher(found, "student", 0.03, sure) for sure in (0.7, 0.99))
    assert strong.lower_bound < weak.lower_bound
    assert (weak.paired.confidence, strong.paired.confidence) == (0.7, 0.99)
    linear = verdict.against_linear(found, 0.7)
    assert linear is not None
    assert linear.confidence == 0.7


def test_another_model_can_be_held_against_the_teacher() -> None:
    found = answers(teacher=TEACHER, student=STUDENT, student_q8_0=TEACHER)
    assert verdict.against_teacher(found, "student_q8_0", 0.03, 0.95).paired.difference == 0


def test_student_minus_linear_or_nothing_to_compare() -> None:
    found = verdict.against_linear(answers(teacher=TEACHER, student=STUDENT, linear=TEACHER), 0.95)
    assert found is not None
    assert found.difference == pytest.approx(3 / 6 - 5 / 6)
    assert verdict.against_linear(answers(teacher=TEACHER, student=STUDENT), 0.95) is None


def test_disagreements_put_wrong_students_first_and_the_surest_of_them_at_the_top() -> None:
    found = verdict.disagreements(answers(teacher=TEACHER, student=STUDENT))
    assert [row["id"] for row in found] == ["e3", "e4", "e1", "e5"]  # .95, .7, .6 wrong; then the right one
    assert found[0] == {
        "id": "e3",
        "text": "text 3\nm",
        "human": "positive",
        "teacher": "positive",
        "student": "negative",
        "teacher_confidence": pytest.approx(0.9),
        "student_confidence": pytest.approx(0.95),
    }


def test_the_worst_twenty_are_shown() -> None:
    human = ["negative"] * 30
    sure = [0.5 + i / 100 for i in range(30)]
    found = Answers.of(
        TASK,
        examples(human),
        {
            "ids": [f"e{i}" for i in range(30)],
            "probabilities": {"teacher": sure_of(human, [0.9] * 30), "student": sure_of(["positive"] * 30, sure)},
        },
    )
    assert [row["id"] for row in verdict.disagreements(found)] == [f"e{i}" for i in range(29, 9, -1)]


PROMPT = PromptTemplate.of("{text}")
JSON = Extract(PROMPT, 9, '{"type": "object", "properties": {"a": {}, "b": {}}}')
RIGHT = ['{"a": 1, "b": 2}', '{"a": 1}', '{"a": 3, "b": 4}', '{"a": 5}']


def texts(task: Extract | Generate, human: list[str], **models: list[str]) -> Answers:
    return Answers.of(task, examples(human), {"ids": [f"e{i}" for i in range(len(human))], "texts": models})


def test_figures_of_json() -> None:
    said = ['{"a": 1, "b": 2}', "", '{"a": 3, "b": 5}', '{"a": 6}']
    found = verdict.result(texts(JSON, RIGHT, student=said), "student", 0.95)
    assert found["accuracy"] == 1 / 4
    assert found["ci95"][0] < 1 / 4 < found["ci95"][1]
    assert found["similarity"] == pytest.approx((1 + 0 + 0.5 + 0) / 4)
    assert found["fields"] == {"a": 2 / 4, "b": 2 / 4}
    assert found["unusable"] == 1
    assert (found["macro_f1"], found["confusion"], found["calibration_error"]) == (None, None, None)


def test_figures_of_text() -> None:
    human = ["the cat sat", "a dog", "so it is", "no"]
    task = Generate(PROMPT, 9)
    found = verdict.result(texts(task, human, student=["the cat sat", "a cat", "", "No"]), "student", 0.95)
    assert (found["accuracy"], found["unusable"], found["fields"]) == (1 / 4, 1, {})
    assert found["similarity"] == pytest.approx((1 + 0.5 + 0 + 1) / 4)


def test_a_teacher_without_an_answer_is_wrong() -> None:
    found = texts(JSON, RIGHT, teacher=["", *RIGHT[1:]], student=RIGHT)
    assert found.correct("teacher") == [False, True, True, True]
    assert verdict.against_teacher(found, "student", 0.03, 0.95).paired.difference == pytest.approx(1 / 4)
    assert verdict.against_linear(found, 0.95) is None


def test_disagreements_in_text_have_no_confidence() -> None:
    found = verdict.disagreements(
        texts(JSON, RIGHT, teacher=[RIGHT[0], *RIGHT[:2], RIGHT[3]], student=[RIGHT[0], RIGHT[1], "", RIGHT[3]])
    )
    assert [row["id"] for row in found] == ["e2", "e1"]  # wrong ones first
    assert found[0] == {
        "id": "e2", "text": "text 2\nm", "human": RIGHT[2], "teacher": RIGHT[1], "student": "",
        "teacher_confidence": None, "student_confidence": None,
    }  # fmt: skip
