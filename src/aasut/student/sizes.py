"""The sizes that a student's layers are to have, checked against the model that it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aasut.errors import RecipeError
from aasut.recipe import Shape

KNOWN = ("Llama", "Mistral", "Qwen2", "Qwen3", "Gemma3")  # whose heads, neurons and channels are known, ForCausalLM
FIELDS = {
    "layers": "num_hidden_layers", "heads": "num_attention_heads", "neurons": "intermediate_size",
    "channels": "hidden_size",
}  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """Of a model of layers that are all alike."""

    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    neurons: int
    channels: int

    @staticmethod
    def of(config: Any) -> Sizes:
        """Those of transformers' configuration."""
        heads, channels = int(config.num_attention_heads), int(config.hidden_size)
        kv_heads = getattr(config, "num_key_value_heads", None) or heads
        size = getattr(config, "head_dim", None) or channels // heads
        neurons = int(getattr(config, "intermediate_size", 0))
        return Sizes(int(config.num_hidden_layers), heads, int(kv_heads), int(size), neurons, channels)

    @property
    def group(self) -> int:
        """Query heads to a key-value head."""
        return self.heads // self.kv_heads

    def written(self, plain: Mapping[str, Any], kinds: Sequence[str] | None) -> dict[str, Any]:
        """A config.json of these sizes; `kinds` are its layers'."""
        sizes = {name: getattr(self, ours) for ours, name in FIELDS.items()}
        sizes |= {"num_key_value_heads": self.kv_heads, "head_dim": self.head_dim}
        return {**plain, **sizes} | ({"layer_types": list(kinds)} if kinds else {})


def resolve(shape: Shape, whole: Sizes, *, fewer: bool) -> Sizes:
    """What a recipe asks for; `fewer`: of what there is. Raises RecipeError, naming what is possible."""
    given = {name: value for name in FIELDS if (value := getattr(shape, name)) is not None}
    for name, value in given.items():
        if fewer and value >= (there := getattr(whole, name)):
            raise RecipeError(
                f"student.shape.{name} is {value}, and the model has {there} {name}.", "Take fewer, or leave it out."
            )
    wanted = {name: given.get(name, getattr(whole, name)) for name in FIELDS}
    kv_heads = _kv_heads(wanted["heads"], whole, fewer=fewer)
    if wanted["channels"] % wanted["heads"]:
        below = wanted["channels"] // wanted["heads"] * wanted["heads"]
        near = [n for n in (below, below + wanted["heads"]) if n and not (fewer and n >= whole.channels)]
        raise RecipeError(
            f"student.shape: {wanted['channels']} channels are no multiple of {wanted['heads']} heads, "
            "which model classes want.",
            f"Take channels: {_or(near)}." if near else "Take fewer heads.",
        )
    return Sizes(**wanted, kv_heads=kv_heads, head_dim=whole.head_dim)


def head_counts(whole: Sizes) -> list[int]:
    """How many query heads may stay: as many in every key-value group, or whole groups."""
    return sorted({
        *range(whole.kv_heads, whole.heads + 1, whole.kv_heads), *range(whole.group, whole.heads + 1, whole.group),
    })  # fmt: skip


def _kv_heads(heads: int, whole: Sizes, *, fewer: bool) -> int:
    """The key-value heads beside so many query heads."""
    if heads % whole.kv_heads == 0:
        return whole.kv_heads
    if heads % whole.group == 0:
        return heads // whole.group
    possible = [count for count in head_counts(whole) if count < whole.heads]
    raise RecipeError(
        f"student.shape.heads is {heads}: the model has {whole.heads} heads in {whole.kv_heads} key-value groups, and "
        f"as many stay in every group, or whole groups of {whole.group} do.",
        f"Take {_or(possible) if possible else 'all of them: leave heads out'}"
        + (f", or another multiple of {whole.kv_heads}." if not fewer else "."),
    )


def _or(numbers: Sequence[int]) -> str:
    *most, last = map(str, numbers)
    return f"{', '.join(most)} or {last}" if most else last
