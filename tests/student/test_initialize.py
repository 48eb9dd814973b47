from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
import transformers

import reference
from aasut.engine.common import begin
from aasut.engine.torch import load_model
from aasut.errors import RecipeError
from aasut.formats import safetensors
from aasut.formats.tokenizer import Tokenizer
from aasut.recipe import ModelAddress, Student
from aasut.store import file_hash
from aasut.student import initialize

PROMPTS = ["Review: the battery is great\nSentiment:", "a", "Review: नमस्ते दुनिया, it broke after two days\nSentiment:"]
LOUDNESS = (0.8, 0.02, 0.5, 0.01, 0.9, 0.1)  # how much each layer adds to its input
LEAST_FIRST = (3, 1, 5)  # layers by that


def settings(**changes: Any) -> Student:
    return Student(**({"model": ModelAddress(address="file:model"), "precision": "float32"} | changes))


def dropping(layers: int) -> Student:
    return settings(initialise="pruned", shape={"layers": layers})


def random_model(folder: Path, tokenizer: Path, config: Any, shard: str = "5GB") -> Path:
    """Layers that change their input as LOUDNESS says, with the tokenizer of another model."""
    torch.manual_seed(3)
    model = transformers.AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    with torch.no_grad():
        for layer, loudness in zip(model.model.layers, LOUDNESS, strict=True):
            layer.self_attn.o_proj.weight.mul_(loudness)
            layer.mlp.down_proj.weight.mul_(loudness)
            if hasattr(layer, "post_feedforward_layernorm"):  # Gemma scales what it adds again, by 1 + weight
                layer.post_attention_layernorm.weight.fill_(loudness - 1)
                layer.post_feedforward_layernorm.weight.fill_(loudness - 1)
    model.to(torch.bfloat16).save_pretrained(folder, max_shard_size=shard)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer / name, folder)
    return folder


