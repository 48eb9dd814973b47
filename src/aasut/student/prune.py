"""Initialisation `pruned`: of a pretrained model, the layers, heads, neurons and channels that do most.

Key-value groups stay whole: either as many query heads go from every group, or groups go with their keys and values.
A norm over fewer channels divides by another mean square; its weights make up for that in the mean over tokens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from aasut.engine.torch import choose_precision, load_model
from aasut.errors import RecipeError
from aasut.formats import safetensors
from aasut.formats.tokenizer import Tokenizer
from aasut.recipe import Student
from aasut.store import write_atomically
from aasut.student import calibration, importance
from aasut.student.calibration import Calibration
from aasut.student.importance import NORMS, Importance
from aasut.student.initialize import begun, copy_model
from aasut.student.sizes import KNOWN, Sizes, resolve

_CUTS: dict[str, tuple[str, str]] = {  # what a matrix's rows and columns are
    "q_proj": ("queries", "channels"), "k_proj": ("keys", "channels"), "v_proj": ("keys", "channels"),
    "o_proj": ("channels", "queries"), "gate_proj": ("neurons", "channels"), "up_proj": ("neurons", "channels"),
    "down_proj": ("channels", "neurons"), "embed_tokens": ("", "channels"), "lm_head": ("", "channels"),
    "q_norm": ("", ""), "k_norm": ("", ""), "norm": ("channels", ""), **dict.fromkeys(NORMS, ("channels", "")),
}  # fmt: skip


@dataclass(frozen=True)
class Stay:
    """What stays, by its number in the model; heads and neurons of each layer that stays."""

    layers: list[int]
    heads: dict[int, list[int]]
    kv_heads: dict[int, list[int]]
    neurons: dict[int, list[int]]
    channels: list[int]


def pruned(settings: Student, source: Path, prompts: Sequence[str], folder: Path, seed: int = 0) -> dict[str, Any]:
    """The model without what does least on `prompts`. Raises RecipeError where the shape cannot be cut out of it."""
    del seed  # nothing is drawn
    assert settings.shape is not None
    model = load_model(source, choose_precision(settings.precision))
    if torch.cuda.is_available():
        model = model.to("cuda")
    whole = Sizes.of(model.config)
    sizes = resolve(settings.shape, whole, fewer=True)
    if wide := settings.shape.wide:
        check_known(model)
    texts = Calibration.of(Tokenizer.load(source), prompts, int(model.config.max_position_embeddings))
    block = settings.shape.choose == "block"
    run = max(whole.layers - sizes.layers, 1) if block else 1
    if not any(texts.measured):
        raise RecipeError("There are no texts to choose by what stays of the student's model.", "Give the task inputs.")
    found = importance.measure(model, texts.measured, run=run, width=wide)
    stay = choose(found, whole, sizes, block=block)
    before = calibration.loss(model, texts.losses)
    copy_model(source, folder, weights=False)
    tensors = cut(safetensors.load(source), model.config, whole, stay, found.energy)
    safetensors.save(tensors, folder / "model.safetensors")
    kinds = getattr(model.config, "layer_types", None)  # the file may leave them to the layers' numbers
    plain = json.loads((source / "config.json").read_text(encoding="utf-8"))
    chosen = [kinds[layer] for layer in stay.layers] if kinds else None
    write_atomically(folder / "config.json", json.dumps(sizes.written(plain, chosen), indent=2) + "\n")
    return {
        "initialise": "pruned",
        "removed": removed(stay, whole),
        "block_influence": [round(value, 5) for value in found.influence],
        "parameters_before": safetensors.parameters(source),
        "loss_of_source": before,
    } | begun(settings, folder, texts)


def check_known(model: Any) -> None:
    """Raise RecipeError for a model whose heads, neurons and channels are not known."""
    name = type(model).__name__
    if name.removesuffix("ForCausalLM") not in KNOWN:
        raise RecipeError(
            f"student.shape: heads, neurons and channels of a {name} are not known here.",
            f"Give layers alone, or take a model such as {', '.join(KNOWN)}.",
        )


def choose(found: Importance, whole: Sizes, sizes: Sizes, *, block: bool) -> Stay:
    """What stays. Of equals, in depth the later one does, in width the earlier one."""
    gone = whole.layers - sizes.layers
    if block and gone:
        first = min(range(len(found.runs)), key=lambda layer: (found.runs[layer], layer))
        dropped = set(range(first, first + gone))
    else:
        dropped = set(sorted(range(whole.layers), key=lambda layer: (found.influence[layer], layer))[:gone])
    layers = [layer for layer in range(whole.layers) if layer not in dropped]
    heads, kv_heads, neurons = {}, {}, {}
    for layer in layers:
        heads[layer], kv_heads[layer] = _heads(found.heads[layer] if found.heads else None, whole, sizes)
        neurons[layer] = _largest(found.neurons[layer] if found.neurons else None, whole.neurons, sizes.neurons)
    channels = _largest(found.channels if found.neurons else None, whole.channels, sizes.channels)
    return Stay(layers, heads, kv_heads, neurons, channels)


def _largest(values: torch.Tensor | None, there: int, wanted: int) -> list[int]:
    if values is None or wanted == there:
        return list(range(there))
    given = values.tolist()
    return sorted(sorted(range(there), key=lambda i: (-given[i], i))[:wanted])


def _heads(values: torch.Tensor | None, whole: Sizes, sizes: Sizes) -> tuple[list[int], list[int]]:
    """(query heads, key-value heads) that stay in a layer."""
    if values is None or sizes.heads == whole.heads:
        return list(range(whole.heads)), list(range(whole.kv_heads))
    groups = values.reshape(whole.kv_heads, whole.group)
    kept = _largest(groups.sum(1), whole.kv_heads, sizes.kv_heads)
    each = [_largest(groups[group], whole.group, sizes.group) for group in kept]
    return [group * whole.group + head for group, some in zip(kept, each, strict=True) for head in some], kept


def cut(
    tensors: Mapping[str, torch.Tensor], config: Any, whole: Sizes, stay: Stay, energy: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The model's tensors with what stays of each. Raises RecipeError for one that is not known, where widths change.

    `energy` is of `importance.Importance`; without it, depth alone is cut.
    """
    channels = torch.tensor(stay.channels)
    gemma = str(config.model_type).startswith("gemma")
    found = {}
    for name, tensor in tensors.items():
        layer, new = _renamed(name, stay.layers)
        if new is None:
            continue
        if not energy:
            found[new] = tensor
            continue
        kept: dict[str, torch.Tensor | None] = {"": None, "channels": channels}
        if layer is not None:
            kept["queries"] = _spread(stay.heads[layer], whole.head_dim)
            kept["keys"] = _spread(stay.kv_heads[layer], whole.head_dim)
            kept["neurons"] = torch.tensor(stay.neurons[layer])
        *path, part, kind = name.split(".")
        if part not in _CUTS or kind not in ("weight", "bias"):
            raise RecipeError(f"student.shape: {name} is not known here.", "Give layers alone, or take another model.")
        for dimension, what in enumerate(_CUTS[part][: tensor.ndim]):
            if (index := kept[what]) is not None:
                tensor = tensor.index_select(dimension, index)
        where = ".".join([*path, part])
        if where in energy and len(channels) < whole.channels:
            tensor = _rescaled(tensor.float(), energy[where][channels], gemma=gemma)
        found[new] = tensor
    if gemma and len(channels) < whole.channels:
        _keep_embeddings_scale(found, whole.channels / len(channels))
    return found


