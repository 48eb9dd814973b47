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
    """The test examples that the teacher answered, and each model's probabilities [examples, answers]."""

    task: Task
    examples: Sequence[Example]
    probabilities: dict[str, np.ndarray[Any, np.dtype[np.float64]]]

    @classmethod
    def of(cls, task: Task, test: Sequence[Example], predictions: dict[str, Any]) -> Answers:
        """From predictions.json."""
        by_id = {example.id: example for example in test}
        examples = [by_id[name] for name in predictions["ids"]]
        rows = {name: np.array(values, np.float64) for name, values in predictions["probabilities"].items()}
        return cls(task, examples, rows)

    @property
    def gold(self) -> list[str]:
        return [str(example.answer) for example in self.examples]

    @property
    def groups(self) -> list[str]:
        return [example.group for example in self.examples]

    def predicted(self, model: str) -> list[str]:
        """Each example's likeliest answer."""
        return [self.task.answers[int(i)] for i in self.probabilities[model].argmax(axis=1)]

    def correct(self, model: str) -> list[bool]:
        return self.task.correct(self.predicted(model), self.gold)


def result(answers: Answers, model: str, confidence: float) -> dict[str, Any]:
    """Accuracy with its interval, macro-F1, confusion matrix and calibration of one model."""
    correct = answers.correct(model)
    accuracy = metrics.accuracy(correct, answers.groups, confidence)
    predicted = answers.predicted(model)
    matrix = metrics.confusion(answers.gold, predicted, answers.task.answers)
    calibration = metrics.calibration(answers.probabilities[model].max(axis=1).tolist(), correct)
    return {
        "accuracy": accuracy.value,
        "ci95": [accuracy.lower, accuracy.upper],
        "macro_f1": metrics.macro_f1(matrix),
        "per_class": [score.as_dict() for score in metrics.per_class(matrix, answers.task.answers)],
        "confusion": matrix.tolist(),
        **calibration.as_dict(),
    }


def against_teacher(answers: Answers, model: str, margin: float, confidence: float) -> paired.Verdict:
    """May `model` stand in for the teacher?"""
    return paired.verdict(answers.correct(model), answers.correct("teacher"), answers.groups, margin, confidence)


def against_linear(answers: Answers, confidence: float) -> paired.Comparison | None:
    """Student minus linear model, None where the student is the linear model."""
    if "linear" not in answers.probabilities:
        return None
    return paired.compare(answers.correct("student"), answers.correct("linear"), answers.groups, confidence)


def disagreements(answers: Answers) -> list[dict[str, Any]]:
    """The worst disagreements of student and teacher: those where the student is wrong first, the surest first."""
    teacher, student = answers.predicted("teacher"), answers.predicted("student")
    sure = answers.probabilities["student"].max(axis=1)
    rows: list[dict[str, Any]] = [
        {
            "id": example.id,
            "text": "\n".join(example.slots.values()),
            "human": str(example.answer),
            "teacher": teacher[i],
            "student": student[i],
            "teacher_confidence": float(answers.probabilities["teacher"][i].max()),
            "student_confidence": float(sure[i]),
        }
        for i, example in enumerate(answers.examples)
        if teacher[i] != student[i]
    ]
    rows.sort(key=lambda row: (row["student"] == row["human"], -row["student_confidence"], row["id"]))
    return rows[:WORST]
