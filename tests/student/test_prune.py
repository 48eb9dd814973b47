from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import deep_llama
import pytest
import torch
import transformers
from deep_llama import LEAST_FIRST, MODELS, PROMPTS, logits, pruning

import reference
from aasut.errors import RecipeError
from aasut.formats import safetensors
from aasut.student import prune

Change = Callable[[Any], None]


def changed(folder: Path, change: Change) -> Path:
    """The model of a folder with other weights."""
    model = reference.load(folder)
    with torch.no_grad():
        change(model)
    safetensors.save(dict(model.state_dict()), folder / "model.safetensors")
    return folder


def cut(source: Path, out: Path, **shape: Any) -> tuple[dict[str, Any], Any]:
    """(the report, the start, loaded) of a pruning."""
    report = prune.pruned(pruning(**shape), source, PROMPTS, out)
    start = reference.load(out)
    assert report["parameters"] == sum(p.numel() for p in start.parameters())
    assert report["parameters_before"] == sum(p.numel() for p in reference.load(source).parameters())
    tied = start.config.tie_word_embeddings
    assert set(safetensors.load(out)) == {n for n in start.state_dict() if not (tied and n == "lm_head.weight")}
    return report, start


@pytest.mark.parametrize("layers", [5, 4, 3])
def test_the_least_influential_layers_go_and_the_others_stay_whole(deep: Path, tmp_path: Path, layers: int) -> None:
    report, start = cut(deep, tmp_path / "start", layers=layers)
    assert report["removed"] == {"layers": sorted(LEAST_FIRST[: 6 - layers]), "heads": {}, "neurons": {}, "channels": 0}
    by_hand = reference.load(deep)
    kept = [layer for number, layer in enumerate(by_hand.model.layers) if number not in report["removed"]["layers"]]
    by_hand.model.layers = torch.nn.ModuleList(kept)
    by_hand.config.num_hidden_layers = layers
    assert start.config.num_hidden_layers == layers
    assert torch.equal(logits(start), logits(by_hand))


def test_a_layer_that_changes_nothing_goes_first_and_is_not_missed(deep: Path, tmp_path: Path) -> None:
    def silence(model: Any) -> None:
        model.model.layers[4].self_attn.o_proj.weight.zero_()
        model.model.layers[4].mlp.down_proj.weight.zero_()

    source = changed(deep_llama_copy(deep, tmp_path), silence)
    report, start = cut(source, tmp_path / "start", layers=5)
    assert report["removed"]["layers"] == [4]
    assert report["block_influence"][4] == pytest.approx(0, abs=1e-6)
    assert torch.equal(logits(start), logits(reference.load(source)))
    assert report["loss_before_training"] == report["loss_of_source"]


def deep_llama_copy(deep: Path, folder: Path) -> Path:
    from aasut.student.initialize import copy_model

    copy_model(deep, folder / "source")
    return folder / "source"


def test_a_block_goes_as_one(deep: Path, tmp_path: Path) -> None:
    """Layers 2 and 4 are loud, and what 4 adds takes back what 2 added: together they are silent, and 3 is quiet."""

    def undo(model: Any) -> None:
        layers = model.model.layers
        layers[2].self_attn.o_proj.weight.zero_()
        layers[4].self_attn.o_proj.weight.zero_()
        layers[3].self_attn.o_proj.weight.zero_()
        for number in (2, 3, 4):
            layers[number].mlp.down_proj.weight.zero_()
        for number in (0, 1, 5):
            layers[number].mlp.down_proj.weight.mul_(20)
            layers[number].self_attn.o_proj.weight.mul_(20)

    source = changed(deep_llama_copy(deep, tmp_path), undo)
    report, start = cut(source, tmp_path / "start", layers=3, choose="block")
    assert report["removed"]["layers"] == [2, 3, 4]
    assert torch.equal(logits(start), logits(reference.load(source)))


def test_a_block_is_contiguous_where_single_layers_are_not(deep: Path, tmp_path: Path) -> None:
    single, _ = cut(deep, tmp_path / "single", layers=4)
    block, _ = cut(deep, tmp_path / "block", layers=4, choose="block")
    assert single["removed"]["layers"] == [1, 3]
    first, second = block["removed"]["layers"]
    assert second == first + 1


