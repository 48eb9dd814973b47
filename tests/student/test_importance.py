from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import deep_llama
import pytest
import tokenizers
import torch
from deep_llama import LEAST_FIRST, PROMPTS

import reference
from aasut.engine.torch import load_model
from aasut.formats.tokenizer import Tokenizer
from aasut.student import importance
from aasut.student.calibration import Calibration


def rows_of(folder: Path) -> list[list[int]]:
    return Calibration.of(Tokenizer.load(folder), PROMPTS, 512).measured


def states_by_hand(folder: Path, rows: list[list[int]]) -> list[torch.Tensor]:
    """What goes into each layer, and out of the last, for all tokens: [tokens, d] each, from transformers itself."""
    model = reference.load(folder)
    before_norm: list[torch.Tensor] = []  # transformers gives the last layer's output after the final norm only
    model.model.norm.register_forward_pre_hook(lambda _module, given: before_norm.append(given[0]))
    found = []
    with torch.inference_mode():
        for row in rows:
            states = model(torch.tensor([row]), output_hidden_states=True).hidden_states[:-1]
            found.append([state[0] for state in (*states, before_norm.pop())])
    return [torch.cat(parts) for parts in zip(*found, strict=True)]


def changed(before: torch.Tensor, after: torch.Tensor) -> float:
    return float((1 - torch.cosine_similarity(before, after, dim=-1)).mean())


def test_block_influence_equals_a_computation_by_hand(deep: Path) -> None:
    rows = rows_of(deep)
    states = states_by_hand(deep, rows)
    found = importance.measure(load_model(deep, torch.float32), rows)
    assert found.influence == pytest.approx([changed(a, b) for a, b in pairwise(states)], rel=1e-4)
    assert sorted(range(6), key=lambda layer: found.influence[layer])[:3] == list(LEAST_FIRST)
    assert found.heads == found.neurons == []


def test_a_run_of_layers_is_measured_as_one(deep: Path) -> None:
    rows = rows_of(deep)
    states = states_by_hand(deep, rows)
    model = load_model(deep, torch.float32)
    for run in (1, 3, 6):
        expected = [changed(states[first], states[first + run]) for first in range(6 - run + 1)]
        assert importance.measure(model, rows, run=run).runs == pytest.approx(expected, rel=1e-4)


def test_the_begin_token_counts_where_the_model_wants_it(deep: Path, tmp_path: Path) -> None:
    folder = tmp_path / "begin"
    shutil.copytree(deep, folder)
    inner = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    inner.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", 0)]
    )
    inner.save(str(folder / "tokenizer.json"))
    assert all(row[0] == 0 and row[1:] == plain for row, plain in zip(rows_of(folder), rows_of(deep), strict=True))


def inputs_by_hand(folder: Path, rows: list[list[int]], of: Callable[[Any], Any]) -> torch.Tensor:
    """What goes into a module for all tokens, [tokens, n]."""
    model, seen = reference.load(folder), []
    of(model).register_forward_pre_hook(lambda _module, given: seen.append(given[0][0]))
    with torch.inference_mode():
        for row in rows:
            model(torch.tensor([row]))
    return torch.cat(seen)


def test_widths_equal_a_computation_by_hand(deep: Path) -> None:
    rows = rows_of(deep)
    found = importance.measure(load_model(deep, torch.float32), rows, width=True)
    for layer in (0, 4):
        heads = inputs_by_hand(deep, rows, lambda model, n=layer: model.model.layers[n].self_attn.o_proj)
        weights = reference.load(deep).model.layers[layer]
        out = weights.self_attn.o_proj.weight.detach()
        added = [heads[:, n * 16 : n * 16 + 16] @ out[:, n * 16 : n * 16 + 16].T for n in range(4)]
        expected = torch.stack([part.norm(dim=1).mean() for part in added])
        assert found.heads[layer].tolist() == pytest.approx(expected.tolist(), rel=1e-4)
        neurons = inputs_by_hand(deep, rows, lambda model, n=layer: model.model.layers[n].mlp.down_proj)
        assert found.neurons[layer].tolist() == pytest.approx(
            (neurons.abs().mean(0) * weights.mlp.down_proj.weight.detach().norm(dim=0)).tolist(), rel=1e-4
        )
    model = reference.load(deep)
    channels = torch.zeros(64)
    for name, norm in importance.norms(model).items():
        given = inputs_by_hand(deep, rows, lambda model, name=name: model.get_submodule(name))
        channels += norm(given).abs().mean(0).detach()
        square = given.square()
        expected = (square / square.mean(1, keepdim=True)).mean(0)
        assert found.energy[name].tolist() == pytest.approx(expected.tolist(), rel=1e-3)
    assert found.channels.tolist() == pytest.approx(channels.tolist(), rel=1e-4)


def test_gemma_s_norms_behind_its_parts_do_not_say_which_channels_matter(tiny_llama: Path, tmp_path: Path) -> None:
    folder = deep_llama.gemma(tmp_path / "gemma", tiny_llama)
    model, rows = load_model(folder, torch.float32), rows_of(folder)
    assert len(importance.norms(model)) == 6 * 4 + 1
    before = importance.measure(model, rows, width=True).channels
    with torch.no_grad():
        model.model.layers[5].post_feedforward_layernorm.weight[3] = -1.0  # it gives nothing to that channel
        model.model.norm.weight.add_(0)
    after = importance.measure(model, rows, width=True).channels
    assert before.shape == after.shape == (64,)
    with torch.no_grad():
        model.model.layers[0].input_layernorm.weight[3] += 50.0
    louder = importance.measure(model, rows, width=True).channels
    assert louder[3] > after[3] + 10


def test_measuring_leaves_no_hooks(deep: Path) -> None:
    model = load_model(deep, torch.float32)
    importance.measure(model, rows_of(deep), width=True)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_nothing_to_read_measures_nothing(deep: Path) -> None:
    found = importance.measure(load_model(deep, torch.float32), [], width=True)
    assert found.influence == [0.0] * 6
