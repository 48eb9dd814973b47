"""What a mixture took to make, in floating-point operations: its fields' students, and all of its own training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from aasut.economics.operations import Weights
from aasut.field import ADAPTED
from aasut.mixture.stages import MODEL
from aasut.recipe import MixtureRecipe, Student
from aasut.store import Artefact


def operations(
    recipe: MixtureRecipe,
    student: Student,
    branches: Iterable[Artefact],
    made: Mapping[str, Artefact],
    teacher: Path | None,
    *,
    frozen: bool,
) -> float:
    """`branches`: the fields' students · `made`: the mixture's stages by name · `teacher`: the folder of the recipe's.

    What a teacher or a branch reads is counted once a text, for it is kept; `frozen`: embeddings are not trained.
    """
    branches = list(branches)
    total = sum(of_branch(one, frozen=frozen, adapters=student.lora is not None) for one in branches)
    reads = 0.0
    if recipe.train.teach == "branches":
        reads = Weights.read(branches[0].path / ADAPTED).reading()
    elif teacher is not None:
        reads = Weights.read(teacher).reading()
    for stage, one in made.items():
        if "tokens_learned" in one.facts:  # others mix, and train nothing
            total += of_training(one, reads, frozen=frozen, alone=" with " in stage)
    return total


def of_branch(made: Artefact, *, frozen: bool, adapters: bool) -> float:
    """Of a field's student; `adapters` beside its weights are few, and count as nothing that is trained."""
    size = Weights.read(made.path / ADAPTED)
    trained = 0 if adapters else size.trained(frozen_embeddings=frozen)
    return size.training(trained) * int(made.facts["tokens"])


def of_training(made: Artefact, reads: float, *, frozen: bool, alone: bool) -> float:
    """Of a training of the mixture. `reads`: operations of a teacher on a token · `alone`: one expert is trained."""
    size = Weights.read(made.path / MODEL)
    trained = size.expert if alone else size.trained(frozen_embeddings=frozen)
    return size.training(trained) * int(made.facts["tokens"]) + reads * int(sum(made.facts["tokens_learned"].values()))
