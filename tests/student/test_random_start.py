from __future__ import annotations

import math
from pathlib import Path

import deep_llama
import pytest
import torch
from deep_llama import PROMPTS, settings

import reference
from aasut.errors import RecipeError
from aasut.formats import safetensors
from aasut.student import random_start

FREE = {"initialise": "random", "frozen_embeddings": False}


def start(source: Path, out: Path, seed: int = 3, **shape: int) -> dict[str, object]:
    wanted = settings(**FREE, shape=shape) if shape else settings(**FREE)
    return random_start.random(wanted, source, PROMPTS, out, seed)


def test_the_seed_decides_the_weights(deep: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = start(deep, tmp_path / "first", layers=2)
    torch.manual_seed(2)
    assert start(deep, tmp_path / "second", layers=2) == first
    start(deep, tmp_path / "other", 4, layers=2)
    bytes_of = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "second", "other")]
    assert bytes_of[0] == bytes_of[1] != bytes_of[2]


def test_other_random_numbers_go_on_as_they_were(deep: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    random_start.write(settings(**FREE), deep, tmp_path / "start", 3)
    assert torch.equal(torch.rand(3), expected)


def test_weights_are_the_class_s_own_and_know_nothing(deep: Path, tmp_path: Path) -> None:
    report = start(deep, tmp_path / "start")
    model = reference.load(tmp_path / "start")
    assert torch.equal(model.model.norm.weight, torch.ones(64))
    assert float(model.model.layers[1].mlp.up_proj.weight.std()) == pytest.approx(0.02, rel=0.05)
    assert report["loss_before_training"] == pytest.approx(math.log(model.config.vocab_size), abs=0.3)
    assert report["loss_of_source"] != report["loss_before_training"]
    assert report["parameters"] == report["parameters_before"] == sum(p.numel() for p in model.parameters())
    assert {t.dtype for t in safetensors.load(tmp_path / "start").values()} == {torch.bfloat16}


@pytest.mark.parametrize("tied", [True, False])
def test_sizes_may_be_smaller_or_larger(tiny_llama: Path, tmp_path: Path, tied: bool) -> None:
    for number, kind in enumerate(deep_llama.MODELS):
        source = deep_llama.MODELS[kind](tmp_path / f"{kind}{tied}", tiny_llama, tie_word_embeddings=tied)
        sizes = {"layers": 9 - 5 * (number % 2), "heads": 8, "neurons": 48, "channels": 80}
        report = start(source, tmp_path / f"start {kind}", **sizes)
        model = reference.load(tmp_path / f"start {kind}")
        config = model.config
        assert (config.num_hidden_layers, config.num_attention_heads) == (sizes["layers"], 8)
        assert (config.num_key_value_heads, config.head_dim) == (2, 16)
        assert (config.intermediate_size, config.hidden_size) == (48, 80)
        assert report["parameters"] == sum(p.numel() for p in model.parameters())
        assert (model.lm_head.weight is model.model.embed_tokens.weight) is tied
        if kind == "gemma":
            kinds = reference.load(source).config.layer_types
            assert config.layer_types == (kinds * 2)[: sizes["layers"]]


def test_heads_that_do_not_go_together_are_refused(deep: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="as many stay in every group") as caught:
        start(deep, tmp_path / "start", heads=3, channels=60)
    assert caught.value.remedy == "Take 2, or another multiple of 2."
    assert not (tmp_path / "start" / "model.safetensors").exists()
