from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from aasut.engine.torch import hidden_states, load_model
from aasut.errors import RecipeError
from aasut.recipe import ModelAddress, Student
from aasut.student import lora

IDS = torch.tensor([[5, 9, 30, 77, 12]])


def settings(frozen_layers: int = 0, **adapter: Any) -> Student:
    return Student(model=ModelAddress(address="file:model"), frozen_layers=frozen_layers, lora=adapter)


def states(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return hidden_states(model, IDS, torch.arange(5)[None], None, None)


def test_adapters_begin_as_no_change_and_alone_are_trained(tiny_llama: Path) -> None:
    model = load_model(tiny_llama, torch.float32)
    before = states(model)
    lora.attach(model, settings(rank=3), seed=1)
    assert torch.equal(states(model), before)
    trained = [(name, tuple(p.shape)) for name, p in model.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * 2 * 7  # layers, parts of an adapter, matrices
    assert all(".lora_" in name and 3 in shape for name, shape in trained)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merged_weights_are_rounded_once(tiny_llama: Path, dtype: torch.dtype) -> None:
    """W + alpha / rank · B A, computed in float32, and the model's own names again."""
    model = load_model(tiny_llama, dtype)
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    adapted = lora.attach(model, settings(rank=2, alpha=6.0, targets=["q_proj"]), seed=1)
    for i, parameter in enumerate(lora.adapters(model)):
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(i))
    parts = {name: p.detach().float() for name, p in model.named_parameters() if ".lora_" in name}
    lora.merge(adapted)
    merged = model.state_dict()
    assert merged.keys() == start.keys()
    for name, tensor in merged.items():
        place = name.removesuffix(".weight")
        expected = start[name]
        if place.endswith("q_proj"):
            added = parts[f"{place}.lora_B.default.weight"] @ parts[f"{place}.lora_A.default.weight"]
            expected = (expected.float() + 3.0 * added).to(dtype)
            assert not torch.equal(expected, start[name])
        torch.testing.assert_close(tensor, expected, atol=0 if dtype == torch.bfloat16 else 1e-6, rtol=0)


def test_frozen_layers_get_no_adapters(tiny_llama: Path) -> None:
    model = load_model(tiny_llama, torch.float32)
    lora.attach(model, settings(frozen_layers=1), seed=1)
    assert {name.split(".")[2] for name, p in model.named_parameters() if p.requires_grad} == {"1"}


def test_the_seed_decides_where_adapters_begin(tiny_llama: Path) -> None:
    def begun(seed: int) -> torch.Tensor:
        model = load_model(tiny_llama, torch.float32)
        lora.attach(model, settings(), seed)
        return torch.cat([p.detach().flatten() for p in lora.adapters(model)])

    assert torch.equal(begun(1), begun(1))
    assert not torch.equal(begun(1), begun(2))


def test_unknown_matrices_are_told_with_the_known_ones(tiny_llama: Path) -> None:
    with pytest.raises(RecipeError, match="names query, and the student's layers have no such") as caught:
        lora.attach(load_model(tiny_llama, torch.float32), settings(targets=["q_proj", "query"]), seed=1)
    assert "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj" in caught.value.remedy
