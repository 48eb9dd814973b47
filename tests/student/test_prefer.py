"""Stages `rank` and `prefer`, whole: a tiny student, a scripted judge behind HTTP, kills, and what is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import small_run
from aasut import pipeline, recipe
from aasut.data import preference
from aasut.data.preference import Pair
from aasut.errors import DataError
from aasut.files import folder_hash
from aasut.formats import safetensors
from aasut.pipeline import Run
from aasut.progress import Progress, Step
from aasut.store import Store
from aasut.student import own_answers, prefer
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


class Stop(Exception):
    """The end of a process."""


class Stopping(Progress):
    """Ends the run when so many parts of a step are done."""

    def __init__(self, what: str, after: int) -> None:
        super().__init__(quiet=True)
        self.what, self.after = what, after

    @contextmanager
    def steps(self, what: str, total: int) -> Iterator[Step]:
        with super().steps(what, total) as step:
            yield _Stopped(self, what, total, self.after) if what == self.what else step


class _Stopped(Step):
    def __init__(self, progress: Progress, what: str, total: int, after: int) -> None:
        super().__init__(progress, what, total)
        self.after = after

    def advance(self, parts: int = 1, note: str = "", *, resumed: bool = False) -> None:
        super().advance(parts, note, resumed=resumed)
        if self.done >= self.after and not resumed:
            raise Stop


def test_broken_off_anywhere_it_goes_on_to_the_same_student(
    finished: tuple[Path, Run, ScriptedServer], tiny_llama: Path, tmp_path: Path
) -> None:
    path, whole, server = finished
    loaded = recipe.load(path, ["student.checkpoint_s=0"])
    asked = server.stats()["answered"]
    for what, after in (("student answers anew", 256), ("teacher ranks the student's answers", 40)):
        with pytest.raises(Stop):
            pipeline.run(loaded, path.parent, tmp_path / "runs", Stopping(what, after))
    with pytest.raises(Stop):  # the training of its own is done by now, so that this is the other one
        pipeline.run(loaded, path.parent, tmp_path / "runs", Stopping("student learns", 7))
    assert list((tmp_path / "runs" / ".store" / "work").glob("*/checkpoint*"))
    found = pipeline.run(loaded, path.parent, tmp_path / "runs", QUIET)
    again = server.stats()["answered"] - asked
    assert 0 <= again - whole.facts["ledger"]["calls_made"] <= 4  # those in flight when it broke off
    for stage in ("rank", "prefer"):
        assert folder_hash(artefact(found, stage)) == folder_hash(artefact(whole, stage))
    assert found.facts["conservation"] == whole.facts["conservation"]


def build(model: Path, folder: Path, texts: tuple[str, str] = ("yes", "no"), **student: Any) -> dict[str, Any]:
    """Stage `prefer` alone, on pairs of the same two answers to ten inputs."""
    plain = small_run.recipe(task={"kind": "generate", "prompt": "Text: {text}", "max_tokens": 24})
    section = {"rubric": "x", "learning_rate": 1e-3, "epochs": 2}
    plain["student"] = {"model": {"address": f"file:{model}"}, "precision": "float32", "batch_examples": 4,
                        "preference": section, **student}  # fmt: skip
    pool = [Example(f"{i}", {"text": f"no {i}"}, f"g{i}") for i in range(10)]
    pairs = [Pair(example.id, example.group, *texts) for example in pool]
    return prefer.build(recipe.parse(plain, "recipe"), model, pool, pairs, folder, QUIET)


def test_where_nothing_gets_better_the_student_stays_as_it_was(tiny_llama: Path, tmp_path: Path) -> None:
    facts = build(tiny_llama, tmp_path, preference={"rubric": "x", "learning_rate": 1e-30})
    assert facts["stayed"]
    assert (tmp_path / "model.safetensors").read_bytes() == (tiny_llama / "model.safetensors").read_bytes()
    assert facts["validation"]["after"]["accuracy"] == 0.5


@pytest.mark.parametrize(
    "option", [{"lora": {"rank": 4}}, {"frozen_layers": 1}, {"micro_tokens": 20}, {"processes": 2}]
)
def test_the_students_settings_of_training_hold_here_too(
    option: dict[str, Any], tiny_llama: Path, tmp_path: Path
) -> None:
    plain, changed = build(tiny_llama, tmp_path / "plain"), build(tiny_llama, tmp_path / "changed", **option)
    assert changed["validation"]["after"]["loss"] < changed["validation"]["before"]["loss"]
    same = changed["validation"]["after"]["loss"] == pytest.approx(plain["validation"]["after"]["loss"], abs=2e-3)
    assert same == (next(iter(option)) in ("micro_tokens", "processes"))
    weights = [safetensors.load(tmp_path / name) for name in ("plain", "changed")]
    lowest = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(weights[0][lowest], safetensors.load(tiny_llama)[lowest])
    assert torch.equal(weights[1][lowest], safetensors.load(tiny_llama)[lowest]) == ("frozen_layers" in option)


def test_answers_that_are_too_long_are_counted_or_told(tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="None of the 10 pairs of answers can be learned from"):
        build(tiny_llama, tmp_path, ("yes", "0123456789" * 3))
