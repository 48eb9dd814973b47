from __future__ import annotations

from typing import Any

import pytest
import torch

from aasut.doctor import decisions
from aasut.doctor.subject import Subject
from aasut.student.objective import Labels


def test_labels_learned_from_oneself_leave_nothing_to_learn(labels: Subject) -> None:
    (found,) = decisions.examine(labels)
    assert (found.level, found.name) == ("ok", "student = teacher")


def test_a_tree_that_training_reads_otherwise_than_serving_is_found(
    labels: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each row's masses one answer along."""
    real = Labels.loss

    def rotated(self: Any, model: Any, rows: Any, batch: Any) -> torch.Tensor:
        from dataclasses import replace

        return real(self, model, [replace(row, probabilities=row.probabilities[::-1]) for row in rows], batch)

    monkeypatch.setattr(Labels, "loss", rotated)
    (found,) = decisions.examine(labels)
    assert found.level == "fault"
    assert "has something left to learn" in found.problem
