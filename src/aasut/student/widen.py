"""From a dense model to a wider one that says the same: each feed-forward neuron several times, each a share of it.

Copies of a neuron would learn alike for ever, so that they start a little apart (Net2WiderNet, Chen et al. 2016).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from aasut.formats import safetensors
from aasut.formats.tokenizer import read_json
from aasut.store import write_atomically
from aasut.student import upcycle
from aasut.student.initialize import copy_model

APART = 0.02  # deviation of what each weight of a copy is multiplied by, around 1


def widen(source: Path, folder: Path, times: int, seed: int, apart: float = APART) -> dict[str, Any]:
    """Leave the model of `source` with each neuron `times` over in `folder`; gives its number of weights.

    With `apart` 0 the function is the same, to rounding. Raises RecipeError for a model whose networks are not known.
    """
    config = read_json(source / "config.json")
    upcycle.check(config, source, "A wider model")
    tensors, draw = safetensors.load(source), torch.Generator().manual_seed(seed)
    for name in sorted(tensors):
        part = name.removesuffix(".weight").rpartition(".")[2]
        if part in upcycle.DENSE:
            tensors[name] = _widened(tensors[name], part, times, draw, apart)
    copy_model(source, folder, weights=False)
    safetensors.save(tensors, folder / "model.safetensors")
    wider = config | {"intermediate_size": times * int(config["intermediate_size"])}
    write_atomically(folder / "config.json", json.dumps(wider, indent=2) + "\n")
    return {"times": times, "parameters": safetensors.parameters(folder)}


def _widened(tensor: torch.Tensor, part: str, times: int, draw: torch.Generator, apart: float) -> torch.Tensor:
    """gate or up [f, d] as [times · f, d], down [d, f] as [d, times · f]."""
    below = part == "down_proj"
    whole = torch.cat([tensor.float()] * times, int(below)) / (times if below else 1)
    return whole * (1 + apart * torch.randn(whole.shape, generator=draw))
