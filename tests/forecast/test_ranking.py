"""What ranking a student's answers will ask, and that nothing is left of it after the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import small_run
from aasut import pipeline, recipe
from aasut.errors import TeacherError
from aasut.forecast import work as works
from aasut.forecast.forecast import forecast
from aasut.forecast.rehearse import Rehearsal
from aasut.forecast.work import Work
from aasut.progress import Progress
from aasut.recipe.scale import scaled
from aasut.store import Store

QUIET = Progress(quiet=True)
SCHEMA = {"type": "object", "properties": {"a": {"enum": ["x", "y", "zz"]}}, "required": ["a"],
          "additionalProperties": False}  # fmt: skip
ENDPOINT = {"base_url": "http://127.0.0.1:9/v1", "model": "m", "api_key_env": "", "concurrency": 1,
            "usd_per_million_input_tokens": 1000, "usd_per_million_output_tokens": 1000}  # fmt: skip


def write(folder: Path, model: Path, **changes: Any) -> Path:
    preference = {"rubric": "Which is y?", "inputs": 20, "samples": 8, "pairs": 2, "epochs": 3, "temperature": 2.0}
    plain = small_run.recipe(
        task={"kind": "extract", "schema": SCHEMA, "prompt": "Text: {text}", "max_tokens": 24},
        teacher={"scripted": {"Which answer is better": "{{better y}}", "1": '{"a": "x"}', "2": '{"a": "y"}',
                              "": '{"a": "zz"}'}},
        student={"model": {"address": f"file:{model}"}, "prompt": "{text} =", "epochs": 1, "preference": preference},
        export={"serve": "safetensors", "round_trip": 2},
    )  # fmt: skip
    plain["data"]["split"] = {"pool": 100}
    path = small_run.write_recipe(folder, plain | changes)
    rows = [row | {"sentiment": f'{{"a": "{"xy"[i % 2]}"}}'} for i, row in enumerate(small_run.sentences(60))]
    small_run.write_table(folder / "table.csv", rows)
    return path


def counted(path: Path, scratch: Path) -> Work:
    scratch.mkdir()
    with Store(path.parent / "runs" / ".store") as store:
        rehearsal = Rehearsal(recipe.load(path), path.parent, store, QUIET, scratch)
        return works.count(rehearsal, rehearsal.rehearse("full"))


def test_the_calls_are_those_of_all_pairs_in_both_orders(tiny_llama: Path, tmp_path: Path) -> None:
    path = write(tmp_path, tiny_llama)
    before = counted(path, tmp_path / "one")
    assert before["rank"].calls == 20 * 2 * 2
    assert before["rank"].units["served.written"] == 20 * 8
    assert before["prefer"].units["train.positions"] > 0
    done = pipeline.run(recipe.load(path), tmp_path, tmp_path / "runs", QUIET)
    asked = done.facts["conservation"]["rank, pairs"]["in"]
    assert 0 < 2 * asked <= before["rank"].calls
    after = counted(path, tmp_path / "two")
    assert all(stage.reused and not stage.calls and not sum(stage.units.values()) for stage in after.stages)
    with Store(tmp_path / "runs" / ".store") as store:
        assert works.STAGES.index("rank") < works.STAGES.index("prefer") < works.STAGES.index("export")
        assert {entry.stage for entry in store.entries().values()} >= {"rank", "prefer"}


def test_the_cap_counts_verdicts_too(tiny_llama: Path, tmp_path: Path) -> None:
    path = write(tmp_path, tiny_llama, teacher={"endpoint": ENDPOINT, "max_usd": 1e9})
    found = forecast(recipe.load(path), tmp_path, tmp_path / "runs", QUIET, probing=False)
    rank = next(line for line in found.lines if line.stage == "rank")
    assert rank.calls == 80
    assert rank.usd > 0 < rank.seconds
    assert "at most, as if they all were different" in found.how["calls"]
    assert found.problem() is None
    until = sum(line.usd for line in found.lines if line.stage in ("choose", "label")) + rank.usd / 2
    tight = write(tmp_path, tiny_llama, teacher={"endpoint": ENDPOINT, "max_usd": until})
    problem = forecast(recipe.load(tight), tmp_path, tmp_path / "runs", QUIET, probing=False).problem()
    assert isinstance(problem, TeacherError)


@pytest.mark.parametrize("name", ["inputs", "samples", "pairs", "epochs"])
def test_a_small_scale_ranks_little(name: str, tiny_llama: Path, tmp_path: Path) -> None:
    loaded = recipe.load(write(tmp_path, tiny_llama))
    small = scaled(loaded, "ci").student.preference
    assert small is not None
    assert loaded.student.preference is not None
    assert getattr(small, name) <= getattr(loaded.student.preference, name)
    assert small.inputs * small.pairs <= 48
    assert small.rubric == "Which is y?"
