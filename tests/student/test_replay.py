"""The loss of continued pre-training against transformers' full logits, however rows are cut into micro-batches."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import reference
from aasut.engine.torch import load_model
from aasut.recipe import ModelAddress, Student
from aasut.student.objective import Row
from aasut.student.replay import Replay
from aasut.student.teaching import Live
from aasut.student.trainer import Trainer

ALL = 1_000_000


def rows(count: int = 9) -> list[Row]:
    """Documents and, every third, general text that goes on behind a token of its own text."""
    draw = random.Random(3)
    made = []
    for i in range(count):
        text = draw.choices(range(2, 300), k=draw.randint(1, 30))
        general = i % 3 == 1
        before = [10, 50 + i] if i % 2 else [10]
        made.append(Row([*before, *text], answer=len(text), asked=[11, *before[1:]] if general else ()))
    return made


def anchor(folder: Path) -> Any:
    """The same model with another middle, so that it says something else."""
    model = load_model(folder, torch.float32)
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight.mul_(-1)
    return model


def naive(folder: Path, given: Sequence[Row], distil: float) -> tuple[float, dict[str, torch.Tensor]]:
    """Mean loss a target and its gradient, by transformers alone and full logits of one row at a time."""
    model, other = reference.load(folder), reference.load(folder)
    with torch.no_grad():
        other.model.layers[0].mlp.down_proj.weight.mul_(-1)
    total = torch.zeros(())
    for row in given:
        right = torch.tensor(row.ids[-row.answer :])
        said = model(torch.tensor([list(row.ids)])).logits[0][-row.answer - 1 : -1].log_softmax(1)
        cross = torch.nn.functional.nll_loss(said, right, reduction="sum")
        if row.asked:
            with torch.no_grad():
                read = torch.tensor([[*row.asked, *row.ids[-row.answer :]]])
                told = other(read).logits[0][-row.answer - 1 : -1].log_softmax(1)
            apart = (told.exp() * (told - said)).sum()
            cross = (1 - distil) * cross + distil * apart
        total = total + cross
    loss = total / sum(row.answer for row in given)
    loss.backward()
    return float(loss.detach()), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def trainer(folder: Path, distil: float, micro: int = ALL, live: Any = None) -> Trainer:
    settings = Student(
        model=ModelAddress(address="file:x"), precision="float32", micro_tokens=micro, frozen_embeddings=False
    )
    teaching = live if live is not None else Live(anchor(folder), 512)
    return Trainer(load_model(folder, torch.float32), Replay(distil, teaching), settings, 7)


def flat(trained: Trainer, gradients: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([gradients[name].flatten() for name in trained.weights.names])


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("distil", [0.0, 0.3, 1.0])
def test_loss_and_gradient_are_those_of_full_logits(distil: float, tiny_llama: Path) -> None:
    made = trainer(tiny_llama, distil)
    loss, gradients = naive(tiny_llama, rows(), distil)
    assert made.evaluate(rows()) == pytest.approx(loss, rel=1e-5)
    assert apart(made.gradient(rows()), flat(made, gradients)) < 1e-4


def test_the_gradient_does_not_hang_on_micro_batches(tiny_llama: Path) -> None:
    whole = trainer(tiny_llama, 0.3).gradient(rows())
    for micro in (1, 40, 70):
        assert apart(trainer(tiny_llama, 0.3, micro).gradient(rows()), whole) < 1e-5


def test_without_an_anchor_all_rows_are_learned_alike(tiny_llama: Path) -> None:
    settings = Student(model=ModelAddress(address="file:x"), precision="float32", frozen_embeddings=False)
    made = Trainer(load_model(tiny_llama, torch.float32), Replay(0.3, None), settings, 7)
    loss, gradients = naive(tiny_llama, rows(), 0.0)
    assert made.evaluate(rows()) == pytest.approx(loss, rel=1e-5)
    assert apart(made.gradient(rows()), flat(made, gradients)) < 1e-4


def test_the_anchors_own_distribution_costs_nothing(tiny_llama: Path) -> None:
    """A student that is its own anchor: distillation pulls nowhere."""
    general = [Row(row.ids, answer=row.answer, asked=row.ids[: len(row.ids) - row.answer]) for row in rows()]
    made = trainer(tiny_llama, 1.0, live=Live(load_model(tiny_llama, torch.float32), 512))
    assert made.evaluate(general) == pytest.approx(0.0, abs=1e-6)
    assert float(made.gradient(general).norm()) < 1e-4
