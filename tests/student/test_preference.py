"""DPO against plain autograd, however a step is cut, and a model that moves towards what is preferred."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import reference
from aasut.engine.torch import load_model
from aasut.progress import Progress
from aasut.recipe import Student
from aasut.student import fused
from aasut.student.objective import Row
from aasut.student.preference import Preferences, answered, batches, log_probabilities, pair_row
from aasut.student.trainer import Trainer

ALL = 1_000_000
BETA = 0.3


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pairs(count: int = 7, seed: int = 0) -> list[Row]:
    """Prompts and answers of very different lengths; some answers begin alike, and some prompts are the same."""
    draw = random.Random(seed)
    made = []
    prompt: list[int] = []
    for i in range(count):
        prompt = prompt if i % 3 == 2 else draw.choices(range(2, 300), k=draw.randint(1, 20))
        chosen, rejected = (draw.choices(range(2, 300), k=draw.randint(1, 9)) for _ in range(2))
        made.append(pair_row(f"{i}", prompt, [*chosen, 1], [*(chosen[:1] if i % 2 else []), *rejected, 1]))
    return made


def before(rows: list[Row], seed: int = 3) -> dict[str, tuple[float, float]]:
    """Some log-probabilities to start from: rewards of all sizes."""
    draw = random.Random(seed)
    return {row.key: (-30 * draw.random() - 20, -30 * draw.random() - 20) for row in rows}


def loaded(folder: Path, *, embeddings: bool = False) -> Any:
    model = load_model(folder, torch.float32)
    model.get_input_embeddings().requires_grad_(embeddings)
    return model


def plain_log_probability(model: Any, ids: list[int], count: int) -> torch.Tensor:
    logits = model(torch.tensor([ids])).logits[0].double()
    found = torch.log_softmax(logits[-count - 1 : -1], dim=1).gather(1, torch.tensor(ids[-count:])[:, None])
    return found.sum()


def naive(
    folder: Path, rows: list[Row], start: dict[str, tuple[float, float]], *, embeddings: bool
) -> tuple[float, dict[str, torch.Tensor]]:
    """The same by transformers and autograd alone, one answer at a time, as the paper's equation 7 has it."""
    model = reference.load(folder)
    model.get_input_embeddings().requires_grad_(embeddings)
    total = 0.0
    for row in rows:
        chosen, rejected = answered(row)
        ratios = [
            plain_log_probability(model, chosen, row.answer - row.own) - start[row.key][0],
            plain_log_probability(model, rejected, row.own) - start[row.key][1],
        ]
        loss = -torch.nn.functional.logsigmoid(BETA * (ratios[0] - ratios[1]))
        torch.autograd.backward(loss / len(rows))
        total += float(loss.detach())
    return total, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def found(
    model: Any, rows: list[Row], start: dict[str, tuple[float, float]], micro: int
) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    objective, total = Preferences(BETA, start), 0.0
    for batch in objective.batches(rows, micro):
        loss = objective.loss(model, rows, batch)
        torch.autograd.backward(loss / objective.targets(rows))
        total += float(loss.detach())
    return total, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def apart(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    difference = sum(float(((a[n] - b[n]).double() ** 2).sum()) for n in a)
    return (difference / sum(float((b[n].double() ** 2).sum()) for n in b)) ** 0.5


@pytest.mark.parametrize("embeddings", [False, True])
@pytest.mark.parametrize("micro", [1, 60, ALL])
def test_loss_and_gradient_are_those_of_the_formula(tiny_llama: Path, micro: int, embeddings: bool) -> None:
    rows = pairs()
    start = before(rows)
    total, gradient = found(loaded(tiny_llama, embeddings=embeddings), rows, start, micro)
    expected, wanted = naive(tiny_llama, rows, start, embeddings=embeddings)
    assert total == pytest.approx(expected, rel=1e-5)
    assert apart(gradient, wanted) < 1e-4


@pytest.mark.parametrize("frozen", [True, False])
def test_a_step_is_the_same_however_it_is_cut(tiny_llama: Path, frozen: bool) -> None:
    """The output matrix's gradient, too, which a fused loss puts into the step's sum itself."""
    rows = pairs(12)
    start = before(rows)
    options = {"model": {"address": "file:x"}, "precision": "float32", "frozen_embeddings": frozen}
    _, wanted = naive(tiny_llama, rows, start, embeddings=not frozen)
    for micro in (1, 50, ALL):
        trainer = Trainer(loaded(tiny_llama), Preferences(BETA, start), Student.model_validate(options), 7)
        trainer.micro = micro
        expected = torch.cat([wanted[name].flatten() for name in trainer.weights.names])
        assert float((trainer.gradient(rows) - expected).norm() / expected.norm()) < 1e-4


def test_the_two_answers_of_a_pair_are_never_parted() -> None:
    rows = pairs(9)
    cut = list(batches(rows, 40))
    assert len(cut) > 2
    assert [i for batch in cut for i in batch.rows] == list(range(9))
    assert all(len(batch.counts) == 2 * len(batch.rows) for batch in cut)
    assert all(batch.tokens <= 40 or len(batch.rows) == 1 for batch in cut)


def test_log_probabilities_are_those_of_a_plain_forward_pass(tiny_llama: Path) -> None:
    rows = pairs()
    model, plain = loaded(tiny_llama), reference.load(tiny_llama)
    said = log_probabilities(model, rows, 64)
    for row, (chosen, rejected) in zip(rows, said, strict=True):
        one, other = answered(row)
        assert chosen == pytest.approx(
            float(plain_log_probability(plain, one, row.answer - row.own).detach()), rel=1e-5
        )
        assert rejected == pytest.approx(float(plain_log_probability(plain, other, row.own).detach()), rel=1e-5)


def test_a_student_begins_with_no_preference_and_moves_to_what_is_preferred(tiny_llama: Path, tmp_path: Path) -> None:
    rows = pairs(8)
    model = loaded(tiny_llama)
    start = log_probabilities(model, rows, ALL)
    objective = Preferences(BETA, {row.key: (a, b) for row, (a, b) in zip(rows, start, strict=True)})
    options = {"model": {"address": "file:x"}, "precision": "float32", "learning_rate": 1e-3, "epochs": 10}
    settings = Student.model_validate(options | {"batch_examples": 4})
    trainer = Trainer(model, objective, settings, 7)
    assert trainer.evaluate(rows) == pytest.approx(math.log(2), abs=1e-4)
    report = trainer.fit(rows, rows, tmp_path, Progress(quiet=True))
    moved = log_probabilities(model, rows, ALL) - start
    assert report.best_loss < 0.4
    assert np.all(moved[:, 0] > moved[:, 1])


def test_row_losses_have_no_gradient_and_add_up_to_the_loss() -> None:
    hidden, weight = torch.randn(50, 8), torch.randn(30, 8)
    right = torch.randint(30, (50,))
    losses = fused.right_losses(hidden, weight, right)
    assert not losses.requires_grad
    wanted = torch.nn.functional.cross_entropy(hidden @ weight.T, right, reduction="none")
    torch.testing.assert_close(losses, wanted, rtol=1e-4, atol=1e-5)


def test_a_fused_loss_takes_a_weight_for_each_row() -> None:
    hidden, weight = torch.randn(300, 8, requires_grad=True), torch.randn(30, 8, requires_grad=True)
    right, each = torch.randint(30, (300,)), torch.randn(300)
    total = fused.loss(hidden, weight, right, "cross_entropy", 0.5, 0.1, each)
    torch.autograd.backward(total)
    of_hidden, of_weight = hidden.grad, weight.grad
    hidden.grad = weight.grad = None
    wanted = (each * torch.nn.functional.cross_entropy(hidden @ weight.T, right, reduction="none")).sum()
    torch.autograd.backward(wanted)
    torch.testing.assert_close(total, wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(of_hidden, hidden.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(of_weight, weight.grad, rtol=1e-4, atol=1e-4)
