"""Stages `rank` and `prefer`, whole: a tiny student, a scripted judge behind HTTP, kills, and what is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import small_run
from aasut import pipeline, recipe
from aasut.data import preference
from aasut.formats import safetensors
from aasut.pipeline import Run
from aasut.progress import Progress
from aasut.store import Store
from aasut.student import own_answers
from aasut.teacher.server import ScriptedServer
from aasut.types import Example

QUIET = Progress(quiet=True)

RULES = {"Which answer is better": "{{better good}}", "0": "so good", "3": "is good", "5": "so bad", "7": "poor",
         "": "is bad"}  # fmt: skip
SECTION = {"rubric": "Which is good?", "inputs": 60, "samples": 6, "learning_rate": 3e-4, "epochs": 4}


def write_run(folder: Path, model: Path, url: str, **changes: Any) -> Path:
    """A recipe whose teacher answers by a number that the student does not see, so that its answers differ."""
    endpoint = {"base_url": url, "model": "m", "api_key_env": "", "concurrency": 4, "usd_per_million_input_tokens": 1,
                "usd_per_million_output_tokens": 1}  # fmt: skip
    plain = small_run.recipe(
        task={"kind": "generate", "prompt": "Text: {text} {number}", "max_tokens": 24},
        teacher={"endpoint": endpoint, "max_usd": 1.0},
        student={"model": {"address": f"file:{model}"}, "prompt": "{text} =", "precision": "float32", "epochs": 30,
                 "batch_examples": 8, "learning_rate": 3e-3, "checks": 4, "preference": SECTION},
        export={"serve": "safetensors", "engine": "torch", "precision": "float32", "round_trip": 4},
    )  # fmt: skip
    plain["data"]["split"] = {"pool": 100}
    plain["data"]["tables"][0]["slots"] = {"text": "text", "number": "number"}
    path = small_run.write_recipe(folder, plain | changes)
    rows = small_run.sentences(120)
    for row in rows:
        row["text"], row["number"] = row["text"].split()[0], row["id"][1:]
        row["sentiment"] = "so good"
    small_run.write_table(folder / "table.csv", rows)
    return path


def run(path: Path, *flags: str) -> Run:
    return pipeline.run(recipe.load(path, flags), path.parent, path.parent / "runs", Progress(quiet=True))


@pytest.fixture(scope="module")
def finished(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Run, ScriptedServer]]:
    """(recipe, finished run, the teacher). Not to be changed."""
    with ScriptedServer(RULES) as server:
        path = write_run(tmp_path_factory.mktemp("prefer"), tiny_llama, server.url)
        yield path, run(path), server


def artefact(found: Run, stage: str) -> Path:
    (name,) = (entry["fingerprint"] for entry in found.facts["lineage"] if entry["stage"] == stage)
    return found.folder.parent / ".store" / "artefacts" / name


def test_it_learns_what_the_teacher_prefers(finished: tuple[Path, Run, ScriptedServer]) -> None:
    _, found, _ = finished
    pairs = preference.load(artefact(found, "rank"))
    assert len(pairs) >= 20
    assert all(pair.chosen.count("good") > pair.rejected.count("good") for pair in pairs)
    facts = found.facts["training"]["preference"]
    before, after = facts["validation"]["before"], facts["validation"]["after"]
    assert not facts["stayed"]
    assert before["loss"] == pytest.approx(np.log(2))
    assert after["loss"] == pytest.approx(facts["best_loss"], abs=0.03)  # of the weights rounded to bfloat16
    assert after["loss"] < before["loss"]
    assert before["accuracy"] == 0.5
    assert after["accuracy"] > 0.8
    assert after["margin"] > 0 == before["margin"]
    assert after["chosen"] > after["rejected"]
    assert after["likelier"] > before["likelier"]


def test_the_student_that_is_served_is_the_one_that_learned_preferences(
    finished: tuple[Path, Run, ScriptedServer],
) -> None:
    """It says good more often than the one that was trained, which is what the teacher asked for."""
    path, found, _ = finished
    weights = artefact(found, "prefer") / "model.safetensors"
    exported = safetensors.load(found.folder / "student")
    assert all(torch.equal(exported[name], one) for name, one in safetensors.load(weights.parent).items())
    loaded = recipe.load(path)
    inputs = [Example(f"x{i}", {"text": small_run.NOUNS[i % 12], "number": "1"}, f"{i}") for i in range(60)]
    share = []
    for stage in ("train", "prefer"):
        folder = path.parent / stage
        folder.mkdir()
        given = own_answers.draw(loaded, artefact(found, stage), inputs, folder, QUIET)
        share.append(np.mean(["good" in text for own in given for text in own.texts]))
    assert share[1] > share[0]


def test_rows_and_calls_are_accounted_for(finished: tuple[Path, Run, ScriptedServer]) -> None:
    _, found, server = finished
    rows = found.facts["conservation"]
    for what in ("rank, inputs", "rank, answers", "rank, pairs", "prefer, pairs"):
        assert rows[what]["in"] == rows[what]["kept"] + sum(
            sum(rows[what][lost].values()) for lost in ("dropped", "failed")
        )
    assert rows["rank, inputs"]["in"] == 60
    assert rows["rank, answers"]["in"] == 60 * 6
    assert rows["prefer, pairs"]["in"] == rows["rank, pairs"]["kept"]
    assert rows["prefer, pairs"]["kept"] == found.facts["training"]["preference"]["pairs"]
    assert found.facts["ledger"]["calls_made"] == server.stats()["answered"]
    assert server.stats()["answered_again"] == 0
    page = (found.folder / "report.html").read_text(encoding="utf-8")
    assert 'id="preferred"' in page
    assert "preference-losses" in page


def test_the_second_run_asks_nothing_and_changes_nothing(finished: tuple[Path, Run, ScriptedServer]) -> None:
    path, first, server = finished
    asked = server.stats()["requests"]
    again = run(path)
    assert again.calls_made == 0
    assert again.facts == first.facts
    assert server.stats()["requests"] == asked


def test_how_it_is_learned_changes_no_verdict_and_no_training(
    finished: tuple[Path, Run, ScriptedServer], tmp_path: Path
) -> None:
    """Another beta asks nothing; without the section nothing of it is left."""
    path, first, server = finished
    asked = server.stats()["requests"]
    with Store(path.parent / "runs" / ".store") as store:
        stages = pipeline.Stages(recipe.load(path, ["student.preference.beta=0.5"]), path.parent, store, QUIET)
        done = stages.all()
        stages.close()
    assert done["rank"].reused
    assert done["train"].reused
    assert not done["prefer"].reused
    names = {entry["stage"]: entry["fingerprint"] for entry in first.facts["lineage"]}
    assert done["train"].fingerprint == names["train"]
    assert server.stats()["requests"] == asked
    with Store(path.parent / "runs" / ".store") as store:
        plain = recipe.load(path)
        without = plain.model_copy(update={"student": plain.student.model_copy(update={"preference": None})})
        bare = pipeline.Stages(without, path.parent, store, QUIET).all()
    assert "rank" not in bare
    assert bare["train"].fingerprint == names["train"]
    assert bare["export"].fingerprint != names["export"]
