"""Each check passes on the losses as they are, and fails on a loss with the fault that it is for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from aasut.doctor import numbers, training
from aasut.doctor.finding import Finding
from aasut.doctor.numbers import Sample
from aasut.doctor.subject import Subject
from aasut.student import losses
from aasut.student.fused import BLOCK_ROWS
from aasut.student.targets import Dense
from aasut.student.thinning import Entries, thin

Loss = Callable[..., torch.Tensor]


@pytest.fixture(scope="module")
def sample(text: Subject) -> Sample:
    return training.sample(text)


def plant(monkeypatch: pytest.MonkeyPatch, broken: Callable[[str, Loss], Loss]) -> None:
    """Every loss that `losses.get` gives is broken in this way."""
    real = losses.get
    monkeypatch.setattr(losses, "get", lambda name, **settings: broken(name, real(name, **settings)))


def check(found: Finding, problem: str) -> None:
    assert found.level == "fault"
    assert problem in found.problem


def test_the_losses_are_right_on_a_models_own_numbers(sample: Sample) -> None:
    found = list(numbers.examine(sample))
    assert [finding.level for finding in found] == ["ok"] * 4
    assert {finding.name for finding in found} == {"student = teacher", "chunked = dense", "no loss below zero"}


def test_a_divergence_that_is_not_zero_between_equals_is_found(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cross-entropy under forward KL's name: the right gradient, a wrong loss."""
    cross_entropy = losses.get("cross_entropy")
    plant(monkeypatch, lambda name, loss: cross_entropy if name == "forward_kl" else loss)
    check(numbers.equal_models(sample), "forward_kl is not zero where student and teacher are one model")


def test_a_gradient_between_equals_is_found(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    """The student's hidden states one token late."""

    def late(name: str, loss: Loss) -> Loss:
        return lambda hidden, weight, target, allowed: loss(hidden.roll(1, 0), weight, target, allowed)

    plant(monkeypatch, late)
    check(numbers.equal_models(sample), "push a perfect student away")


def cut_off(logits: torch.Tensor, threshold: float, draws: torch.Tensor) -> Entries:
    """Top-k, renormalised: what most caches keep."""
    top = logits.topk(10, dim=1)
    return thin(torch.full_like(logits, float("-inf")).scatter_(1, top.indices, top.values), threshold, draws)


def drawn_from_half(logits: torch.Tensor, threshold: float, draws: torch.Tensor) -> Entries:
    """A tail that is drawn with a bad generator."""
    return thin(logits, threshold, draws * 0.5)


@pytest.mark.parametrize("broken", [cut_off, drawn_from_half])
def test_biased_sparse_targets_are_found(
    sample: Sample, monkeypatch: pytest.MonkeyPatch, broken: Callable[..., Entries]
) -> None:
    monkeypatch.setattr(numbers, "thin", broken)
    check(numbers.equal_models_sparse(sample), "standard errors from zero")


def last_of_a_block_lost(name: str, loss: Loss) -> Loss:
    def lost(hidden: torch.Tensor, weight: torch.Tensor, target: Any, allowed: Any) -> torch.Tensor:
        if len(hidden) <= BLOCK_ROWS:
            return loss(hidden, weight, target, allowed)
        return loss(hidden[:-1], weight, Dense(target.hidden[:-1], target.weight), allowed)

    return lost


def swapped_weights(name: str, loss: Loss) -> Loss:
    """Generalised JSD with the two weights the other way round, as a stored version of a well-known kernel had it."""
    return losses.Divergence("jsd", 1 - numbers.BETA, 0.1) if name == "jsd" else loss


@pytest.mark.parametrize("broken", [last_of_a_block_lost, swapped_weights])
def test_a_loss_that_is_not_its_formula_is_found(
    sample: Sample, monkeypatch: pytest.MonkeyPatch, broken: Callable[[str, Loss], Loss]
) -> None:
    plant(monkeypatch, broken)
    check(numbers.chunked(sample), "differs by")


def in_bfloat16(name: str, loss: Loss) -> Loss:
    """The whole divergence in the model's own precision."""

    def rounded(hidden: torch.Tensor, weight: torch.Tensor, target: Dense, allowed: Any) -> torch.Tensor:
        q = torch.log_softmax(hidden @ weight.T, 1)
        p = torch.log_softmax(target.hidden @ target.weight.T, 1)
        return (p.exp() * (p - q)).sum()

    return rounded


def test_a_loss_below_zero_is_found(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, in_bfloat16)
    check(numbers.negative(sample), "no divergence is below zero")
