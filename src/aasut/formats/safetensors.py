"""Weights in safetensors files: rounded to bfloat16 once, and the same bytes for the same weights."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from aasut.errors import ModelError
from aasut.formats.tokenizer import read_json
from aasut.store import disk_errors

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
    torch.uint64: "U64", torch.uint32: "U32", torch.uint16: "U16",
}  # fmt: skip


def save(
    tensors: Mapping[str, torch.Tensor],
    path: Path,
    metadata: Mapping[str, str] | None = None,
    dtype: torch.dtype = torch.bfloat16,
) -> None:
    """Write `tensors` to `path`, floating-point ones rounded to `dtype`, to the nearest, ties to even.

    `lm_head.weight` is left out where it is the same memory as another tensor (tied weights), as
    transformers does. Bytes depend on names, values and metadata alone; the library's own writer
    puts metadata in random order. Raises ModelError for weights that are no finite numbers.
    """
    kept = _without_tied(tensors)
    # Wide types first, then by name: every tensor is aligned to its own element size.
    order = sorted(kept, key=lambda name: (-_target(kept[name], dtype).itemsize, name))
    header: dict[str, Any] = {"__metadata__": dict(sorted({"format": "pt", **(metadata or {})}.items()))}
    offset = 0
    for name in order:
        kind = _target(kept[name], dtype)
        size = kept[name].numel() * kind.itemsize
        header[name] = {"dtype": _NAMES[kind], "shape": list(kept[name].shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    partial = path.with_name(path.name + ".partial")
    with disk_errors(path):
        with partial.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for name in order:
                rounded = kept[name].detach().cpu().to(_target(kept[name], dtype))
                if rounded.is_floating_point() and not bool(torch.isfinite(rounded).all()):
                    raise ModelError(
                        f"The weight {name} holds numbers that are not finite.", "Train with a lower rate."
                    )
                if rounded.numel():
                    file.write(rounded.contiguous().reshape(-1).view(torch.uint8).numpy().data)
        partial.replace(path)


def load(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a file, or of a folder's safetensors files. Raises ModelError where they cannot be read."""
    tensors: dict[str, torch.Tensor] = {}
    for file in files(path):
        with _opened(file) as weights:
            tensors.update({name: weights.get_tensor(name) for name in weights.keys()})  # noqa: SIM118
    return tensors


def metadata(path: Path) -> dict[str, str]:
    """The metadata of a file, or of a folder's first file."""
    with _opened(files(path)[0]) as weights:
        return dict(weights.metadata() or {})


def parameters(path: Path) -> int:
    """Number of weights in a file or model folder; an output matrix tied to the embedding counts once."""
    sizes: dict[str, int] = {}
    for file in files(path):
        with _opened(file) as weights:
            sizes.update({name: math.prod(weights.get_slice(name).get_shape()) for name in weights.keys()})  # noqa: SIM118
    config = (path if path.is_dir() else path.parent) / "config.json"
    if config.is_file() and read_json(config).get("tie_word_embeddings"):
        sizes.pop("lm_head.weight", None)
    return sum(sizes.values())


def files(path: Path) -> list[Path]:
    """The safetensors files of a folder, or the file itself. Raises ModelError if there are none."""
    if path.is_file():
        return [path]
    index = path / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = sorted(set(read_json(index)["weight_map"].values()))
        except (LookupError, AttributeError, TypeError) as error:
            raise ModelError(f"{index} lists no files.", "Fetch the model again.") from error
        missing = [name for name in names if "/" in name or not (path / name).is_file()]
        if missing:
            raise ModelError(f"{path} lacks {missing[0]}.", "Fetch the model again.")
        return [path / name for name in names]
    found = sorted(path.glob("*.safetensors")) if path.is_dir() else []
    if not found:
        pickles = [p.name for p in sorted(path.glob("*")) if p.suffix in PICKLES] if path.is_dir() else []
        reason = f"it has {pickles[0]}, a pickle, which can run code when it is opened" if pickles else "it has none"
        raise ModelError(
            f"{path} has no safetensors weights: {reason}.", "Take a model with safetensors or GGUF files."
        )
    return found


def _without_tied(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    head = tensors.get("lm_head.weight")
    others = {name: tensor for name, tensor in tensors.items() if name != "lm_head.weight"}
    tied = head is not None and any(
        t.data_ptr() == head.data_ptr() and t.shape == head.shape and t.stride() == head.stride()
        for t in others.values()
    )
    return others if tied else dict(tensors)


def _target(tensor: torch.Tensor, dtype: torch.dtype) -> torch.dtype:
    return dtype if tensor.is_floating_point() else tensor.dtype


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """`safe_open` whose complaints are ModelErrors."""
    try:
        with safe_open(path, framework="pt") as weights:
            yield weights
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is no whole safetensors file: {error}.", "Fetch the model again.") from error
