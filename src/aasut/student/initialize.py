"""SEAM: where a student starts. `(settings, model folder, prompts, folder) -> report`; the start is in `folder`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from aasut.engine.common import begin
from aasut.engine.torch import Cache, choose_precision, hidden_states, load_model
from aasut.errors import RecipeError
from aasut.formats import safetensors
from aasut.formats.tokenizer import Tokenizer
from aasut.recipe import Student
from aasut.store import write_atomically

Initialise = Callable[[Student, Path, Sequence[str], Path], dict[str, Any]]

CALIBRATION_PROMPTS = 64


def pretrained(settings: Student, source: Path, prompts: Sequence[str], folder: Path) -> dict[str, Any]:
    """The model as it is."""
    del settings, prompts
    copy_model(source, folder)
    return {"initialise": "pretrained", "parameters": safetensors.parameters(folder)}


def pruned(settings: Student, source: Path, prompts: Sequence[str], folder: Path) -> dict[str, Any]:
    """The model without the layers that change their input least.

    A layer's block influence is 1 - cos(input, output), the mean over the tokens of `prompts`
    (ShortGPT, Men et al. 2024). Raises RecipeError where more layers are to stay than there are.
    """
    model = load_model(source, choose_precision(settings.precision))
    count = int(model.config.num_hidden_layers)
    keep = (settings.shape and settings.shape.layers) or count
    if keep >= count:
        raise RecipeError(
            f"student.shape.layers is {keep}, and the model has {count} layers.",
            "Take fewer, or initialise: pretrained.",
        )
    influence = block_influence(model, Tokenizer.load(source), prompts[:CALIBRATION_PROMPTS])
    dropped = sorted(sorted(range(count), key=lambda layer: (influence[layer], layer))[: count - keep])
    stay = [layer for layer in range(count) if layer not in dropped]
    tensors = {}
    for path in safetensors.files(source):
        for name, tensor in safetensors.load(path).items():
            new = _renamed(name, stay)
            if new is not None:
                tensors[new] = tensor
    copy_model(source, folder, weights=False)
    safetensors.save(tensors, folder / "model.safetensors")
    config = json.loads((source / "config.json").read_text())
    config["num_hidden_layers"] = keep
    kinds = getattr(model.config, "layer_types", None)  # the file may leave them to the layers' numbers
    if kinds:
        config["layer_types"] = [kinds[layer] for layer in stay]
    write_atomically(folder / "config.json", json.dumps(config, indent=2) + "\n")
    return {
        "initialise": "pruned",
        "dropped": dropped,
        "block_influence": [round(value, 5) for value in influence],
        "parameters": safetensors.parameters(folder),
    }


@torch.inference_mode()
def block_influence(model: Any, tokenizer: Tokenizer, prompts: Sequence[str]) -> list[float]:
    """Mean of 1 - cos(input, output) of each layer over all tokens of the prompts."""
    total = [0.0] * int(model.config.num_hidden_layers)
    tokens = 0
    seen: dict[int, torch.Tensor] = {}

    def note(layer: int) -> Callable[..., None]:
        def hook(_module: Any, inputs: Any, output: Any) -> None:
            after = output[0] if isinstance(output, tuple) else output
            seen[layer] = (1 - torch.cosine_similarity(inputs[0].float(), after.float(), dim=-1)).sum()

        return hook

    hooks = [module.register_forward_hook(note(layer)) for layer, module in enumerate(model.model.layers)]
    try:
        for prompt in prompts:
            ids = torch.tensor([begin(tokenizer, prompt)], device=model.device)
            hidden_states(model, ids, torch.arange(ids.shape[1], device=ids.device)[None], None, Cache(None))
            tokens += ids.shape[1]
            for layer, value in seen.items():
                total[layer] += float(value)
    finally:
        for hook in hooks:
            hook.remove()
    return [value / max(tokens, 1) for value in total]


def copy_model(source: Path, folder: Path, *, weights: bool = True) -> None:
    """Copy a model folder's configuration and tokenizer, and its weights unless told not to."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()):
        belongs = path.suffix == ".safetensors" or path.name.endswith(".safetensors.index.json")
        if weights if belongs else path.suffix in (".json", ".jinja"):
            shutil.copyfile(path, folder / path.name)
    (folder / "source.json").unlink(missing_ok=True)


def _renamed(name: str, stay: Sequence[int]) -> str | None:
    prefix = "model.layers."
    if not name.startswith(prefix):
        return name
    layer, _, rest = name.removeprefix(prefix).partition(".")
    return f"{prefix}{stay.index(int(layer))}.{rest}" if int(layer) in stay else None


INITIALISATIONS: dict[str, Initialise] = {"pretrained": pretrained, "pruned": pruned}


def get(name: str) -> Initialise:
    """The initialisation of that name. Raises RecipeError for an unknown one."""
    if name not in INITIALISATIONS:
        raise RecipeError(
            f"There is no initialisation {name!r}.", f"Choose one of: {', '.join(sorted(INITIALISATIONS))}, linear."
        )
    return INITIALISATIONS[name]
