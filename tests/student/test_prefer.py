"""Stages `rank` and `prefer`, whole: a tiny student, a scripted judge behind HTTP, kills, and what is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small_run
from aasut import pipeline, recipe
from aasut.data import preference
from aasut.pipeline import Run
from aasut.progress import Progress
from aasut.teacher.server import ScriptedServer

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
    print(json.dumps(facts))
    assert before["loss"] == pytest.approx(np.log(2))
    assert after["loss"] < before["loss"]
    assert before["accuracy"] == 0.5
    assert after["accuracy"] > 0.8
    assert after["margin"] > 0 == before["margin"]
    assert after["chosen"] > after["rejected"]
