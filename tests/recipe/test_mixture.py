"""The recipe of a mixture: what it refuses, and which recipe is for which command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from aasut import recipe
from aasut.errors import RecipeError
from aasut.recipe import field, mixture
from aasut.recipe.scale import scaled_mixture
from refusals import untested

SMALL: dict[str, Any] = {"name": "works", "fields": ["a.yaml", "b.yaml"]}
MODEL = {"address": "file:model"}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"fields": ["a.yaml"]}, "fields: "),
    ({"active": 1}, "active: "),
    ({"active": 3}, "active (3) must be at most the number of fields (2)"),
    ({"fields": ["a.yaml", "./a.yaml"]}, "a.yaml is there twice among fields and added"),
    ({"added": ["b.yaml"]}, "b.yaml is there twice among fields and added"),
    ({"removed": ["a", "a"]}, "removed has a name twice"),
    ({"train": {"teach": "teacher"}}, "a teacher goes with train.teach: teacher, and that with it"),
    ({"teacher": {"model": MODEL}}, "a teacher goes with train.teach: teacher, and that with it"),
    ({"train": {"teach": "documents", "distil": 0.5}}, "distil goes with teach: branches or teacher"),
    ({"train": {"bias_rate": 0, "settled": 0.5}}, "settled goes with a bias_rate above 0"),
    ({"train": {"tokens": 0}}, "train.tokens"),
    ({"train": {"shared": True}}, "train.shared: there is no such field"),
]


def load(folder: Path, *overrides: str, **more: Any) -> mixture.MixtureRecipe:
    path = folder / "mixture.yaml"
    path.write_text(yaml.safe_dump(SMALL | more), encoding="utf-8")
    return mixture.load(path, overrides)


def test_little_is_required_and_flags_go_over_the_file(tmp_path: Path) -> None:
    found = load(tmp_path, "train.epochs=3", train={"epochs": 2})
    assert (found.active, found.added, found.removed, found.train.teach) == (2, [], [], "branches")
    assert found.train.epochs == 3


@pytest.mark.parametrize(("settings", "words"), REFUSED)
def test_what_cannot_be_is_refused(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load(tmp_path, **settings)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_validator_is_tested_above() -> None:
    assert untested([Path(mixture.__file__)], [says for _, says in REFUSED]) == []


def test_balance_is_that_of_the_recipe_and_else_that_of_experts(tmp_path: Path) -> None:
    found = load(tmp_path, train={"z_loss": 0.25, "bias_rate": 0}).train.experts(5, 3)
    assert (found.count, found.active, found.z_loss, found.bias_rate) == (5, 3, 0.25, 0)
    assert load(tmp_path).train.experts(2, 2) == recipe.Experts(count=2, active=2)


def test_a_recipe_of_another_sort_is_told(tmp_path: Path) -> None:
    load(tmp_path)
    with pytest.raises(RecipeError, match=r"is the recipe of a mixture: .* Give it to aasut mix"):
        recipe.load(tmp_path / "mixture.yaml")
    with pytest.raises(RecipeError, match=r"is the recipe of a mixture: .* Give it to aasut mix"):
        field.load(tmp_path / "mixture.yaml")
    for key, command in (("task", "run"), ("documents", "adapt")):
        other = tmp_path / "other.yaml"
        other.write_text(f"{key}: []\nname: x\n", encoding="utf-8")
        with pytest.raises(RecipeError, match=f"it names no fields. Give it to aasut {command}"):
            mixture.load(other)


def test_paths_lead_from_the_folder_that_the_recipe_is_copied_to(tmp_path: Path) -> None:
    base, folder = tmp_path / "recipes", tmp_path / "runs" / "works"
    base.mkdir()
    folder.mkdir(parents=True)
    more = {"train": {"teach": "teacher"}, "teacher": {"model": MODEL}, "added": ["../c.yaml", "/srv/d.yaml"]}
    (folder / "recipe.yaml").write_text(mixture.text_at(load(base, **more), base, folder), encoding="utf-8")
    again = mixture.load(folder / "recipe.yaml")
    assert again.fields == ["../../recipes/a.yaml", "../../recipes/b.yaml"]
    assert again.added == ["../../c.yaml", "/srv/d.yaml"]
    assert again.teacher is not None
    assert again.teacher.model.address == "file:../../recipes/model"


def test_a_small_scale_is_small_and_has_another_name(tmp_path: Path) -> None:
    whole = load(tmp_path, train={"epochs": 5, "z_loss": 0.5})
    small = scaled_mixture(whole, "ci")
    assert (small.name, small.train.epochs, small.train.tokens, small.train.z_loss) == ("works-ci", 1, 2048, 0.5)
    assert small.measured < whole.measured
    assert scaled_mixture(load(tmp_path, train={"tokens": 100}), "ci").train.tokens == 100
    assert scaled_mixture(whole, "full") == whole
    with pytest.raises(RecipeError, match="There is no scale 'huge'"):
        scaled_mixture(whole, "huge")
