"""The one file from which a killed training goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from aasut.formats import safetensors
from aasut.store import disk_errors

NAME = "checkpoint.safetensors"


def save(folder: Path, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> None:
    """Replace the checkpoint in `folder`, whole or not at all. `facts` are plain JSON."""
    with disk_errors(folder):
        partial = folder / "checkpoint.partial"
        save_file(dict(tensors), partial, {"facts": json.dumps(dict(facts))})
        partial.replace(folder / NAME)


def load(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """(tensors, facts), None where there is no checkpoint."""
    path = folder / NAME
    if not path.exists():
        return None
    return safetensors.load(path), json.loads(safetensors.metadata(path)["facts"])


def remove(folder: Path) -> None:
    (folder / NAME).unlink(missing_ok=True)
