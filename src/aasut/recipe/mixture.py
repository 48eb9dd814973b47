"""The recipe of a mixture: fields whose students become the experts of one model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from aasut.errors import RecipeError
from aasut.recipe import file
from aasut.recipe.experts import Balance, Experts
from aasut.recipe.models import ModelAddress
from aasut.recipe.section import NonNegative, Positive, Section


class MixtureTeacher(Section):
    """A model whose distribution is learned."""

    model: ModelAddress
    """A local model with the students' tokens."""


class MixtureTraining(Balance):
    """How the mixture is trained: all of it, and then of each field that is added its expert alone."""

    tokens: Positive | None = None
    """Tokens of each field's documents learned in an epoch, at most, drawn by its seed; as many as its own recipe says
    where it is not given. What was made of the documents is learned along, and general text by the field's
    `adapt.replay_share`."""
    teach: Literal["branches", "documents", "teacher"] = "branches"
    """What a text is learned from: the distribution of its own field's student, the text itself, or the distribution of
    `teacher`."""
    distil: float = Field(default=1.0, gt=0, le=1)
    """Weight of that distribution in the loss, beside the text itself."""
    epochs: Positive = 1
    """Passes over the texts."""
    learning_rate: float = Field(default=1e-4, gt=0)
    """Peak learning rate of AdamW."""
    weight_decay: NonNegative = 0.01
    """Decoupled weight decay of matrices; none where one expert alone is trained."""
    batch_examples: Positive = 8
    """Rows a step."""
    micro_tokens: Positive = 2048
    """Tokens computed at once, which bounds memory."""
    checks: Positive = 2
    """How often in the training what the fields keep for validation is looked at; the best weights are kept."""
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    """Arithmetic of training and measuring; `auto` is bfloat16 where the processor has it."""
    checkpoint_s: NonNegative = 90.0
    """Seconds between checkpoints, from which a killed training goes on."""

    @model_validator(mode="after")
    def _has_something_to_distil(self) -> Self:
        if "distil" in self.model_fields_set and self.teach == "documents":
            raise ValueError("distil goes with teach: branches or teacher")
        return self

    def experts(self, count: int, active: int) -> Experts:
        """As the section that training balances by."""
        balance = self.model_dump(include=set(Balance.model_fields), exclude_unset=True)
        return Experts(count=count, active=active, **balance)


class MixtureRecipe(Section):
    """One Mixture of Experts of several fields."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Results stand in runs/<name>/."""
    seed: int = 7
    """Seed of everything drawn."""
    fields: list[str] = Field(min_length=2)
    """Recipes of fields with student and adapt, relative to this one, all of one start: an expert each."""
    added: list[str] = Field(default_factory=list)
    """Recipes of fields that join the trained mixture one after another, as one expert more each. Its rows of the
    routers are fitted, and it alone is trained; all other weights stay as they are."""
    removed: list[str] = Field(default_factory=list)
    """Names of fields whose experts are taken out in the end."""
    active: Annotated[int, Field(ge=2)] = 2
    """Experts that a token goes through."""
    train: MixtureTraining = MixtureTraining()
    """How it is trained."""
    teacher: MixtureTeacher | None = None
    """Who is learned from, with `train.teach: teacher`."""
    measured: Positive = 400_000
    """Characters of held-out text of each field that the models are measured on, and of general text; whole documents,
    drawn by the seed, two at least."""

    @model_validator(mode="after")
    def _fits(self) -> MixtureRecipe:
        paths = [str(Path(path)) for path in (*self.fields, *self.added)]
        twice = next((path for number, path in enumerate(paths) if path in paths[:number]), None)
        if twice is not None:
            raise ValueError(f"{twice} is there twice among fields and added")
        if len(set(self.removed)) != len(self.removed):
            raise ValueError("removed has a name twice")
        if self.active > len(self.fields):
            raise ValueError(f"active ({self.active}) must be at most the number of fields ({len(self.fields)})")
        if (self.teacher is not None) != (self.train.teach == "teacher"):
            raise ValueError("a teacher goes with train.teach: teacher, and that with it")
        return self


def load(path: Path, overrides: Sequence[str] = ()) -> MixtureRecipe:
    """Read the recipe of a mixture; `overrides` are flags of the form `section.field=value`.

    Raises RecipeError with one line a mistake.
    """
    plain = file.read(path, overrides)
    for key, what, command in (("task", "a task", "run"), ("documents", "a field", "adapt")):
        if key in plain and "fields" not in plain:
            raise RecipeError(f"{path} is the recipe of {what}: it names no fields.", f"Give it to aasut {command}.")
    return file.validated(MixtureRecipe, plain, str(path), "docs/mixture.md lists every field.")


def text_at(recipe: MixtureRecipe, base: Path, folder: Path) -> str:
    """The recipe as YAML for a file in `folder`: paths that were relative to `base` lead from there."""
    plain = recipe.model_dump(mode="json", exclude_unset=True)
    for key in ("fields", "added"):
        if key in plain:
            plain[key] = [file.moved(path, base, folder) for path in plain[key]]
    file.move_model((plain.get("teacher") or {}).get("model"), base, folder)
    return file.as_yaml(plain)
