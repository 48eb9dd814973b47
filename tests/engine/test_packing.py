"""Rows in one packed row against transformers' own model on each row alone."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import reference
from aasut.engine.packing import pack, packed_states, packs, windows
from aasut.engine.torch import load_model

KINDS = ["llama", "gemma3", "mistral"]


def rows(count: int = 7, longest: int = 40) -> list[list[int]]:
    draw = random.Random(1)
    return [draw.choices(range(2, 250), k=draw.randint(1, longest)) for _ in range(count)]


@pytest.fixture(scope="module")
def folders(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models without a window, with one in every layer, and with one in some layers."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig, MistralConfig, MistralForCausalLM

    plain = {
        "vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "head_dim": 8,
        "num_key_value_heads": 2, "sliding_window": 6, "max_position_embeddings": 512, "pad_token_id": 0,
    }  # fmt: skip
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    torch.manual_seed(2)
    models = {
        "gemma3": Gemma3ForCausalLM(Gemma3TextConfig(num_hidden_layers=3, layer_types=kinds, **plain)),
        "mistral": MistralForCausalLM(MistralConfig(num_hidden_layers=2, **plain)),
    }
    made = {"llama": tiny_llama}
    for name, model in models.items():
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        made[name] = tmp_path_factory.mktemp(name)
        model.to(torch.bfloat16).save_pretrained(made[name])
    return made


def gradients(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def apart(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """Distance over length, all tensors as one vector."""
    assert a.keys() == b.keys()
    difference = sum(float(((a[n] - b[n]).double() ** 2).sum()) for n in a)
    return (difference / sum(float((b[n].double() ** 2).sum()) for n in b)) ** 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_row_gives_what_each_row_gives_alone(folders: dict[str, Path], kind: str) -> None:
    """Hidden states and gradients, against transformers' own attention, masks and positions."""
    given = rows()
    model, plain = load_model(folders[kind], torch.float32), reference.load(folders[kind])
    hidden = packed_states(model, pack(given, range(len(given))))
    alone = torch.cat([plain.model(torch.tensor([row])).last_hidden_state[0] for row in given])
    torch.testing.assert_close(hidden, alone, atol=1e-4, rtol=1e-4)
    outer = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(5))
    torch.autograd.backward(hidden, outer)
    torch.autograd.backward(alone, outer)
    assert apart(gradients(model), gradients(plain)) < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_does_not_depend_on_the_packing(folders: dict[str, Path], kind: str) -> None:
    """One packed row, several, and a row at a time."""
    given = rows()
    places = np.cumsum([0, *map(len, given)])
    outer = torch.randn(int(places[-1]), 64, generator=torch.Generator().manual_seed(5))
    found = []
    for most in (10**6, 60, 1):
        model = load_model(folders[kind], torch.float32)
        for part in packs(given, range(len(given)), most):
            hidden = packed_states(model, part)
            weights = torch.cat([outer[places[i] : places[i + 1], : hidden.shape[1]] for i in part.rows])
            torch.autograd.backward(hidden, weights)
        found.append(gradients(model))
    assert apart(found[0], found[2]) < 1e-5
    assert apart(found[1], found[2]) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_what_rows_begin_with_is_computed_once(folders: dict[str, Path], kind: str) -> None:
    """Values and gradients of rows that begin alike are those of each row alone, the common part's summed."""
    common = [7, 9, 11, 13, 15, 17, 19, 21, 23]
    given = [[*common, *row] for row in rows()]
    model, plain = load_model(folders[kind], torch.float32), reference.load(folders[kind])
    packed = pack(given, range(len(given)))
    assert packed.ids.size == sum(map(len, given)) - len(common) * (len(given) - 1)
    assert packed.tokens == sum(map(len, given))
    counts = np.array([len(row) - 1 for row in given])
    hidden = packed_states(model, packed)[torch.from_numpy(packed.before(counts))]
    alone = torch.cat([plain.model(torch.tensor([row])).last_hidden_state[0, :-1] for row in given])
    torch.testing.assert_close(hidden, alone, atol=1e-4, rtol=1e-4)
    outer = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(5))
    torch.autograd.backward(hidden, outer)
    torch.autograd.backward(alone, outer)
    assert apart(gradients(model), gradients(plain)) < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_checkpointed_activations_give_the_same_gradient(folders: dict[str, Path], kind: str) -> None:
    given = rows()
    found = []
    for recompute in (False, True):
        model = load_model(folders[kind], torch.float32).train()
        if recompute:
            for layer in model.model.layers:
                layer.gradient_checkpointing, layer._gradient_checkpointing_func = True, recomputed
        torch.autograd.backward(packed_states(model, pack(given, range(len(given)))).pow(2).sum())
        found.append(gradients(model))
    assert apart(found[1], found[0]) < 1e-6


def recomputed(layer: Any, *inputs: Any) -> Any:
    return torch.utils.checkpoint.checkpoint(layer, *inputs, use_reentrant=False)


def test_what_another_row_says_changes_nothing(folders: dict[str, Path]) -> None:
    model = load_model(folders["llama"], torch.float32)
    first, second, other = rows(3)
    both = packed_states(model, pack([first, second], [0, 1]))
    changed = packed_states(model, pack([other, second], [0, 1]))
    torch.testing.assert_close(both[len(first) :], changed[len(other) :], atol=1e-5, rtol=1e-5)


def test_windows_are_those_of_the_layers(folders: dict[str, Path]) -> None:
    found = {kind: windows(load_model(folders[kind], torch.float32).config) for kind in KINDS}
    assert found == {"llama": [None, None], "gemma3": [6, None, 6], "mistral": [6, 6]}


def test_rows_keep_their_order_and_fill_packs() -> None:
    given = [[n] * n for n in (3, 9, 2, 2, 20, 1)]
    found = list(packs(given, [0, 2, 3, 4, 5, 1], 8))
    assert [part.rows.tolist() for part in found] == [[0, 2, 3], [4], [5], [1]]
    assert [part.tokens for part in found] == [7, 20, 1, 9]
    assert found[0].positions.tolist() == [[0, 1, 2, 0, 1, 0, 1]]
    assert list(packs(given, [], 8)) == []


def test_places_before_a_rows_last_tokens() -> None:
    packed = pack([[5, 6, 7], [8, 9], [1, 2, 3, 4]], [0, 1, 2])
    assert packed.before(np.array([1, 0, 3])).tolist() == [1, 5, 6, 7]
    assert packed.before(np.array([1, 1, 2]), np.array([1, 0, 1])).tolist() == [0, 3, 5, 6]


def test_places_in_what_rows_begin_with() -> None:
    packed = pack([[5, 6, 7, 8], [5, 6, 9], [5, 6, 1, 2]], [0, 1, 2])
    assert packed.ids.tolist() == [[5, 6, 7, 8, 9, 1, 2]]
    assert packed.positions.tolist() == [[0, 1, 2, 3, 2, 2, 3]]
    assert packed.before(np.array([1, 2, 3])).tolist() == [2, 0, 1, 0, 1, 5]
    assert packed.before(np.array([1, 1, 1]), np.array([1, 0, 2])).tolist() == [1, 1, 0]


def test_rows_that_are_alike_keep_a_token_each() -> None:
    packed = pack([[5, 6], [5, 6], [5, 6, 7]], [0, 1, 2])
    assert (packed.begin, packed.ids.tolist()) == (1, [[5, 6, 6, 6, 7]])
    assert pack([[5, 6], [5, 6]], [1]).begin == 0
