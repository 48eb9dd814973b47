"""`aasut doctor RECIPE`: is the training right, on the recipe's own model and rows? Within about a minute."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Group, RenderableType
from rich.text import Text

from aasut.doctor import decisions, doctor, gradients, numbers, teachers, view
from aasut.doctor.finding import Finding
from aasut.doctor.subject import FEW_LAYERS, Subject
from aasut.recipe import Recipe

TOKENS = 96  # on which losses are tried
WEIGHTS = 1.2e10  # tokens x width x vocabulary, which bounds their number for wide models


@dataclass(frozen=True)
class Examined:
    """What was found, by section, and one example token by token."""

    sections: dict[str, list[Finding]]
    example: view.View

    def as_dict(self) -> dict[str, Any]:
        return doctor.plain(self.sections) | {"example": self.example.as_dict()}


def examine(recipe: Recipe, base: Path, root: Path) -> Examined:
    """Raises AasutError where the recipe's model or rows cannot be had."""
    subject = Subject.of_recipe(recipe, base, root)
    layers = len(subject.model.model.layers)
    looked = [
        Finding("rows", f"{len(subject.rows)} of {subject.of:,}, {subject.answers}"),
        Finding("model", f"{layers} layers in float32; gradients on the first {min(layers, FEW_LAYERS)}"),
    ]
    shown = view.view(subject)
    sections = {"Looked at": looked, "Example": _all(view.examine(subject, shown))}
    found = numbers.examine(sample(subject)) if subject.tree is None else decisions.examine(subject)
    sections["Losses"] = _all(found)
    shallow = subject.shallow()
    if subject.tree is None:
        sections["Teacher"] = _all(teachers.examine(shallow))
    sections["Gradients"] = _all(gradients.examine(shallow)) + _all(gradients.processes(shallow))
    return Examined(sections, shown)


def _all(found: Iterator[Finding]) -> list[Finding]:
    """What is found, and as a fault whatever ends the search: what breaks here would break a training."""
    kept: list[Finding] = []
    try:
        kept.extend(found)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        problem = f"The examination ended in {reason}. A training on these rows would end so too, or lose some of them."
        kept.append(Finding("broken", "ended in an error", "fault", problem))
    return kept


def sample(subject: Subject) -> numbers.Sample:
    """Hidden states where the model predicts the answers of the subject's rows."""
    weight = subject.model.get_output_embeddings().weight.detach()
    most = max(8, min(TOKENS, int(WEIGHTS / weight.numel())))
    hidden: list[torch.Tensor] = []
    right: list[int] = []
    for number, row in enumerate(subject.rows):
        first = len(row.ids) - row.answer
        hidden.append(view.final_states(subject, number)[0][first - 1 : -1])
        right += row.ids[first:]
    return numbers.Sample.of(torch.cat(hidden)[:most], weight, torch.tensor(right[:most]))


def render(found: Examined) -> RenderableType:
    """The example, then the findings."""
    return Group(view.render(found.example), Text(""), doctor.render(found.sections, WELL))


WELL = "Training on this recipe's model and rows is exact."