def llama_config(vocabulary: int) -> Any:
    return transformers.LlamaConfig(
        vocab_size=vocabulary, hidden_size=64, intermediate_size=96, num_hidden_layers=6, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip


@pytest.fixture(scope="session")
def deep(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of six layers, with what else lies in a model's folder."""
    folder = random_model(tmp_path_factory.mktemp("deep"), tiny_llama, llama_config(Tokenizer.load(tiny_llama).size))
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    (folder / "source.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    return folder


def influence_by_hand(folder: Path, prompts: list[str]) -> list[float]:
    """Mean over all tokens of 1 - cos(input, output), from transformers' own hidden states."""
    model, tokenizer = reference.load(folder), Tokenizer.load(folder)
    before_norm: list[torch.Tensor] = []  # transformers gives the last layer's output after the final norm only
    model.model.norm.register_forward_pre_hook(lambda _module, given: before_norm.append(given[0]))
    totals, tokens = torch.zeros(len(model.model.layers)), 0
    with torch.inference_mode():
        for prompt in prompts:
            ids = torch.tensor([begin(tokenizer, prompt)])
            states = [*model(ids, output_hidden_states=True).hidden_states[:-1], before_norm.pop()]
            pairs = pairwise(states)
            totals += torch.stack([(1 - torch.cosine_similarity(a, b, dim=-1)).sum() for a, b in pairs])
            tokens += ids.shape[1]
    return [float(value) / tokens for value in totals]


def test_block_influence_equals_a_computation_by_hand(deep: Path) -> None:
    expected = influence_by_hand(deep, PROMPTS)
    found = initialize.block_influence(load_model(deep, torch.float32), Tokenizer.load(deep), PROMPTS)
    assert found == pytest.approx(expected, rel=1e-4)
    assert sorted(range(6), key=lambda layer: expected[layer])[:3] == list(LEAST_FIRST)


def test_block_influence_leaves_no_hooks(deep: Path) -> None:
    model = load_model(deep, torch.float32)
    initialize.block_influence(model, Tokenizer.load(deep), PROMPTS)
    assert not any(layer._forward_hooks for layer in model.model.layers)


def test_the_begin_token_counts_where_the_model_wants_it(deep: Path, tmp_path: Path) -> None:
    folder = tmp_path / "begin"
    shutil.copytree(deep, folder)
    inner = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    inner.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", 0)]
    )
    inner.save(str(folder / "tokenizer.json"))
    found = initialize.block_influence(load_model(folder, torch.float32), Tokenizer.load(folder), PROMPTS)
    assert found == pytest.approx(influence_by_hand(folder, PROMPTS), rel=1e-4)
    assert found != pytest.approx(influence_by_hand(deep, PROMPTS), rel=1e-2)


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        result: torch.Tensor = model(torch.tensor([list(range(5, 45))]), use_cache=False).logits
    return result


@pytest.mark.parametrize("layers", [5, 4, 3])
def test_the_least_influential_layers_are_dropped_and_the_others_kept_whole(
    deep: Path, tmp_path: Path, layers: int
) -> None:
    report = initialize.pruned(dropping(layers), deep, PROMPTS, tmp_path / "start")
    assert report["dropped"] == sorted(LEAST_FIRST[: 6 - layers])
    assert report["block_influence"] == pytest.approx(influence_by_hand(deep, PROMPTS), abs=1e-4)
    by_hand = reference.load(deep)
    kept = [layer for number, layer in enumerate(by_hand.model.layers) if number not in report["dropped"]]
    by_hand.model.layers = torch.nn.ModuleList(kept)
    by_hand.config.num_hidden_layers = layers
    start = reference.load(tmp_path / "start")
    assert start.config.num_hidden_layers == layers
    assert torch.equal(logits(start), logits(by_hand))
    assert report["parameters"] == sum(p.numel() for p in start.parameters())
    assert set(safetensors.load(tmp_path / "start")) == {n for n in start.state_dict() if n != "lm_head.weight"}


def test_layers_of_different_kinds_keep_their_kind(tiny_llama: Path, tmp_path: Path) -> None:
    """Gemma's every third layer sees all; its config may say so by a pattern, which dropping would shift."""
    config = transformers.Gemma3TextConfig(
        vocab_size=Tokenizer.load(tiny_llama).size, hidden_size=64, intermediate_size=96, num_hidden_layers=6,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, max_position_embeddings=512, sliding_window=8,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"] * 2,
        bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    source = random_model(tmp_path / "gemma", tiny_llama, config)
    plain = json.loads((source / "config.json").read_text())
    del plain["layer_types"]
    (source / "config.json").write_text(json.dumps(plain | {"sliding_window_pattern": 3}))
    assert reference.load(source).config.layer_types == config.layer_types
    report = initialize.pruned(dropping(4), source, PROMPTS, tmp_path / "start")
    kept = [layer for layer in range(6) if layer not in report["dropped"]]
    wanted = [config.layer_types[layer] for layer in kept]
    assert wanted != config.layer_types[:4]
    assert reference.load(tmp_path / "start").config.layer_types == wanted


@pytest.mark.parametrize("layers", [6, 7])
def test_more_layers_than_there_are_is_refused(deep: Path, tmp_path: Path, layers: int) -> None:
    with pytest.raises(RecipeError, match=f"student.layers is {layers}, and the model has 6"):
        initialize.pruned(dropping(layers), deep, PROMPTS, tmp_path / "start")
    assert not (tmp_path / "start").exists()


def test_pretrained_is_the_model_bit_by_bit(deep: Path, tmp_path: Path) -> None:
    report = initialize.pretrained(settings(), deep, PROMPTS, tmp_path / "start")
    names = {path.name for path in (tmp_path / "start").iterdir()}
    assert names == {path.name for path in deep.iterdir()} - {"source.json", "pytorch_model.bin"}
    assert all(file_hash(tmp_path / "start" / name) == file_hash(deep / name) for name in names)
    assert report["parameters"] == sum(p.numel() for p in reference.load(deep).parameters())


def test_a_model_in_several_files_is_read_and_written_whole(tiny_llama: Path, deep: Path, tmp_path: Path) -> None:
    size = Tokenizer.load(tiny_llama).size
    source = random_model(tmp_path / "sharded", tiny_llama, llama_config(size), shard="100KB")
    assert len(safetensors.files(source)) > 2
    initialize.pretrained(settings(), source, PROMPTS, tmp_path / "same")
    assert torch.equal(logits(reference.load(tmp_path / "same")), logits(reference.load(deep)))
    initialize.pruned(dropping(4), source, PROMPTS, tmp_path / "fewer")
    initialize.pruned(dropping(4), deep, PROMPTS, tmp_path / "expected")
    found, expected = safetensors.load(tmp_path / "fewer"), safetensors.load(tmp_path / "expected")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)


def test_initialisations_have_names() -> None:
    assert initialize.get("pruned") is initialize.pruned
    with pytest.raises(RecipeError, match=r"'teleport'.*pretrained, pruned, linear"):
        initialize.get("teleport")
