"""A model with each neuron several times says what it said, until its copies are moved apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from aasut.engine.torch import hidden_states, load_model
from aasut.errors import RecipeError
from aasut.formats import safetensors
from aasut.student.initialize import copy_model
from aasut.student.widen import APART, widen


def logits(folder: Path) -> torch.Tensor:
    model = load_model(folder, torch.float32)
    ids = torch.randint(5, 250, (3, 20), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        states = hidden_states(model, ids, torch.arange(20)[None].expand(3, -1), None, None)
        return torch.as_tensor(model.lm_head(states))


@pytest.mark.parametrize("times", [2, 3])
def test_wider_is_the_same_function(tiny_llama: Path, tmp_path: Path, times: int) -> None:
    told = widen(tiny_llama, tmp_path / "wide", times, 1, apart=0.0)
    before, after = logits(tiny_llama), logits(tmp_path / "wide")
    near = 1e-4 if times == 2 else 0.02  # a third is rounded in bfloat16
    assert float((after - before).abs().max() / before.std()) < near
    gained = (times - 1) * 2 * 3 * 64 * 96
    assert told == {"times": times, "parameters": safetensors.parameters(tiny_llama) + gained}


def test_copies_start_a_little_apart(tiny_llama: Path, tmp_path: Path) -> None:
    widen(tiny_llama, tmp_path / "wide", 2, 1)
    gate = safetensors.load(tmp_path / "wide")["model.layers.0.mlp.gate_proj.weight"].float()
    ratio = gate[:96] / gate[96:]
    assert 0.5 * APART < float(ratio.std()) / 2**0.5 < 2 * APART
    difference = logits(tmp_path / "wide") - logits(tiny_llama)
    assert 0 < float(difference.std() / logits(tiny_llama).std()) < 0.2
    widen(tiny_llama, tmp_path / "other", 2, 2)
    assert not torch.equal(safetensors.load(tmp_path / "other")["model.layers.0.mlp.gate_proj.weight"].float(), gate)


def test_a_network_that_is_not_known_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    copy_model(tiny_llama, tmp_path / "odd")
    config = json.loads((tmp_path / "odd" / "config.json").read_text())
    (tmp_path / "odd" / "config.json").write_text(json.dumps(config | {"mlp_bias": True}))
    with pytest.raises(RecipeError, match="A wider model: "):
        widen(tmp_path / "odd", tmp_path / "wide", 2, 1)
