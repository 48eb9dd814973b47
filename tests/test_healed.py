"""Whole runs whose student is healed before its task: once for all recipes of a shape, and nothing of it is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import small_run
from aasut import pipeline, recipe
from aasut.formats import safetensors
from aasut.pipeline import Run
from aasut.progress import Progress

GENERAL = "\n".join(json.dumps({"text": f"It rained on day {i}, and street {i % 7} was empty."}) for i in range(80))
HEAL = {"texts": [{"source": "general.jsonl", "licence": "CC-BY-4.0"}], "context": 64, "learning_rate": 3e-3}


def write_run(folder: Path, model: Path, name: str = "words", **student: Any) -> Path:
    """A recipe whose student is one of the model's two layers, healed."""
    settings = {"initialise": "pruned", "model": {"address": f"file:{model}"}, "shape": {"layers": 1}, "heal": HEAL,
                "epochs": 1, "precision": "float32"}  # fmt: skip
    plain = small_run.recipe(name=name, student=settings | student)
    path = small_run.write_recipe(folder, plain, rows=80)
    (folder / "general.jsonl").write_text(GENERAL, encoding="utf-8")
    return path


def run(path: Path, root: Path, *flags: str) -> Run:
    return pipeline.run(recipe.load(path, flags), path.parent, root, Progress(quiet=True))


def made(found: Run, root: Path, stage: str) -> tuple[str, Path]:
    """(fingerprint, folder) of a stage of a run."""
    fingerprint = next(entry["fingerprint"] for entry in found.facts["lineage"] if entry["stage"] == stage)
    return fingerprint, root / ".store" / "artefacts" / fingerprint


@pytest.fixture(scope="module")
def healed(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """(recipe, finished run in the folder `runs` beside it). Not to be changed."""
    path = write_run(tmp_path_factory.mktemp("healed"), tiny_llama)
    return path, run(path, path.parent / "runs")


def test_the_task_is_learned_from_the_healed_start(healed: tuple[Path, Run]) -> None:
    path, found = healed
    stages = [entry["stage"] for entry in found.facts["lineage"]]
    assert [stage for stage in stages if stage in ("general", "heal", "initialise", "train")] == [
        "general", "heal", "initialise", "train",
    ]  # fmt: skip
    start, end = (safetensors.load(made(found, path.parent / "runs", stage)[1]) for stage in ("heal", "initialise"))
    assert start.keys() == end.keys()
    assert all(torch.equal(start[name], end[name]) for name in start)


def test_the_report_tells_of_it(healed: tuple[Path, Run]) -> None:
    _, found = healed
    training = found.facts["training"]
    told = training["heal"]
    assert training["initialise"]["removed"]["layers"] in ([0], [1])
    assert training["initialise"]["healed"]["tokens"] == told["tokens_learned"] > 1000
    assert set(told["loss"]) == {"source", "start", "healed"}
    assert told["seconds"] > 0
    rows = found.facts["conservation"]["heal (tokens)"]
    assert rows["kept"] == told["tokens_learned"]
    assert {"general files", "general documents"} <= set(found.facts["conservation"])
    page = (found.folder / "report.html").read_text(encoding="utf-8")
    assert f"{told['tokens_learned']:,} tokens" in page
    assert f"{told['loss']['healed']['bits_per_byte']:.3f}" in page
    assert page.count('id="healing') >= 1
    card = (found.folder / "card.md").read_text(encoding="utf-8")
    assert "general text: general.jsonl (CC-BY-4.0)" in card
    assert "general text: general.jsonl" in {entry["what"] for entry in found.facts["licences"]}


def test_another_recipe_reuses_it(healed: tuple[Path, Run], tiny_llama: Path) -> None:
    """Another name, task, data and training, in the same folder of runs."""
    path, found = healed
    root = path.parent / "runs"
    other = write_run(path.parent / "other", tiny_llama, name="others", learning_rate=1e-3)
    plain = yaml.safe_load(other.read_text())
    plain["task"] |= {"prompt": "Is it good? {text}", "labels": ["positive", "negative"]}
    other.write_text(yaml.safe_dump(plain))
    small_run.write_table(other.parent / "table.csv", small_run.sentences(60, seed=5))
    again = run(other, root)
    for stage in ("general", "heal"):
        assert made(again, root, stage)[0] == made(found, root, stage)[0]
    for stage in ("data", "initialise", "train"):
        assert made(again, root, stage)[0] != made(found, root, stage)[0]
    assert again.facts["training"]["heal"] == found.facts["training"]["heal"]


@pytest.mark.parametrize(
    "flag", ["student.shape={choose: block, layers: 1}", "seed=8", "student.heal.tokens=1000"],
    ids=["shape", "seed", "tokens"],
)  # fmt: skip
def test_another_shape_is_healed_anew(flag: str, healed: tuple[Path, Run]) -> None:
    path, found = healed
    again = run(path, path.parent / "runs", flag)
    assert made(again, path.parent / "runs", "general")[0] == made(found, path.parent / "runs", "general")[0]
    assert made(again, path.parent / "runs", "heal")[0] != made(found, path.parent / "runs", "heal")[0]


def test_the_kept_recipe_still_finds_the_texts(healed: tuple[Path, Run]) -> None:
    path, found = healed
    kept = recipe.load(found.folder / "recipe.yaml")
    assert kept.student.heal is not None
    source = Path(kept.student.heal.texts[0].source)
    assert not source.is_absolute()
    assert (found.folder / source).resolve() == (path.parent / "general.jsonl").resolve()


def test_a_run_without_healing_keeps_its_fingerprints(healed: tuple[Path, Run], tiny_llama: Path) -> None:
    path, _ = healed
    plain = write_run(path.parent / "plain", tiny_llama, name="plain", heal=None)
    found = run(plain, path.parent / "runs")
    assert "heal" not in {entry["stage"] for entry in found.facts["lineage"]}
    assert "heal" not in found.facts["training"]
    assert "healed" not in found.facts["training"]["initialise"]
