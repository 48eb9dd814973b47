"""Names of experts' weights: in files each expert has matrices of its own, in memory a layer's are stacked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Layout:
    """Where an architecture keeps a layer's router and experts: below `block`, an expert's gate, up and down."""

    architecture: str
    model_type: str
    block: str
    gate: str
    up: str
    down: str

    def router(self, layer: int) -> str:
        return f"model.layers.{layer}.{self.block}.gate.weight"

    def expert(self, layer: int, expert: int) -> tuple[str, str, str]:
        """Names of (gate [f, d], up [f, d], down [d, f])."""
        before = f"model.layers.{layer}.{self.block}.experts.{expert}"
        return f"{before}.{self.gate}.weight", f"{before}.{self.up}.weight", f"{before}.{self.down}.weight"

    def stack(self, layer: int, role: str) -> str:
        """Name of a layer's matrices of a role, all experts' in one tensor."""
        return f"model.layers.{layer}.{self.block}.experts.{role}.weight"


MIXTRAL = Layout("MixtralForCausalLM", "mixtral", "block_sparse_moe", "w1", "w3", "w2")
QWEN2_MOE = Layout("Qwen2MoeForCausalLM", "qwen2_moe", "mlp", "gate_proj", "up_proj", "down_proj")
ROLES = ("gate_proj", "up_proj", "down_proj")  # what an expert's matrices are, in the order of `Layout.expert`
LAYOUTS = {layout.architecture: layout for layout in (MIXTRAL, QWEN2_MOE)}


def of(architecture: str) -> Layout | None:
    """The layout of a model class; None where it has no experts, or they are not known here."""
    return LAYOUTS.get(architecture)


def stacked(tensors: Mapping[str, torch.Tensor], layout: Layout | None) -> dict[str, torch.Tensor]:
    """A file's tensors with each layer's experts in one tensor a role, [E, m, n], as GGUF has them.

    They are `model.layers.<layer>.<block>.experts.<role>.weight`, of ROLES.
    """
    if layout is None:
        return dict(tensors)
    found = {name: tensor for name, tensor in tensors.items() if f".{layout.block}.experts." not in name}
    for layer in range(sum(name.endswith(f".{layout.block}.gate.weight") for name in tensors)):
        names: list[tuple[str, str, str]] = []
        while (each := layout.expert(layer, len(names)))[0] in tensors:
            names.append(each)
        for role, same in zip(ROLES, zip(*names, strict=True), strict=True):
            found[layout.stack(layer, role)] = torch.stack([tensors[name] for name in same])
    return found


def parted(tensors: Mapping[str, torch.Tensor], layout: Layout | None) -> dict[str, torch.Tensor]:
    """The inverse of `stacked`."""
    if layout is None:
        return dict(tensors)
    found = dict(tensors)
    for layer in range(sum(name.endswith(f".{layout.block}.gate.weight") for name in tensors)):
        whole = [found.pop(layout.stack(layer, role)) for role in ROLES]
        for expert, matrices in enumerate(zip(*whole, strict=True)):
            found |= dict(zip(layout.expert(layer, expert), matrices, strict=True))
    return found


def unstacked(tensors: Mapping[str, torch.Tensor], architecture: str) -> dict[str, torch.Tensor]:
    """A model's tensors by the names of files, from those that transformers' class has in memory."""
    layout = of(architecture)
    if layout is None:
        return dict(tensors)
    found: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        before, _, part = name.partition(".mlp.experts.")
        layer = int(before.rpartition(".")[2]) if part else 0
        if part == "gate_up_proj":
            for expert, both in enumerate(tensor):
                gate, up, _ = layout.expert(layer, expert)
                found[gate], found[up] = both.chunk(2)
        elif part == "down_proj":
            found |= {layout.expert(layer, expert)[2]: each for expert, each in enumerate(tensor)}
        else:
            found[name.replace(".mlp.", f".{layout.block}.")] = tensor
    return found
