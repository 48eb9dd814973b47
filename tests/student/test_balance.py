"""Experts are used evenly after training, without biases in what is written, and a killed training goes on the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from aasut.engine import experts
from aasut.engine.torch import load_model
from aasut.progress import Progress, Step
from aasut.recipe import Experts, Student
from aasut.student import balance, losses
from aasut.student.initialize import copy_model
from aasut.student.objective import Row, Text
from aasut.student.teaching import Right
from aasut.student.trainer import Report, Trainer
from aasut.student.upcycle import upcycle

SKEW = 0.3  # in logits of a mean token
LEARNED = {"epochs": 1, "batch_examples": 4, "checks": 2, "precision": "float32", "learning_rate": 1e-4}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def rows(count: int, seed: int = 0) -> list[Row]:
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 250, (count, 24), generator=draw).tolist()
    return [Row(one, answer=20, own=20, group="ab"[i % 2]) for i, one in enumerate(ids)]


def start(tiny_llama: Path, folder: Path, skew: float = 0.0, **wanted: Any) -> Any:
    """Four experts, the first of which is liked by so much in the logits of a mean token.

    Tokens have much in common, as in trained models.
    """
    copy_model(tiny_llama, folder)
    upcycle(folder, Experts.model_validate(wanted), seed=1)
    model = load_model(folder, torch.float32)
    embeddings = model.get_input_embeddings().weight
    with torch.no_grad():
        embeddings += (
            2 * embeddings.std() * torch.randn(embeddings.shape[1], generator=torch.Generator().manual_seed(4))
        )
    seen = Inputs(model)
    balance.loads(model, objective(), rows(8), 512)
    for router, mean in zip(experts.routers(model), seen.means(), strict=True):
        with torch.no_grad():
            router.weight *= 30  # a trained router knows tokens apart
            router.weight[0] += skew * mean / mean.square().sum()
    return model


class Inputs:
    """What routers are given, by hooks of PyTorch's own."""

    def __init__(self, model: Any) -> None:
        self.sums = [torch.zeros(0)] * len(experts.routers(model))
        for number, router in enumerate(experts.routers(model)):
            router.register_forward_hook(lambda _m, given, _o, n=number: self.see(n, given[0]))

    def see(self, number: int, hidden: torch.Tensor) -> None:
        self.sums[number] = hidden.detach().mean(0)

    def means(self) -> list[torch.Tensor]:
        return self.sums


def objective() -> Text:
    return Text(losses.get("cross_entropy"), Right())


def train(
    model: Any, folder: Path, steps: int = 60, progress: Progress | None = None, settings: Any = None, **wanted: Any
) -> tuple[Report, Trainer]:
    folder.mkdir(exist_ok=True)
    plain = {"model": {"address": "file:x"}, **LEARNED, **(settings or {}), "experts": wanted}
    trainer = Trainer(model, objective(), Student.model_validate(plain), seed=2)
    report = trainer.fit(rows(4 * steps), rows(16, seed=9), folder, progress or Progress(quiet=True))
    return report, trainer


def test_a_skewed_router_is_balanced_and_needs_no_bias_afterwards(tiny_llama: Path, tmp_path: Path) -> None:
    found = {}
    for rate in (0.0, 0.005):
        model = start(tiny_llama, tmp_path / f"start-{rate}", skew=SKEW)
        assert balance.told(balance.loads(model, objective(), rows(16, seed=9), 512))["cv"] > 0.5
        report, _ = train(model, tmp_path / f"work-{rate}", bias_rate=rate)
        assert report.experts is not None
        found[rate] = report.experts["cv"]
    assert found[0.0] > 0.5, "nothing else balances"
    assert found[0.005] < 0.3, "measured without biases"


def test_biases_rise_towards_equal_loads_and_fade_to_nothing(tiny_llama: Path, tmp_path: Path) -> None:
    model = start(tiny_llama, tmp_path / "start", skew=SKEW)
    _, trainer = train(model, tmp_path / "work", steps=20, bias_rate=0.01, settled=0.5)
    assert trainer.balance is not None
    base = trainer.balance.base
    assert (base[:, 0] <= -0.05).all(), "the one that is liked is held back"
    assert base.abs().max() <= 0.01 * 10 + 1e-6, "biases stop moving where they begin to fade"
    assert all(not router.bias.any() for router in experts.routers(model))


def test_loads_count_every_token_once_in_each_layer(tiny_llama: Path, tmp_path: Path) -> None:
    model = start(tiny_llama, tmp_path / "start", count=3)
    counts = balance.loads(model, objective(), rows(5), 48)
    assert counts.sum(1).tolist() == [5 * 24 * 2] * 2
    told = balance.by_group(model, objective(), rows(6), 512)
    assert set(told["groups"]) == {"a", "b"}
    mean = (torch.tensor(told["groups"]["a"]) + torch.tensor(told["groups"]["b"])) / 2
    torch.testing.assert_close(mean, torch.tensor(told["shares"]), atol=2e-4, rtol=0)


def test_what_is_told_of_loads() -> None:
    told = balance.told(torch.tensor([[10.0, 10, 10, 10], [40, 0, 0, 0]]))
    assert told["shares"] == [[0.25] * 4, [1.0, 0, 0, 0]]
    assert told["dead"] == 3
    assert told["cv"] == pytest.approx((0 + 3**0.5) / 2)


@pytest.mark.parametrize("loss", ["sequence_loss", "z_loss"])
def test_the_losses_of_routers_move_routers(tiny_llama: Path, tmp_path: Path, loss: str) -> None:
    """Experts that are copies say the same whoever is chosen: the task's loss gives routers hardly a gradient."""
    moved = {}
    for weight in (0.0, 10.0):
        model = start(tiny_llama, tmp_path / f"start-{weight}", skew=1.0)
        before = [router.weight.detach().clone() for router in experts.routers(model)]
        report, _ = train(model, tmp_path / f"work-{weight}", steps=20, bias_rate=0, **{loss: weight})
        assert report.experts is not None
        pairs = zip(experts.routers(model), before, strict=True)
        moved[weight] = (sum(float((r.weight.detach() - b).norm()) for r, b in pairs), report.experts["cv"])
    assert moved[10.0][0] > 1.5 * moved[0.0][0]
    if loss == "sequence_loss":
        assert moved[10.0][1] < moved[0.0][1]


class Killing(Progress):
    """Ends a training after so many steps, as a user does."""

    @contextmanager
    def steps(self, what: str, total: int) -> Iterator[Step]:
        yield Stopping(self, what, total)


class Stopping(Step):
    def advance(self, parts: int = 1, note: str = "", *, resumed: bool = False) -> None:
        super().advance(parts, note, resumed=resumed)
        if not resumed and self.done == 14:
            raise KeyboardInterrupt


def test_a_killed_training_goes_on_with_its_biases(tiny_llama: Path, tmp_path: Path) -> None:
    how = {"steps": 20, "bias_rate": 0.01, "settled": 0.5, "settings": {"checkpoint_s": 0}}
    whole = start(tiny_llama, tmp_path / "whole", skew=1.0)
    train(whole, tmp_path / "work", **how)
    with pytest.raises(KeyboardInterrupt):
        train(start(tiny_llama, tmp_path / "first", skew=1.0), tmp_path / "cut", progress=Killing(quiet=True), **how)
    again = start(tiny_llama, tmp_path / "second", skew=1.0)
    train(again, tmp_path / "cut", **how)
    for (name, one), other in zip(whole.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
