"""Low-rank adapters (LoRA, Hu et al. 2021, through PEFT) in the layers' matrices, and their way back into them."""

from __future__ import annotations

from typing import Any

import torch

from aasut.errors import RecipeError
from aasut.recipe import Student


def attach(model: Any, settings: Student, seed: int) -> Any:
    """Put adapters into `model`'s layers above the frozen ones, and let nothing else be trained.

    They begin as no change. Gives what `merge` takes. Raises RecipeError for matrices that the layers lack.
    """
    from peft import LoraConfig, LoraModel

    wanted = settings.lora
    assert wanted is not None
    known = sorted(
        {
            name.rpartition(".")[2]
            for name, module in model.model.layers.named_modules()
            if isinstance(module, torch.nn.Linear)
        }
    )
    targets = known if wanted.targets == "all" else list(wanted.targets)
    if unknown := [name for name in targets if name not in known]:
        raise RecipeError(
            f"student.lora.targets names {unknown[0]}, and the student's layers have no such matrix.",
            f"Choose of: {', '.join(known)}; or all.",
        )
    config = LoraConfig(
        r=wanted.rank,
        lora_alpha=wanted.alpha,
        target_modules=targets,
        layers_to_transform=list(range(settings.frozen_layers, len(model.model.layers))),
        layers_pattern="layers",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapted = LoraModel(model, config, "default")
    for parameter in adapters(model):
        parameter.data = parameter.data.to(model.dtype)
    return adapted


def adapters(model: Any) -> list[torch.nn.Parameter]:
    """The adapters' weights."""
    return [parameter for name, parameter in model.named_parameters() if ".lora_" in name]


def merge(adapted: Any) -> None:
    """Add the adapters to the matrices, in float32 and rounded once, and leave the model as it was built."""
    for parameter in adapters(adapted.model):
        parameter.data = parameter.data.float()
    adapted.merge_and_unload()
