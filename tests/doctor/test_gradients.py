from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch

from aasut.doctor import gradients
from aasut.doctor.subject import Subject
from aasut.engine import packing
from aasut.engine.segments import Segments
from aasut.student.objective import Labels, Row, Text
from aasut.student.weights import Weights


@pytest.fixture(params=["text", "labels"])
def subject(request: pytest.FixtureRequest) -> Subject:
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


def test_the_gradient_is_the_same_however_a_step_is_cut(subject: Subject) -> None:
    (found,) = gradients.examine(subject)
    assert found.level == "ok"
    assert "packed" in found.value


def check(subject: Subject) -> None:
    (found,) = gradients.examine(subject)
    assert found.level == "fault"
    assert "depend on batch size" in found.problem


def test_a_loss_that_is_averaged_in_each_micro_batch_is_found(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The field's commonest fault: the mean of means, where micro-batches differ in their number of tokens."""
    kind = type(subject.objective)
    real = kind.loss

    def mean(self: Any, model: Any, rows: Sequence[Row], batch: Any) -> torch.Tensor:
        return real(self, model, rows, batch) / len(batch.rows)

    monkeypatch.setattr(kind, "loss", mean)
    check(subject)


def test_rows_that_see_one_another_are_found(text: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed rows without their own segments."""

    def one(lengths: list[int], *rest: Any) -> Segments:
        return Segments([sum(lengths)], *rest)

    monkeypatch.setattr(packing, "Segments", one)
    check(text)


def test_rows_that_are_left_out_are_found(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """An overflow that loses the last row of a micro-batch of several."""
    kind = Text if subject.tree is None else Labels
    real = kind.batches

    def lossy(self: Any, rows: Sequence[Row], most: int) -> Iterator[Any]:
        return real(self, rows[:-1] if most == gradients.WHOLE else rows, most)

    monkeypatch.setattr(kind, "batches", lossy)
    check(subject)


def test_a_gradient_of_another_size_is_found(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step whose divisor is off by a factor is one with another learning rate, however it is cut."""
    real = Weights.begin
    monkeypatch.setattr(Weights, "begin", lambda self, divisor: real(self, 2 * divisor))
    check(subject)


def test_targets_that_are_miscounted_are_found(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = type(subject.objective)
    real = kind.targets
    monkeypatch.setattr(kind, "targets", lambda self, rows: real(self, rows) + 1)
    check(subject)


def test_a_micro_batch_that_is_not_accumulated_is_found(text: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Weights.backward

    def forgetful(self: Weights, loss: torch.Tensor) -> None:
        for held in self.sums:
            held.begun = False
        real(self, loss)

    monkeypatch.setattr(Weights, "backward", forgetful)
    check(text)


def test_processes_that_differ_are_found(labels: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here it is this process that is wrong, for the others do not know of the change. test_training: they agree."""
    real = gradients.plain
    monkeypatch.setattr(gradients, "plain", lambda subject: real(subject) * 1.0001)
    (found,) = gradients.processes(labels)
    assert found.level == "fault"
    assert "by two processes" in found.problem
