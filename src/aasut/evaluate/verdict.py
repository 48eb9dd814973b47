"""From predictions to results: every model's figures, the verdict and the disagreements. Pure; opens nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aasut.evaluate import metrics, paired
from aasut.tasks import Task
from aasut.types import Example

WORST = 20


@dataclass(frozen=True)
class Answers:
    """The test examples that the teacher answered, and each model's answers.

    `predicted` by model, one a test example, "" for a text that is no answer. `probabilities`
    [examples, answers] by model, empty where answers are free text.
    """

    task: Task
    examples: Sequence[Example]
    predicted: dict[str, list[str]]
    probabilities: dict[str, np.ndarray[Any, np.dtype[np.float64]]]

    @classmethod
    def of(cls, task: Task, test: Sequence[Example], predictions: dict[str, Any]) -> Answers:
        """From predictions.json."""
        by_id = {example.id: example for example in test}
        examples = [by_id[name] for name in predictions["ids"]]
        if not task.answers:
            return cls(task, examples, predictions["texts"], {})
        rows = {name: np.array(values, np.float64) for name, values in predictions["probabilities"].items()}
        likeliest = {name: [task.answers[int(i)] for i in row.argmax(axis=1)] for name, row in rows.items()}
        return cls(task, examples, likeliest, rows)

    @property
    def gold(self) -> list[str]:
        return [str(example.answer) for example in self.examples]

    @property
    def groups(self) -> list[str]:
        return [example.group for example in self.examples]

    def correct(self, model: str) -> list[bool]:
        return self.task.correct(self.predicted[model], self.gold)

    def confidence(self, model: str) -> list[float] | None:
        """Probability of each answer given, None for free text."""
        return self.probabilities[model].max(axis=1).tolist() if model in self.probabilities else None


def result(answers: Answers, model: str, confidence: float) -> dict[str, Any]:
    """Accuracy with its interval; then for labels macro-F1, confusion matrix and calibration, for text how near it is.

    Accuracy is the share of answers that equal the human one (exact match).
    """
    correct = answers.correct(model)
    accuracy = metrics.accuracy(correct, answers.groups, confidence)
    found = {
        "accuracy": accuracy.value,
        "ci95": [accuracy.lower, accuracy.upper],
        "design_effect": accuracy.design_effect,
    }
    predicted, stated = answers.predicted[model], answers.confidence(model)
    if stated is None:
        near = [answers.task.similarity(p, g) for p, g in zip(predicted, answers.gold, strict=True)]
        return found | {
            "similarity": float(np.mean(near)),
            "fields": metrics.field_accuracy(predicted, answers.gold)
            if answers.task.schema and not answers.task.tools
            else {},
            "unusable": sum(not text for text in predicted),
            "macro_f1": None,
            "confusion": None,
            "calibration_error": None,
        }
    matrix = metrics.confusion(answers.gold, predicted, answers.task.answers)
    return found | {
        "macro_f1": metrics.macro_f1(matrix),
        "per_class": [score.as_dict() for score in metrics.per_class(matrix, answers.task.answers)],
        "confusion": matrix.tolist(),
        **metrics.calibration(stated, correct).as_dict(),
    }


def against_teacher(answers: Answers, model: str, margin: float, confidence: float) -> paired.Verdict:
    """May `model` stand in for the teacher?"""
    return paired.verdict(answers.correct(model), answers.correct("teacher"), answers.groups, margin, confidence)


def against_linear(answers: Answers, confidence: float) -> paired.Comparison | None:
    """Student minus linear model, None where there is none, or the student is it."""
    if "linear" not in answers.predicted:
        return None
    return paired.compare(answers.correct("student"), answers.correct("linear"), answers.groups, confidence)


def disagreements(answers: Answers) -> list[dict[str, Any]]:
    """The worst disagreements of student and teacher: those where the student is wrong first, the surest first."""
    teacher, student = answers.predicted["teacher"], answers.predicted["student"]
    wrong = [not right for right in answers.correct("student")]
    sure = {model: answers.confidence(model) for model in ("teacher", "student")}

    def stated(model: str, i: int) -> float | None:
        found = sure[model]
        return None if found is None else float(found[i])

    differ = [i for i, (one, other) in enumerate(zip(teacher, student, strict=True)) if one != other]
    differ.sort(key=lambda i: (not wrong[i], -(stated("student", i) or 0.0), answers.examples[i].id))
    return [
        {
            "id": answers.examples[i].id,
            "text": "\n".join(answers.examples[i].slots.values()),
            "human": answers.gold[i],
            "teacher": teacher[i],
            "student": student[i],
            "teacher_confidence": stated("teacher", i),
            "student_confidence": stated("student", i),
        }
        for i in differ[:WORST]
    ]
