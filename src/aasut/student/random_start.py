"""Initialisation `random`: a pretrained model's architecture, at the recipe's sizes, with random weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from aasut.engine.torch import choose_precision, load_model
from aasut.formats import experts, safetensors
from aasut.formats.tokenizer import Tokenizer
from aasut.recipe import Student
from aasut.store import write_atomically
from aasut.student import calibration
from aasut.student.calibration import Calibration
from aasut.student.initialize import begun, copy_model
from aasut.student.sizes import Sizes, resolve


def random(settings: Student, source: Path, prompts: Sequence[str], folder: Path, seed: int = 0) -> dict[str, Any]:
    """Weights as the model's class draws them, by the seed. Raises RecipeError for sizes that do not go together."""
    model = load_model(source, choose_precision(settings.precision))
    texts = Calibration.of(Tokenizer.load(source), prompts, int(model.config.max_position_embeddings))
    before = calibration.loss(model, texts.losses)
    del model
    write(settings, source, folder, seed)
    return {
        "initialise": "random",
        "seed": seed,
        "parameters_before": safetensors.parameters(source),
        "loss_of_source": before,
    } | begun(settings, folder, texts)


def write(settings: Student, source: Path, folder: Path, seed: int) -> None:
    """A model folder of the recipe's shape with random weights, in bfloat16."""
    import transformers

    copy_model(source, folder, weights=False)
    if settings.shape is not None:
        given = transformers.AutoConfig.from_pretrained(source, local_files_only=True)
        sizes = resolve(settings.shape, Sizes.of(given), fewer=False)
        kinds = getattr(given, "layer_types", None)
        plain = json.loads((source / "config.json").read_text(encoding="utf-8"))
        repeated = [kinds[layer % len(kinds)] for layer in range(sizes.layers)] if kinds else None
        write_atomically(folder / "config.json", json.dumps(sizes.written(plain, repeated), indent=2) + "\n")
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    safetensors.save(experts.unstacked(model.state_dict(), type(model).__name__), folder / "model.safetensors")
