"""From documents to a student that knows the field: every stage in order, on a small manual in English and Hindi."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import chunked
from aasut import field, words
from aasut import recipe as recipes
from aasut.cli import app
from aasut.errors import RecipeError
from aasut.finished import place
from aasut.progress import Progress
from aasut.recipe.field import FieldRecipe
from aasut.recipe.field import load as load_field

QUIET = Progress(quiet=True)
RULES = {  # asked in Hindi, the teacher answers in Hindi
    words: answer if words.isascii() else answer.replace("What of ", "पुस्तिका में क्या लिखा है: ")
    for words, answer in chunked.RULES.items()
}
PLAIN: dict[str, Any] = {
    "name": "upkeep",
    "documents": [{"source": "manual", "licence": "CC0-1.0"}],
    "split": {"train": 60, "tune": 20, "test": 20},
    "teacher": {"scripted": RULES},
    "synthesize": {"kinds": ["questions", "conversations", "reading"], "strategies": 1, "turns": 2, "held_out": 4},
    "filter": {"round_trip": 0, "near_duplicates": 1},
}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder with a manual of twenty pages, half of them in Hindi, and one file that is none."""
    folder = tmp_path / "manual"
    folder.mkdir()
    for number in range(10):
        (folder / f"en-{number}.md").write_text(chunked.english(number), encoding="utf-8")
        (folder / f"hi-{number}.md").write_text(chunked.hindi(number), encoding="utf-8")
    (folder / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))
    return tmp_path


def recipe(**more: Any) -> FieldRecipe:
    return FieldRecipe.model_validate(PLAIN | {"chunks": {"least": 20}} | more)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_documents_become_tables_that_a_run_takes(base: Path) -> None:
    root = base / "runs"
    made = field.synthesize(recipe(), base, root, QUIET)
    assert made.folder == root / "upkeep"
    assert made.calls_made > 20
    facts = made.facts["synthesis"]
    assert facts["files"] == {"in": 21, "kept": 20, "dropped": {}, "failed": {"not a document": 1}}
    train, held = (lines(made.folder / "tables" / f"{name}.jsonl") for name in ("train", "held_out"))
    assert train
    assert held
    assert not {row["document"] for row in train} & {row["document"] for row in held}
    assert {row["document"][:2] for row in train} == {"en", "hi"}
    task = recipes.load(made.folder / "task.yaml")
    assert task.data.tables[0].taught == "answer"
    assert {path.name for path in made.folder.iterdir()} >= {
        "synthesis.html", "synthesis.json", "report.json", "recipe.yaml", "index", "texts.jsonl", "chat.jsonl",
    }  # fmt: skip
    assert load_field(made.folder / "recipe.yaml").documents[0].source == "../../manual"


def test_a_second_time_nothing_is_asked_and_nothing_changes(base: Path) -> None:
    first = field.synthesize(recipe(), base, base / "runs", QUIET)
    before = {path: path.read_bytes() for path in first.folder.rglob("*") if path.is_file()}
    again = field.synthesize(recipe(), base, base / "runs", QUIET)
    assert again.calls_made == 0
    assert {path: path.read_bytes() for path in again.folder.rglob("*") if path.is_file()} == before


def test_a_page_more_asks_about_that_page_alone(base: Path) -> None:
    first = field.synthesize(recipe(), base, base / "runs", QUIET)
    (base / "manual" / "en-99.md").write_text(chunked.english(99), encoding="utf-8")
    more = field.synthesize(recipe(), base, base / "runs", QUIET)
    assert 0 < more.calls_made < first.calls_made / 2


def test_a_preview_shows_items_and_publishes_nothing(base: Path) -> None:
    found = field.preview(recipe(), base, base / "runs", QUIET, 5)
    assert len(found["items"]) == 5
    assert found["estimate"]["requests"] > 5
    assert not (base / "runs" / "upkeep").exists()


def test_what_was_held_out_elsewhere_is_dropped(base: Path) -> None:
    free = field.synthesize(recipe(), base, base / "runs", QUIET)
    asked = lines(free.folder / "tables" / "train.jsonl")
    (base / "ours.txt").write_text("\n\n".join(row["question"] + " " + row["answer"] for row in asked[:3]), "utf-8")
    found = field.synthesize(recipe(held_out=[{"source": "ours.txt"}]), base, base / "runs", QUIET)
    left = {row["id"] for row in lines(found.folder / "tables" / "train.jsonl")}
    assert not left & {row["id"] for row in asked[:3]}
    assert found.facts["synthesis"]["reasons"]["train"]["repeats what is held out"] >= 3


def test_the_index_is_searched_by_the_command(base: Path) -> None:
    made = field.synthesize(recipe(), base, base / "runs", QUIET)
    asked = ["search", str(made.folder / "recipe.yaml"), "संघनित्र", "--root", str(base / "runs"), "--json"]
    shown = CliRunner().invoke(app, asked)
    hits = json.loads(shown.output)["hits"]
    assert hits
    assert "संघनित्र" in hits[0]["text"]
    assert hits[0]["document"].startswith("hi-")


