"""SEAM: where a student starts. `(settings, model folder, prompts, folder, seed) -> report`; it is left in `folder`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from aasut.engine.torch import choose_precision, load_model
from aasut.errors import RecipeError
from aasut.formats import safetensors
from aasut.formats.tokenizer import Tokenizer
from aasut.progress import Progress
from aasut.recipe import Student
from aasut.student import calibration
from aasut.student.calibration import Calibration


class Initialise(Protocol):
    """Leaves the start of a student in `folder`. `prompts`: texts to measure on. The seed is of what is drawn."""

    def __call__(
        self, settings: Student, source: Path, prompts: Sequence[str], folder: Path, seed: int = 0
    ) -> dict[str, Any]: ...


INITIALISATIONS: dict[str, str] = {
    "pretrained": "aasut.student.initialize:pretrained",
    "pruned": "aasut.student.prune:pruned",
    "random": "aasut.student.random_start:random",
}


def get(name: str) -> Initialise:
    """The initialisation of that name. Raises RecipeError for an unknown one."""
    if name not in INITIALISATIONS:
        raise RecipeError(
            f"There is no initialisation {name!r}.", f"Choose one of: {', '.join(sorted(INITIALISATIONS))}, linear."
        )
    module, _, function = INITIALISATIONS[name].partition(":")
    return cast(Initialise, getattr(import_module(module), function))


def pretrained(settings: Student, source: Path, prompts: Sequence[str], folder: Path, seed: int = 0) -> dict[str, Any]:
    """The model as it is."""
    del seed
    copy_model(source, folder)
    return {"initialise": "pretrained"} | begun(settings, folder, prompts)


def divided(settings: Student, folder: Path, seed: int, progress: Progress) -> dict[str, Any]:
    """The start in `folder` with the recipe's experts, where it wants any; gives what that changes in the report."""
    if settings.experts is None:
        return {}
    from aasut.student import upcycle

    found = upcycle.upcycle(folder, settings.experts, seed)
    progress.say(
        "experts: {experts} a layer, {active_parameters:,} weights a token of {parameters[1]:,}".format(**found)
    )
    return {"parameters": found["parameters"][1], "experts": found}


def begun(settings: Student, folder: Path, texts: Calibration | Sequence[str]) -> dict[str, Any]:
    """What every report tells of the start in `folder`: its size, and its loss on the texts."""
    model = load_model(folder, choose_precision(settings.precision))
    if not isinstance(texts, Calibration):
        texts = Calibration.of(Tokenizer.load(folder), texts, int(model.config.max_position_embeddings))
    return {
        "parameters": safetensors.parameters(folder),
        "loss_before_training": calibration.loss(model, texts.losses),
        "loss_tokens": sum(max(len(row) - 1, 0) for row in texts.losses),
        "loss_on_held_out": texts.held_out,
    }


def copy_model(source: Path, folder: Path, *, weights: bool = True) -> None:
    """Copy a model folder's configuration and tokenizer, and its weights unless told not to."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()):
        belongs = path.suffix == ".safetensors" or path.name.endswith(".safetensors.index.json")
        if weights if belongs else path.suffix in (".json", ".jinja"):
            shutil.copyfile(path, folder / path.name)
    (folder / "source.json").unlink(missing_ok=True)