def _spread(heads: Sequence[int], size: int) -> torch.Tensor:
    """Rows of these heads."""
    return (torch.tensor(heads)[:, None] * size + torch.arange(size)).flatten()


def _rescaled(weight: torch.Tensor, energy: torch.Tensor, *, gemma: bool) -> torch.Tensor:
    """A norm's weights times sqrt(mean square of the channels that stay / mean square of all)."""
    scale = energy.mean().sqrt().float()
    return (1 + weight) * scale - 1 if gemma else weight * scale


def _keep_embeddings_scale(tensors: dict[str, torch.Tensor], ratio: float) -> None:
    """Gemma multiplies embeddings by the root of their width: make up for it, and for the tied output in the norm."""
    tied = "lm_head.weight" not in tensors
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"].float() * ratio**0.5
    if tied:
        tensors["model.norm.weight"] = (1 + tensors["model.norm.weight"].float()) / ratio**0.5 - 1


def _renamed(name: str, stay: Sequence[int]) -> tuple[int | None, str | None]:
    """(the layer of a tensor, its name in the smaller model: None where its layer goes)."""
    prefix = "model.layers."
    if not name.startswith(prefix):
        return None, name
    layer, _, rest = name.removeprefix(prefix).partition(".")
    return int(layer), f"{prefix}{stay.index(int(layer))}.{rest}" if int(layer) in stay else None


def removed(stay: Stay, whole: Sizes) -> dict[str, Any]:
    """What went: layers by their number, heads and how many neurons of each layer that stays, and how many channels."""
    heads = {str(n): sorted(set(range(whole.heads)) - set(kept)) for n, kept in stay.heads.items()}
    neurons = {str(n): whole.neurons - len(kept) for n, kept in stay.neurons.items()}
    return {
        "layers": sorted(set(range(whole.layers)) - set(stay.layers)),
        "heads": {layer: gone for layer, gone in heads.items() if gone},
        "neurons": {layer: gone for layer, gone in neurons.items() if gone},
        "channels": whole.channels - len(stay.channels),
    }
