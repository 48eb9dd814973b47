"""What the parts of a model do on calibration texts, all measured in one pass of the whole model.

A layer's block influence is 1 - cos(input, output) (ShortGPT, Men et al. 2024). Heads, neurons and channels count by
the size of their activations (Minitron, Muralidharan et al. 2024), heads and neurons behind the matrix that brings
them out of their layer, so that what is not passed on does not count. All are means over tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from aasut.engine.torch import hidden_states

NORMS = ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")


@dataclass
class Importance:
    """Of `layers` layers. Widths are empty where they were not asked for."""

    influence: list[float]
    runs: list[float]  # of each contiguous run of so many layers, by its first
    heads: list[torch.Tensor] = field(default_factory=list)  # [heads] of each layer: norm of what a head adds
    neurons: list[torch.Tensor] = field(default_factory=list)  # [neurons] of each layer: norm of what a neuron adds
    channels: torch.Tensor = field(default_factory=lambda: torch.zeros(0))  # [d]: |output of a norm|, all norms' sum
    energy: dict[str, torch.Tensor] = field(default_factory=dict)  # [d] by norm: share of the input's square, times d


def measure(model: Any, rows: Sequence[Sequence[int]], *, run: int = 1, width: bool = False) -> Importance:
    """Importance by these rows of token ids; `run` is how many neighbouring layers may go together."""
    means = _Means()
    layers = model.model.layers
    with (
        torch.inference_mode(),
        _hooked(_depth_hooks(layers, run, means)),
        _hooked(_width_hooks(model, means) if width else []),
    ):
        for row in filter(len, rows):
            ids = torch.tensor([list(row)], device=model.device)
            hidden_states(model, ids, torch.arange(ids.shape[1], device=ids.device)[None], None, None)
            means.tokens += len(row)
    found = Importance(
        [float(means.of(f"layer.{number}")) for number in range(len(layers))],
        [float(means.of(f"run.{first}")) for first in range(len(layers) - run + 1)],
    )
    if width:
        found.heads = [means.of(f"heads.{number}") for number in range(len(layers))]
        found.neurons = [means.of(f"neurons.{number}") for number in range(len(layers))]
        found.channels = sum((means.of(f"channels.{name}") for name in _readers(model)), torch.zeros(()))
        found.energy = {name: means.of(f"energy.{name}") for name in norms(model)}
    return found


def norms(model: Any) -> dict[str, Any]:
    """The norms over hidden channels, by their names in the model."""
    found = {
        f"model.layers.{number}.{name}": getattr(layer, name)
        for number, layer in enumerate(model.model.layers)
        for name in NORMS
        if hasattr(layer, name)
    }
    return found | {"model.norm": model.model.norm}


def _readers(model: Any) -> list[str]:
    """Of the norms, those that read what runs through all layers; Gemma has others behind attention and MLP."""
    gemma = hasattr(model.model.layers[0], "pre_feedforward_layernorm")
    behind = ("post_attention_layernorm", "post_feedforward_layernorm") if gemma else ()
    return [name for name in norms(model) if not name.endswith(behind or ("no such",))]


class _Means:
    """Sums over tokens, by name."""

    def __init__(self) -> None:
        self.tokens = 0
        self.sums: dict[str, torch.Tensor] = {}

    def add(self, name: str, values: torch.Tensor) -> None:
        """Values [..., tokens, n], or [..., tokens]: summed over all but the last dimension, or all."""
        self.sums[name] = self.sums.get(name, torch.zeros((), dtype=torch.float64)) + values.double().cpu()

    def of(self, name: str) -> torch.Tensor:
        return self.sums.get(name, torch.zeros((), dtype=torch.float64)) / max(self.tokens, 1)


Hook = tuple[Callable[..., Any], Callable[..., None]]  # how it is put to a module, and what it does


@contextmanager
def _hooked(hooks: Sequence[Hook]) -> Iterator[None]:
    handles = [put(does) for put, does in hooks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _changed(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    return (1 - torch.cosine_similarity(before.float(), after.float(), dim=-1)).sum()


def _depth_hooks(layers: Any, run: int, means: _Means) -> list[Hook]:
    inputs: dict[int, torch.Tensor] = {}

    def note(number: int) -> Callable[..., None]:
        def hook(_module: Any, given: Any, output: Any) -> None:
            after = output[0] if isinstance(output, tuple) else output
            inputs[number] = given[0]
            means.add(f"layer.{number}", _changed(given[0], after))
            if (first := number - run + 1) >= 0:
                means.add(f"run.{first}", _changed(inputs.pop(first), after))

        return hook

    return [(layer.register_forward_hook, note(number)) for number, layer in enumerate(layers)]


def _width_hooks(model: Any, means: _Means) -> list[Hook]:
    size = model.model.layers[0].self_attn.head_dim

    def heads(name: str, out: torch.Tensor) -> Callable[..., None]:
        columns = out.detach().float().reshape(len(out), -1, size)  # [d, heads, size]
        products = torch.einsum("dhi,dhj->hij", columns, columns)

        def hook(_module: Any, given: Any) -> None:
            parted = given[0].float().flatten(0, -2).unflatten(-1, (-1, size))  # [tokens, heads, size]
            square = torch.einsum("thi,hij,thj->th", parted, products, parted)
            means.add(name, square.clamp_min(0).sqrt().sum(0))

        return hook

    def neurons(name: str, out: torch.Tensor) -> Callable[..., None]:
        lengths = out.detach().float().norm(dim=0)  # [neurons]

        def hook(_module: Any, given: Any) -> None:
            means.add(name, given[0].float().abs().flatten(0, -2).sum(0) * lengths)

        return hook

    def norm(name: str) -> Callable[..., None]:
        def hook(_module: Any, given: Any, output: Any) -> None:
            square = given[0].float().square()
            means.add(f"energy.{name}", (square / square.mean(-1, keepdim=True).clamp_min(1e-30)).flatten(0, -2).sum(0))
            means.add(f"channels.{name}", output.float().abs().flatten(0, -2).sum(0))

        return hook

    hooks: list[Hook] = []
    for number, layer in enumerate(model.model.layers):
        out, down = layer.self_attn.o_proj, layer.mlp.down_proj
        hooks.append((out.register_forward_pre_hook, heads(f"heads.{number}", out.weight)))
        hooks.append((down.register_forward_pre_hook, neurons(f"neurons.{number}", down.weight)))
    hooks += [(module.register_forward_hook, norm(name)) for name, module in norms(model).items()]
    return hooks
