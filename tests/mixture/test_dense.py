"""Dense models beside a mixture: as many operations, and the same weights after a kill."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

import mixed
from aasut.field import STORE
from aasut.formats import safetensors
from aasut.mixture.alternatives import Alternatives
from aasut.mixture.dense import repeated
from aasut.mixture.members import members_of
from aasut.progress import Progress
from aasut.recipe import mixture as recipes
from aasut.store import Artefact, Store
from aasut.student.objective import Row

QUIET = Progress(quiet=True)


def trained(runs: Path, progress: Progress) -> Artefact:
    """A dense model that took a quarter of what the mixture took."""
    folder = runs / "works"
    recipe = recipes.load(folder / "recipe.yaml", ["train.checkpoint_s=0"])
    with Store(runs / STORE) as store:
        whole = Alternatives(recipe, members_of(recipe, folder, "full"), store, runs, progress)
        return whole.dense.trained("dense_active", 2, whole.spent() / 4)


def test_a_training_that_was_killed_goes_on_to_the_same_weights(mixed_fields: Path, tmp_path: Path) -> None:
    for name in ("one", "other"):
        shutil.copytree(mixed_fields, tmp_path / name)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "one" / "runs", mixed.Interrupted(4))
    gone_on, whole = (trained(tmp_path / name / "runs", QUIET) for name in ("one", "other"))
    assert gone_on.facts["steps"] == whole.facts["steps"] > 8
    ours, theirs = (safetensors.load(made.path / "mixture") for made in (gone_on, whole))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


def test_rows_come_again_in_another_order_until_there_are_enough() -> None:
    rows = [Row([number] * 10, answer=9) for number in range(7)]
    found = [row.ids[0] for row in repeated(rows, 205, 1)]
    assert len(found) == 20
    assert sorted(found[:7]) == sorted(found[7:14]) == list(range(7))
    assert found[:7] != found[7:14]
    assert len(repeated(rows, 3, 1)) == 1
