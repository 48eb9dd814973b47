"""From a dense model to a Mixture of Experts: each feed-forward network becomes several, behind a random router.

A copy of the network in every expert leaves what the model says as it is (sparse upcycling, Komatsuzaki et al. 2023):
a token's experts say the same, and their weights sum to 1. Drop-Upcycling (Nakamura et al. 2025) draws a share of
each expert's neurons anew, by the mean and the deviation of those that they replace, so that experts differ at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from aasut.errors import RecipeError
from aasut.formats import safetensors
from aasut.formats.experts import MIXTRAL, QWEN2_MOE, Layout
from aasut.formats.tokenizer import read_json
from aasut.recipe.experts import Experts
from aasut.store import write_atomically

KNOWN = ("LlamaForCausalLM", "MistralForCausalLM")
ROUTER = 0.02  # deviation of a router's random weights; transformers' for Mixtral
DENSE = ("gate_proj", "up_proj", "down_proj")


def upcycle(folder: Path, wanted: Experts, seed: int) -> dict[str, Any]:
    """Make the model in `folder` a Mixture of Experts, in place; gives its numbers of weights.

    Raises RecipeError for a model without a layout of experts here.
    """
    config = read_json(folder / "config.json")
    layers = check(config, folder)
    layout = QWEN2_MOE if wanted.shared else MIXTRAL
    before = safetensors.parameters(folder)
    with_experts = experts_of(safetensors.load(folder), layers, layout, wanted, seed)
    for file in safetensors.files(folder):
        file.unlink()
    (folder / "model.safetensors.index.json").unlink(missing_ok=True)
    safetensors.save(with_experts, folder / "model.safetensors")
    write_atomically(folder / "config.json", json.dumps(config_of(config, layout, wanted), indent=2) + "\n")
    after = safetensors.parameters(folder)
    network = 3 * int(config["hidden_size"]) * int(config["intermediate_size"])
    idle = layers * (wanted.count - wanted.active) * network
    return {"experts": wanted.count, "parameters": [before, after], "active_parameters": after - idle}


def check(config: Mapping[str, Any], folder: Path, asking: str = "student.experts") -> int:
    """Number of layers. Raises RecipeError, in the name of what is `asking`, for a model without a layout here."""
    name = (config.get("architectures") or ["none"])[0]
    odd = [key for key in ("mlp_bias", "attention_bias") if config.get(key)]
    if name not in KNOWN or odd or config.get("hidden_act", "silu") != "silu":
        raise RecipeError(
            f"{asking}: there is no layout of experts for a {' with '.join([name, *odd])} ({folder}).",
            f"Take a model such as {' or '.join(KNOWN)}, without biases.",
        )
    return int(config["num_hidden_layers"])


def config_of(config: Mapping[str, Any], layout: Layout, wanted: Experts) -> dict[str, Any]:
    """A dense model's config.json with experts of its network's size."""
    size, heads = int(config["intermediate_size"]), int(config["num_attention_heads"])
    dropped = ("mlp_bias", "attention_bias", "pretraining_tp")
    kept = {key: value for key, value in config.items() if key not in dropped}
    kept |= {
        "architectures": [layout.architecture], "model_type": layout.model_type,
        "num_experts_per_tok": wanted.active, "output_router_logits": False,
        "head_dim": config.get("head_dim") or int(config["hidden_size"]) // heads,
        "num_key_value_heads": config.get("num_key_value_heads") or heads,
        "sliding_window": config.get("sliding_window"),
    }  # fmt: skip
    if layout is MIXTRAL:
        return kept | {"num_local_experts": wanted.count}
    return kept | {
        "num_experts": wanted.count, "moe_intermediate_size": size, "shared_expert_intermediate_size": size,
        "norm_topk_prob": False, "qkv_bias": True, "decoder_sparse_step": 1, "mlp_only_layers": [],
        "use_sliding_window": bool(config.get("sliding_window")),
    }  # fmt: skip


def experts_of(
    tensors: Mapping[str, torch.Tensor], layers: int, layout: Layout, wanted: Experts, seed: int
) -> dict[str, torch.Tensor]:
    """The tensors of the Mixture of Experts, by the names of its layout.

    With a shared expert, it gives half of what the network gave, and the routed ones the other half: its gate starts at
    sigmoid(0), and the routed experts' weights, which then are not brought to a sum of 1, at about active / count.
    """
    found = {name: tensor for name, tensor in tensors.items() if not name.rpartition(".weight")[0].endswith(DENSE)}
    draw = torch.Generator().manual_seed(seed)
    for layer in range(layers):
        network = [tensors[f"model.layers.{layer}.mlp.{part}.weight"] for part in DENSE]
        width, size = network[0].shape[1], network[0].shape[0]
        found[layout.router(layer)] = torch.randn(wanted.count, width, generator=draw) * ROUTER
        for expert in range(wanted.count):
            parts = [part.clone() for part in network]
            if wanted.start == "drop":
                _redraw(parts, torch.randperm(size, generator=draw)[: round(wanted.redrawn * size)], draw)
            if wanted.shared:
                parts[2] = parts[2] * (wanted.count / wanted.active / 2)
            found |= dict(zip(layout.expert(layer, expert), parts, strict=True))
        if wanted.shared:
            before = f"model.layers.{layer}.{layout.block}.shared_expert"
            found |= {f"{before}.{part}.weight": whole.clone() for part, whole in zip(DENSE, network, strict=True)}
            found[f"{before}_gate.weight"] = torch.zeros(1, width)
            for part in ("q_proj", "k_proj", "v_proj"):  # vLLM takes for granted that this layout has them
                name = f"model.layers.{layer}.self_attn.{part}"
                found[f"{name}.bias"] = torch.zeros(tensors[f"{name}.weight"].shape[0])
    return found


def _redraw(parts: list[torch.Tensor], neurons: torch.Tensor, draw: torch.Generator) -> None:
    """Draw these neurons of a network (gate [f, d], up [f, d], down [d, f]) anew, in place."""
    for part, dimension in zip(parts, (0, 0, 1), strict=True):
        given = part.index_select(dimension, neurons).float()
        drawn = torch.randn(given.shape, generator=draw) * given.std() + given.mean()
        part.index_copy_(dimension, neurons, drawn.to(part.dtype))