def test_heads_that_pass_nothing_on_go_first_and_are_not_missed(tiny_llama: Path, tmp_path: Path) -> None:
    """One of each group of two, another one in every layer."""
    gone = {layer: [layer % 2, 2 + (layer // 2) % 2] for layer in range(6)}

    def silence(model: Any) -> None:
        for layer, heads in gone.items():
            for head in heads:
                model.model.layers[layer].self_attn.o_proj.weight[:, head * 16 : head * 16 + 16] = 0

    for kind, make in MODELS.items():
        source = changed(make(tmp_path / kind, tiny_llama), silence)
        report, start = cut(source, tmp_path / f"{kind} start", heads=2)
        assert report["removed"]["heads"] == {str(layer): heads for layer, heads in gone.items()}
        assert (start.config.num_attention_heads, start.config.num_key_value_heads) == (2, 2)
        assert start.config.head_dim == 16
        assert torch.allclose(logits(start), logits(reference.load(source)), atol=1e-4)
        assert report["loss_before_training"] == pytest.approx(report["loss_of_source"], abs=1e-4)


def test_whole_groups_go_with_their_keys_and_values(tiny_llama: Path, tmp_path: Path) -> None:
    source = deep_llama.llama(tmp_path / "wide", tiny_llama, num_attention_heads=8, num_key_value_heads=4, head_dim=8)

    def silence(model: Any) -> None:
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[:, [*range(16), *range(32, 64)]] = 0  # all but the second group of two

    changed(source, silence)
    report, start = cut(source, tmp_path / "start", heads=2)
    assert report["removed"]["heads"] == {str(layer): [0, 1, 4, 5, 6, 7] for layer in range(6)}
    assert (start.config.num_attention_heads, start.config.num_key_value_heads) == (2, 1)
    assert torch.allclose(logits(start), logits(reference.load(source)), atol=1e-4)


def test_neurons_that_pass_nothing_on_go_first_and_are_not_missed(tiny_llama: Path, tmp_path: Path) -> None:
    gone = {layer: list(range(layer, 96, 3)) for layer in range(3)} | {layer: list(range(32)) for layer in (3, 4, 5)}

    def silence(model: Any) -> None:
        for layer, neurons in gone.items():
            model.model.layers[layer].mlp.down_proj.weight[:, neurons] = 0

    for kind, make in MODELS.items():
        source = changed(make(tmp_path / kind, tiny_llama), silence)
        report, start = cut(source, tmp_path / f"{kind} start", neurons=64)
        assert report["removed"]["neurons"] == {str(layer): 32 for layer in range(6)}
        assert torch.allclose(logits(start), logits(reference.load(source)), atol=1e-4)


def only_channels(kept: list[int]) -> Change:
    """Nothing comes into the other channels, nor is read of them."""

    def silence(model: Any) -> None:
        others = [channel for channel in range(64) if channel not in kept]
        model.model.embed_tokens.weight[:, others] = 0
        for layer in model.model.layers:
            for matrix in (layer.self_attn.o_proj, layer.mlp.down_proj):
                matrix.weight[others] = 0

    return silence


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", MODELS)
def test_channels_that_are_zero_go_first_and_are_not_missed(
    tiny_llama: Path, tmp_path: Path, kind: str, tied: bool
) -> None:
    """Of 64, 16 stay: a norm's mean square is then four times as large, and its weights twice, which is exact."""
    kept = [1, 2, 3, 5, 8, 13, 21, 34, 35, 36, 37, 50, 55, 60, 61, 63]
    source = changed(MODELS[kind](tmp_path / kind, tiny_llama, tie_word_embeddings=tied), only_channels(kept))
    report, start = cut(source, tmp_path / "start", channels=16)
    assert report["removed"]["channels"] == 48
    assert start.config.hidden_size == 16
    expected = logits(reference.load(source))
    assert torch.allclose(logits(start), expected, atol=0.02 * float(expected.abs().max()), rtol=0.02)
    assert (start.lm_head.weight.data_ptr() == start.model.embed_tokens.weight.data_ptr()) is tied
    whole = safetensors.load(source)["model.embed_tokens.weight"][:, kept].float()
    ratio = 2.0 if kind == "gemma" else 1.0  # embeddings are multiplied by the root of the width there
    assert torch.equal(safetensors.load(tmp_path / "start")["model.embed_tokens.weight"].float(), whole * ratio)


def test_all_sizes_go_together(deep: Path, tmp_path: Path) -> None:
    report, start = cut(deep, tmp_path / "start", layers=4, heads=2, neurons=40, channels=32)
    assert report["removed"]["layers"] == [1, 3]
    assert set(report["removed"]["heads"]) == set(report["removed"]["neurons"]) == {"0", "2", "4", "5"}
    shapes = {name: tuple(tensor.shape) for name, tensor in start.state_dict().items() if "layers.3." in name}
    assert shapes == {
        f"model.layers.3.{name}.weight": shape
        for name, shape in {
            "self_attn.q_proj": (32, 32), "self_attn.k_proj": (32, 32), "self_attn.v_proj": (32, 32),
            "self_attn.o_proj": (32, 32), "mlp.gate_proj": (40, 32), "mlp.up_proj": (40, 32), "mlp.down_proj": (32, 40),
            "input_layernorm": (32,), "post_attention_layernorm": (32,),
        }.items()
    }  # fmt: skip
    again, _ = cut(deep, tmp_path / "again", layers=4, heads=2, neurons=40, channels=32)
    assert again == report
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (
        tmp_path / "start" / "model.safetensors"
    ).read_bytes()


def test_layers_of_different_kinds_keep_their_kind(tiny_llama: Path, tmp_path: Path) -> None:
    """Gemma's every third layer sees all; its config may say so by a pattern, which dropping would shift."""
    source = deep_llama.gemma(tmp_path / "gemma", tiny_llama)
    kinds = reference.load(source).config.layer_types
    plain = json.loads((source / "config.json").read_text())
    del plain["layer_types"]
    (source / "config.json").write_text(json.dumps(plain | {"sliding_window_pattern": 3}))
    assert reference.load(source).config.layer_types == kinds
    report, start = cut(source, tmp_path / "start", layers=4)
    wanted = [kinds[layer] for layer in range(6) if layer not in report["removed"]["layers"]]
    assert wanted != kinds[:4]
    assert start.config.layer_types == wanted


def test_the_source_s_loss_and_the_start_s_are_told(deep: Path, tmp_path: Path) -> None:
    few, _ = cut(deep, tmp_path / "few", layers=5)
    many, _ = cut(deep, tmp_path / "many", layers=5, neurons=8, heads=2)
    assert few["loss_of_source"] == many["loss_of_source"]
    assert few["loss_before_training"] != many["loss_before_training"] != many["loss_of_source"]


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ({"layers": 6}, "student.shape.layers is 6, and the model has 6 layers"),
        ({"neurons": 97}, "student.shape.neurons is 97, and the model has 96"),
        ({"heads": 3}, "student.shape.heads is 3: the model has 4 heads in 2 key-value groups"),
        ({"channels": 30}, "30 channels are no multiple of 4 heads"),
    ],
)
def test_what_cannot_be_cut_is_refused(deep: Path, tmp_path: Path, shape: dict[str, int], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        prune.pruned(pruning(**shape), deep, PROMPTS, tmp_path / "start")
    assert not (tmp_path / "start").exists()


def test_nothing_to_measure_on_is_refused(deep: Path, tmp_path: Path) -> None:
    for texts in ([], [""]):
        with pytest.raises(RecipeError, match="no texts to choose by"):
            prune.pruned(pruning(neurons=8), deep, texts, tmp_path / "start")


def test_widths_of_an_unknown_model_are_refused_and_its_layers_are_not(tiny_llama: Path, tmp_path: Path) -> None:
    sizes = deep_llama.SIZES | {"vocab_size": 300, "pad_token_id": 1}
    source = deep_llama.random_model(tmp_path / "olmo", tiny_llama, transformers.Olmo2Config(**sizes))
    with pytest.raises(RecipeError, match="heads, neurons and channels of a Olmo2ForCausalLM are not known"):
        prune.pruned(pruning(neurons=8), source, PROMPTS, tmp_path / "start")
    report, _ = cut(source, tmp_path / "start", layers=4)
    assert len(report["removed"]["layers"]) == 2


def test_an_unknown_tensor_is_refused(deep: Path) -> None:
    from aasut.student.sizes import Sizes

    whole = Sizes.of(reference.load(deep).config)
    stay = prune.Stay([0], {0: [0]}, {0: [0]}, {0: [0]}, [0])
    energy = {"model.norm": torch.ones(64)}
    with pytest.raises(RecipeError, match=r"model\.layers\.0\.mlp\.gate_up_proj\.weight is not known"):
        prune.cut(
            {"model.layers.0.mlp.gate_up_proj.weight": torch.ones(2, 64)}, reference.load(deep).config, whole, stay,
            energy,
        )  # fmt: skip
