"""A dense model becomes a Mixture of Experts that says the same, or nearly, and that others load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from aasut.engine.torch import hidden_states, load_model
from aasut.errors import RecipeError
from aasut.formats import safetensors
from aasut.recipe import Experts
from aasut.student.initialize import copy_model
from aasut.student.upcycle import upcycle

IDS = torch.tensor([[1, 5, 9, 40, 41, 7, 60, 5, 9, 33, 12]])


def made(source: Path, folder: Path, **wanted: Any) -> dict[str, Any]:
    copy_model(source, folder)
    return upcycle(folder, Experts.model_validate(wanted), seed=1)


@torch.no_grad()
def logits(folder: Path) -> torch.Tensor:
    model = load_model(folder, torch.float32)
    positions = torch.arange(IDS.shape[1])[None]
    result: torch.Tensor = model.lm_head(hidden_states(model, IDS, positions, None, None))
    return result


@pytest.mark.parametrize("wanted", [{}, {"count": 6, "active": 3}])
def test_copies_say_what_the_model_said(tiny_llama: Path, tmp_path: Path, wanted: dict[str, Any]) -> None:
    facts = made(tiny_llama, tmp_path / "model", **wanted)
    torch.testing.assert_close(logits(tmp_path / "model"), logits(tiny_llama), atol=1e-5, rtol=1e-4)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    given = Experts.model_validate(wanted)
    assert (config["architectures"], config["num_local_experts"]) == (["MixtralForCausalLM"], given.count)
    network = 3 * config["hidden_size"] * config["intermediate_size"]
    router = given.count * config["hidden_size"]
    before, after = facts["parameters"]
    layers = config["num_hidden_layers"]
    assert after - before == layers * ((given.count - 1) * network + router)
    assert facts["active_parameters"] == after - layers * (given.count - given.active) * network


def test_neurons_drawn_anew_are_a_share_of_each_experts_and_like_the_others(tiny_llama: Path, tmp_path: Path) -> None:
    made(tiny_llama, tmp_path / "model", start="drop", redrawn=0.25)
    dense, found = safetensors.load(tiny_llama), safetensors.load(tmp_path / "model")
    changed = []
    for expert in range(4):
        before = f"model.layers.1.block_sparse_moe.experts.{expert}"
        pairs = [("w1", "gate_proj", 1), ("w3", "up_proj", 1), ("w2", "down_proj", 0)]
        same = [
            (found[f"{before}.{ours}.weight"] == dense[f"model.layers.1.mlp.{theirs}.weight"]).all(dimension)
            for ours, theirs, dimension in pairs
        ]
        assert all(torch.equal(same[0], other) for other in same[1:]), "whole neurons"
        changed.append(tuple((~same[0]).nonzero().flatten().tolist()))
        new = found[f"{before}.w1.weight"][~same[0]].float()
        old = dense["model.layers.1.mlp.gate_proj.weight"][~same[0]].float()
        assert 0.8 < float(new.std() / old.std()) < 1.25
    size = dense["model.layers.1.mlp.gate_proj.weight"].shape[0]
    assert {len(neurons) for neurons in changed} == {round(0.25 * size)}
    assert len(set(changed)) == 4, "experts differ"
    assert not torch.allclose(logits(tmp_path / "model"), logits(tiny_llama), atol=1e-3)


def test_with_a_shared_expert_it_starts_near_the_model(tiny_llama: Path, tmp_path: Path) -> None:
    facts = made(tiny_llama, tmp_path / "model", shared=True)
    assert facts["active_parameters"] < facts["parameters"][1]
    torch.testing.assert_close(logits(tmp_path / "model"), logits(tiny_llama), atol=0.05, rtol=0.05)


def test_a_seed_gives_the_same_bytes_and_another_one_others(tiny_llama: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        copy_model(tiny_llama, tmp_path / name)
        upcycle(tmp_path / name, Experts(start="drop"), seed)
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b != c


def test_a_model_without_a_layout_of_experts_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    copy_model(tiny_llama, tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"architectures": ["Gemma3ForCausalLM"]}))
    with pytest.raises(RecipeError, match=r"student.experts: there is no layout of experts for a Gemma3ForCausalLM"):
        upcycle(tmp_path / "model", Experts(), 1)
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"architectures": ["LlamaForCausalLM"], "mlp_bias": True})
    )
    with pytest.raises(RecipeError, match="with mlp_bias"):
        upcycle(tmp_path / "model", Experts(), 1)


def test_with_a_shared_expert_attention_has_the_biases_that_readers_of_the_layout_expect(
    tiny_llama: Path, tmp_path: Path
) -> None:
    """vLLM makes room for them whatever config.json says, and leaves it as it lies where the file has none."""
    made(tiny_llama, tmp_path / "model", shared=True)
    tensors, config = safetensors.load(tmp_path / "model"), json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["qkv_bias"] is True
    for name in [name for name in tensors if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight"))]:
        bias = tensors[name.replace("weight", "bias")]
        assert bias.shape == tensors[name].shape[:1]
        assert not bias.any()