def test_its_runs_are_listed_shown_and_kept(base: Path) -> None:
    made = field.synthesize(recipe(), base, base / "runs", QUIET)
    root = ["--root", str(base / "runs")]
    assert "upkeep" in CliRunner().invoke(app, ["runs", "list", *root]).output
    shown = CliRunner().invoke(app, ["runs", "show", "upkeep", *root])
    assert shown.exit_code == 0, shown.output
    assert "Files      20 of 21 read; 1 not a document" in shown.output
    assert CliRunner().invoke(app, ["runs", "verify", "upkeep", *root]).exit_code == 0
    assert CliRunner().invoke(app, ["runs", "tree", "upkeep", *root]).exit_code == 0
    (made.folder / "tables" / "train.jsonl").write_text("changed", encoding="utf-8")
    assert CliRunner().invoke(app, ["runs", "verify", "upkeep", *root]).exit_code == 1
    with pytest.raises(RecipeError, match="is the recipe of a field"):
        recipes.load(place("upkeep", base / "runs"))


def learning(model: Path, **adapt: Any) -> dict[str, Any]:
    student = {"model": {"address": f"file:{model}"}, "epochs": 1, "batch_examples": 4, "precision": "float32"}
    return {
        "student": student | {"validation": 0.2, "checks": 1},
        "adapt": {"replay": [{"source": "general"}], "context": 64, "replay_share": 0.2} | adapt,
    }


def general(base: Path) -> None:
    (base / "general").mkdir()
    for number in range(12):
        text = (
            f"Letter {number}. The council met on day {number} and spoke of the harbour, the school and the roads. " * 3
        )
        (base / "general" / f"{number}.txt").write_text(text, encoding="utf-8")


def test_a_student_reads_the_field_and_is_measured(base: Path, tiny_llama: Path) -> None:
    general(base)
    model = base / "model"
    shutil.copytree(tiny_llama, model)
    made = field.adapt(recipe(**learning(model)), base, base / "runs", QUIET)
    facts = made.facts["adaptation"]
    assert set(facts["train"]["tokens_learned"]) == {"documents", "generated", "general"}
    assert facts["train"]["tokens_learned"]["generated"] > 0
    assert facts["train"]["replay_share"] == pytest.approx(0.2, abs=0.01)
    sets = facts["evaluate"]["sets"]
    assert set(sets) == {"field", "general"}
    assert set(sets["field"]["models"]) == {"before", "after"}
    assert (made.folder / "adapted" / "model.safetensors").is_file()
    assert (made.folder / "adaptation.html").is_file()
    assert field.adapt(recipe(**learning(model)), base, base / "runs", QUIET).calls_made == 0


def test_documents_alone_are_learned_without_a_question(base: Path, tiny_llama: Path) -> None:
    general(base)
    model = base / "model"
    shutil.copytree(tiny_llama, model)
    made = field.adapt(recipe(**learning(model, generated=False)), base, base / "runs", QUIET)
    assert made.calls_made == 0
    assert "synthesis" not in made.facts
    assert made.facts["adaptation"]["train"]["tokens_learned"]["generated"] == 0


def test_real_hindi_is_read_asked_about_and_kept_in_hindi(tmp_path: Path) -> None:
    """The help of LibreOffice in Hindi, of which much is in English: each chunk is asked about in its own language."""
    pages = [f"**/text/{part}/*.html" for part in ("simpress", "smath/04", "smath/guide", "schart", "shared/00")]
    packed = {
        "source": "deb:libreoffice-help-hi=4:7.4.7-1+deb12u14",
        "sha256": "fda6f59354cb79f7ecfe379a502b009119a506aa0873416b044f1f39ad00a4cf",
        "include": pages,
    }
    made = field.synthesize(
        recipe(documents=[packed], synthesize={"kinds": ["questions"], "held_out": 30}), tmp_path, tmp_path, QUIET
    )
    spoken = made.facts["synthesis"]["splits"]["train"]["languages"]
    assert spoken["hi"] >= 5
    assert spoken["en"] > spoken["hi"]
    rows = lines(made.folder / "chat.jsonl")
    hindi = [row for row in rows if any("पुस्तिका में" in turn["content"] for turn in row["messages"])]
    assert hindi
    for row in hindi:
        assert words.script(row["messages"][1]["content"]) == "Devanagari"
    assert any(words.script(row["messages"][1]["content"]) == "Latin" for row in rows)


def test_a_recipe_without_a_student_is_refused(base: Path) -> None:
    with pytest.raises(RecipeError, match="upkeep has no student to adapt"):
        field.adapt(recipe(), base, base / "runs", QUIET)
