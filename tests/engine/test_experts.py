"""Experts on sorted tokens compute what transformers' own classes do, forward and backward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from aasut.engine import experts
from aasut.engine.experts import NAME, Router
from aasut.engine.torch import hidden_states, load_model
from aasut.recipe import Experts
from aasut.student.initialize import copy_model
from aasut.student.main_grad import MainGrad
from aasut.student.upcycle import upcycle

IDS = torch.tensor([[1, 5, 9, 40, 41, 7, 60, 5, 9, 33, 12]])


def folder_of(tiny_llama: Path, folder: Path, **wanted: Any) -> Path:
    """Experts that differ from one another."""
    copy_model(tiny_llama, folder)
    upcycle(folder, Experts.model_validate({"start": "drop"} | wanted), seed=3)
    return folder


def logits(model: Any) -> torch.Tensor:
    """Of the tokens above."""
    positions = torch.arange(IDS.shape[1])[None]
    result: torch.Tensor = model.lm_head(hidden_states(model, IDS, positions, None, None))
    return result


def theirs(folder: Path, kind: str) -> Any:
    """The model as transformers loads and runs it."""
    import transformers

    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, experts_implementation=kind
    ).eval()


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("kind", ["eager", "grouped_mm"])
def test_logits_and_gradients_are_those_of_transformers(
    tiny_llama: Path, tmp_path: Path, kind: str, shared: bool
) -> None:
    folder = folder_of(tiny_llama, tmp_path / "model", count=5, active=2, shared=shared)
    ours, other = load_model(folder, torch.float32), theirs(folder, kind)
    assert [type(gate).__name__ for gate in experts.routers(ours)] == ["Router", "Router"]
    assert ours.config._experts_implementation == NAME
    mine, right = logits(ours), other(IDS).logits
    torch.testing.assert_close(mine, right, atol=2e-5, rtol=1e-4)
    for given in (mine, right):
        given.logsumexp(-1).square().sum().backward()  # type: ignore[no-untyped-call]
    wanted = dict(other.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name].grad, atol=2e-4, rtol=1e-3, msg=name)


def layer(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """(hidden states, weights of the chosen, a module with stacked experts)."""
    draw = torch.Generator().manual_seed(seed)
    module = torch.nn.Module()
    module.gate_up_proj = torch.nn.Parameter(torch.randn(4, 16, 8, generator=draw))
    module.down_proj = torch.nn.Parameter(torch.randn(4, 8, 8, generator=draw))
    hidden = torch.randn(7, 8, generator=draw).requires_grad_()
    return hidden, torch.rand(7, 2, generator=draw).requires_grad_(), module


def gradients(result: torch.Tensor, *given: torch.Tensor) -> list[torch.Tensor]:
    """Of a sum over the result, by place."""
    found = torch.autograd.grad((result * torch.arange(1.0, 9)).sum(), given)
    return list(found)


CHOSEN = [
    torch.tensor([[0, 1], [1, 2], [2, 3], [3, 0], [1, 3], [0, 2], [2, 1]]),
    torch.tensor([[3, 0]] * 7),  # two experts get everything, two get nothing
]


@pytest.mark.parametrize("chosen", CHOSEN)
def test_grouped_products_are_the_same(chosen: torch.Tensor) -> None:
    """What GPUs run, here on the CPU's kernels."""
    hidden, weights, module = layer()
    given = (hidden, weights, module.gate_up_proj, module.down_proj)
    mine = experts.forward(module, hidden, chosen, weights)
    other = experts.grouped(*given, experts._Order(chosen, 4, padded=False))
    torch.testing.assert_close(mine, other)
    for one, two in zip(gradients(mine, *given), gradients(other, *given), strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("many", [1, 17, 600])
def test_rows_are_filled_up_to_few_sizes_and_what_fills_them_counts_for_nothing(many: int) -> None:
    hidden, weights, module = layer()
    chosen = torch.stack([torch.arange(7 * many) % 3, torch.full((7 * many,), 3)], 1)
    order = experts._Order(chosen, 4, padded=True)
    counts = chosen.flatten().bincount(minlength=4)
    assert all(order.counts >= counts)
    assert all(order.counts <= 1.25 * counts + 1)
    assert all(size % 32 == 0 or len(bin(size).rstrip("0")) <= len("0b") + 4 for size in order.counts.tolist())
    given = (hidden.repeat(many, 1), weights.repeat(many, 1), module.gate_up_proj, module.down_proj)
    mine = experts.forward(module, given[0], chosen, given[1])
    other = experts.grouped(*given, experts._Order(chosen, 4, padded=False))
    torch.testing.assert_close(mine, other)
    for one, two in zip(gradients(mine, *given[2:]), gradients(other, *given[2:]), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-2 * many**0.5)
    with torch.no_grad():
        torch.testing.assert_close(experts.forward(module, given[0], chosen, given[1]), mine)


def test_no_token_is_dropped_however_uneven_the_loads_are() -> None:
    hidden, weights, module = layer()
    together = experts.forward(module, hidden, CHOSEN[1], weights)
    for graded in (True, False):  # a token alone has a path of its own where no gradient is wanted
        with torch.set_grad_enabled(graded):
            alone = torch.stack([
                experts.forward(module, hidden[i : i + 1], CHOSEN[1][:1], weights[i : i + 1])[0] for i in range(7)
            ])  # fmt: skip
        torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("chosen", CHOSEN)
def test_gradients_are_added_where_the_sum_over_micro_batches_is_kept(chosen: torch.Tensor) -> None:
    hidden, weights, module = layer()
    plain = gradients(experts.forward(module, hidden, chosen, weights), module.gate_up_proj, module.down_proj)
    for stacked in (module.gate_up_proj, module.down_proj):
        stacked.main_grad = MainGrad(stacked)
        stacked.main_grad.value.fill_(7.0)  # of a step before
    for _ in range(2):
        (experts.forward(module, hidden, chosen, weights) * torch.arange(1.0, 9)).sum().backward()  # type: ignore[no-untyped-call]
    for stacked, once in zip((module.gate_up_proj, module.down_proj), plain, strict=True):
        assert stacked.grad is None
        torch.testing.assert_close(stacked.main_grad.value, 2 * once)


def test_a_router_is_float32_and_its_bias_chooses_but_does_not_weigh() -> None:
    router = Router(torch.eye(4, 8, dtype=torch.bfloat16), 2, normalise=True)
    hidden = torch.tensor([[3.0, 2.0, 1.0, 0.0, 0, 0, 0, 0]], dtype=torch.bfloat16)
    logits, weights, chosen = router(hidden)
    assert router.weight.dtype == logits.dtype == weights.dtype == torch.float32
    assert chosen.tolist() == [[0, 1]]
    router.bias.copy_(torch.tensor([0.0, -1.0, 0.0, 1.0]))
    assert router(hidden)[2].sort().values.tolist() == [[0, 3]]
    scores = torch.tensor([3.0, 0.0]).softmax(0)  # of 0 and 3, without the bias
    torch.testing.assert_close(router(hidden)[1].sort(descending=True).values[0], scores.sort(descending=True).values)
    assert router.eval()(hidden)[2].tolist() == [[0, 1]], "the written model has no bias"


def test_an_engine_writes_the_same_alone_and_in_a_batch(tiny_llama: Path, tmp_path: Path) -> None:
    from aasut.engine.base import Prompt, write
    from aasut.engine.torch import load

    engine = load(folder_of(tiny_llama, tmp_path / "model", count=4, active=2), precision="float32")
    prompts = [Prompt(text, 8) for text in ("Review: the battery", "Sentiment:", "a b c d e f")]
    alone = [write(engine, [prompt])[0].text for prompt in prompts]
    assert [said.text for said in write(engine, prompts)] == alone
    assert len(set(alone)) > 1
