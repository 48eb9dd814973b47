"""The fields of a mixture: which they are, and whether their students can become one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aasut.errors import RecipeError
from aasut.progress import Progress
from aasut.recipe import FieldRecipe, MixtureRecipe, Student
from aasut.recipe import field as fields
from aasut.recipe.field import Adapt
from aasut.recipe.scale import scaled_field

GENERAL = "general"
NETWORKS = {"gate_proj", "up_proj", "down_proj"}


@dataclass(frozen=True)
class Member:
    """A field of a mixture: the name of its expert, and its recipe as read from `path`, at the mixture's scale."""

    name: str
    recipe: FieldRecipe
    path: Path

    @property
    def student(self) -> Student:
        assert self.recipe.student is not None
        return self.recipe.student

    @property
    def adapt(self) -> Adapt:
        assert self.recipe.adapt is not None
        return self.recipe.adapt


def members_of(recipe: MixtureRecipe, base: Path, scale: str) -> list[Member]:
    """The fields of a mixture, those to begin with first. Raises RecipeError where they cannot be mixed by their
    recipes."""
    found: list[Member] = []
    for named in (*recipe.fields, *recipe.added):
        path = base / Path(named).expanduser()
        loaded = fields.load(path)
        if loaded.student is None or loaded.adapt is None:
            raise RecipeError(f"{path} has no student to adapt.", "Give the sections student and adapt.")
        if loaded.name == GENERAL:
            raise RecipeError(f"{path} has the name {GENERAL}, which general text has here.", "Give it another name.")
        same = next((one.path for one in found if one.name == loaded.name), None)
        if same is not None:
            raise RecipeError(f"{path} and {same} both have the name {loaded.name}.", "Give each field its own name.")
        most = recipe.train.tokens
        if most is not None and most < loaded.adapt.context:
            raise RecipeError(
                f"train.tokens is {most}, and a row of {loaded.name} has up to {loaded.adapt.context} tokens.",
                "Raise it, or lower adapt.context of the field.",
            )
        found.append(Member(loaded.name, scaled_field(loaded, scale), path))
    names = [member.name for member in found]
    if recipe.name in {member.recipe.name for member in found}:
        raise RecipeError(f"The mixture and one of its fields have the name {recipe.name}.", "Give it another name.")
    for name in recipe.removed:
        if name not in names:
            raise RecipeError(f"removed names {name}, which is no field here.", f"There are {', '.join(names)}.")
    left = len(names) - len(recipe.removed)
    if left < recipe.active:
        raise RecipeError(
            f"removed leaves {left} experts, and active asks for {recipe.active}.", "Remove fewer, or add a field."
        )
    return found


def check_starts(members: Sequence[Member], progress: Progress) -> None:
    """Raises RecipeError where the students do not begin as one model that can be mixed."""
    from aasut.formats.tokenizer import read_json
    from aasut.student import upcycle

    starts: dict[str, dict[str, Any]] = {}
    for member in members:
        student = member.student
        if student.initialise == "pruned":
            raise RecipeError(
                f"{member.name} starts as initialise: pruned, cut by its own documents: no other field has that start.",
                "Cut the model once, and name what came out as student.model of all fields.",
            )
        if student.lora is not None and student.lora.targets != "all" and not NETWORKS & set(student.lora.targets):
            raise RecipeError(
                f"{member.name}: student.lora trains {', '.join(student.lora.targets)}; its expert would be the start.",
                f"Add {', '.join(sorted(NETWORKS))} to student.lora.targets.",
            )
        starts[member.name] = {
            "model": model_of(member, progress)[1],
            "initialise": student.initialise,
            "shape": student.shape and student.shape.model_dump(),
            "seed": member.recipe.seed if student.initialise == "random" else None,
        }
    first, start = next(iter(starts.items()))
    for name, other in starts.items():
        odd = next((key for key in start if start[key] != other[key]), None)
        if odd is not None:
            raise RecipeError(
                f"{first} and {name} do not have one start: their {odd} differ.",
                "Train all fields from one model, as it is or drawn by one seed in one shape.",
            )
    folder = model_of(members[0], progress)[0]
    upcycle.check(read_json(folder / "config.json"), folder, "The mixture")


def model_of(member: Member, progress: Progress) -> tuple[Path, str]:
    """(folder, SHA-256) of what a member's student starts from."""
    from aasut.sources import models

    assert member.student.model is not None
    found = models.fetch(member.student.model, base=member.path.parent, progress=progress)
    return found.path, found.sha256
