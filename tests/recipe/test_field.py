"""The recipe of a field: what it refuses, and which recipe is for which command."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import aasut
from aasut import recipe
from aasut.errors import RecipeError
from aasut.recipe import field
from refusals import untested

SMALL: dict[str, Any] = {"name": "manuals", "documents": [{"source": "manuals"}], "teacher": {"scripted": {"": "yes"}}}
MODEL = {"address": "file:model"}
TOOL = {"type": "function", "function": {"name": "look_up"}}
STUDENT = {"student": {"model": MODEL}, "adapt": {"replay": [{"source": "general"}]}}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"documents": []}, "documents: "),
    ({"documents": [{"source": "deb:nut-doc=2.8.0-7"}]}, "deb:nut-doc=2.8.0-7 has no sha256: pin the package's file"),
    ({"documents": [{"source": "here", "sha256": "a" * 64}]}, "sha256 is for packages: a folder may change"),
    ({"documents": [{"source": "here", "group": "("}]}, "is no regular expression"),
    ({"documents": [{"source": "here", "group": ".*"}]}, "needs a group in round brackets"),
    ({"documents": [{"source": "here", "records": {"pattern": "(a)"}}]}, "needs named groups, such as (?P<code>"),
    ({"documents": [{"source": "here", "records": {"pattern": "["}}]}, "is no regular expression"),
    ({"documents": [{"source": "here", "language": "english"}]}, "documents.0.language"),
    ({"split": {"test": 0}}, "train and test need a weight each"),
    ({"synthesize": {"kinds": ["questions", "questions"]}}, "kinds has one of them twice"),
    ({"synthesize": {"kinds": ["calls"]}}, "the kind calls goes with tools, and they with it"),
    ({"synthesize": {"tools": [TOOL]}}, "the kind calls goes with tools, and they with it"),
    ({"synthesize": {"kinds": ["calls"], "tools": [{"type": "f"}]}}, "are no function definitions"),
    ({"synthesize": {"pairs": 2}}, "pairs goes with the kind relations"),
    ({"synthesize": {"strategies": 2}}, "strategies goes with the kind reading"),
    ({"synthesize": {"turns": 2}}, "turns goes with the kind conversations"),
    ({"filter": {"alike": 0.9}}, "filter.alike goes with embeddings"),
    ({"filter": {"contaminated": 0.9}}, "filter.contaminated goes with embeddings"),
    ({"filter": {"round_trip": 0, "context": "span"}}, "filter.context goes with filter.round_trip"),
    ({"student": {"model": MODEL}}, "student and adapt go together"),
    ({"adapt": STUDENT["adapt"]}, "student and adapt go together"),
    (STUDENT | {"student": {"initialise": "linear"}}, "a linear student reads no documents: give student.model"),
    (STUDENT | {"student": {"model": MODEL, "loss": "jsd"}}, "student.loss is for a task: adapt learns text"),
]


def load(folder: Path, **more: Any) -> field.FieldRecipe:
    path = folder / "field.yaml"
    path.write_text(yaml.safe_dump(SMALL | more), encoding="utf-8")
    return field.load(path)


def test_little_is_required(tmp_path: Path) -> None:
    found = load(tmp_path)
    assert found.synthesize.kinds == ["questions"]
    assert (found.student, found.adapt, found.embeddings) == (None, None, None)


def test_flags_go_over_the_file(tmp_path: Path) -> None:
    load(tmp_path)
    assert field.load(tmp_path / "field.yaml", ["chunks.characters=400"]).chunks.characters == 400


@pytest.mark.parametrize(("settings", "words"), REFUSED)
def test_what_cannot_be_is_refused(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load(tmp_path, **settings)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_validator_is_tested_above() -> None:
    modules = [Path(field.__file__), Path(field.__file__).with_name("documents.py")]
    assert untested(modules, [says for _, says in REFUSED]) == []


def test_a_recipe_of_the_other_sort_is_told(tmp_path: Path) -> None:
    load(tmp_path)
    with pytest.raises(RecipeError, match=r"is the recipe of a field: .* Give it to aasut synthesize or aasut adapt"):
        recipe.load(tmp_path / "field.yaml")
    task = tmp_path / "task.yaml"
    task.write_text("task: {}\nname: x\n", encoding="utf-8")
    with pytest.raises(RecipeError, match="is the recipe of a task: it names no documents"):
        field.load(task)


def test_paths_lead_from_the_folder_that_the_recipe_is_copied_to(tmp_path: Path) -> None:
    base, folder = tmp_path / "recipes", tmp_path / "runs" / "manuals"
    base.mkdir()
    packed = {"source": "deb:nut-doc=2.8.0-7", "sha256": "a" * 64}
    more = {
        "documents": [{"source": "../manuals"}, packed, {"source": "/srv/manuals"}],
        "held_out": [{"source": "gold.csv"}],
        "embeddings": MODEL,
        "teacher": {"model": {"address": "file:../models/big"}},
        "student": {"model": MODEL},
        "adapt": {"replay": [{"source": "general"}, packed]},
    }
    text = field.text_at(load(base, **more), base, folder)
    (folder / "recipe.yaml").parent.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(text, encoding="utf-8")
    again = field.load(folder / "recipe.yaml")
    assert again.adapt is not None
    assert again.student is not None
    sources = [one.source for one in (*again.documents, *again.held_out, *again.adapt.replay)]
    assert sources == [
        "../../manuals", "deb:nut-doc=2.8.0-7", "/srv/manuals", "../../recipes/gold.csv", "../../recipes/general",
        "deb:nut-doc=2.8.0-7",
    ]  # fmt: skip
    models = [again.embeddings, again.teacher.model, again.student.model]
    assert [one.address for one in models if one] == [
        "file:../../recipes/model", "file:../../models/big", "file:../../recipes/model",
    ]  # fmt: skip


def test_what_is_set_to_nothing_is_copied_as_that(tmp_path: Path) -> None:
    found = load(tmp_path, adapt=None, student=None, embeddings=None)
    (tmp_path / "again.yaml").write_text(field.text_at(found, tmp_path, tmp_path), encoding="utf-8")
    assert field.load(tmp_path / "again.yaml") == found


def test_every_field_has_a_docstring() -> None:
    def undocumented(model: type[recipe.Section]) -> list[str]:
        return [f"{model.__name__}.{name}" for name, info in model.model_fields.items() if not info.description]

    models = [one for one in vars(field).values() if isinstance(one, type) and issubclass(one, recipe.Section)]
    assert len(models) > 8
    assert [name for model in models for name in undocumented(model)] == []


def test_no_field_is_read_by_nothing() -> None:
    root = Path(aasut.__file__).parent
    source = "".join(path.read_text("utf-8") for path in root.rglob("*.py") if path.parent.name != "recipe")
    models = [
        one
        for one in vars(field).values()
        if isinstance(one, type)
        and issubclass(one, recipe.Section)
        and one.__module__ in (field.__name__, "aasut.recipe.documents")
    ]
    assert len(models) > 8
    unread = [f"{m.__name__}.{n}" for m in models for n in m.model_fields if not re.search(rf"\.{n}\b", source)]
    assert unread == []
