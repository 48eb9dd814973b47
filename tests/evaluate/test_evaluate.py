from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import small_run
from aasut import recipe as recipes
from aasut.data.panel import Panel, Shot
from aasut.engine import base
from aasut.errors import TeacherError
from aasut.evaluate import evaluate
from aasut.evaluate.candidates import Models
from aasut.formats import safetensors
from aasut.progress import Progress
from aasut.student import linear
from aasut.student.train import answer_texts, linear_prompt, prompts_of
from aasut.teacher.ledger import Ledger
from aasut.teacher.local import LocalTeacher
from aasut.teacher.scripted import ScriptedTeacher
from aasut.types import Conservation, Example

QUIET = Progress(quiet=True)
SHARES = [0.4, 0.6]
LABELLED = {"answers": {"negative": 8, "positive": 12}}  # what the teacher answered to the pool
RULES = {"no 7": "maybe", "no 9": "it depends", **small_run.RULES}  # two answers that are not in the list
SHOTS = (Shot({"text": "great phone"}, "positive"), Shot({"text": "awful phone"}, "negative"))


def recipe(student: dict[str, Any] | None = None, max_failed: float = 0.1) -> recipes.Recipe:
    wanted = {"model": {"address": "file:model"}, "prompt": "Review: {text}\nSentiment:"}
    export = {"serve": "safetensors", "engine": "torch", "precision": "float32"}
    plain = small_run.recipe(student=student or wanted, export=export if student is None else {})
    teacher = {"scripted": RULES, "max_failed": max_failed}
    return recipes.parse(plain | {"teacher": teacher, "evaluate": {"timing_requests": 12}}, "test")


@pytest.fixture(scope="module")
def split() -> list[Example]:
    return [
        Example(row["id"], {"text": row["text"]}, row["review"], row["sentiment"]) for row in small_run.sentences(30)
    ]


@pytest.fixture(scope="module")
def models(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Models:
    """A student that is not the model it began as, and a linear model."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(tiny_llama, folder / "student")
    weights = safetensors.load(folder / "student")
    torch.manual_seed(9)
    moved = {name: t.float() + 0.05 * torch.randn(t.shape) if "layers" in name else t for name, t in weights.items()}
    safetensors.save(moved, folder / "student" / "model.safetensors")
    rows = small_run.sentences(60, seed=2)
    soft = np.array([[0.1, 0.9] if row["sentiment"] == "positive" else [0.9, 0.1] for row in rows])
    linear.fit([row["text"] for row in rows], soft, range(10), ["negative", "positive"], folder / "linear")
    return Models(student=folder / "student", linear=folder / "linear", untrained=tiny_llama, student_q8_0=None)


@pytest.fixture(scope="module")
def done(models: Models, split: list[Example], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("evaluated")
    ledger = Ledger(ScriptedTeacher(RULES), folder / "ledger.db")
    panel = Panel.plain([()], 2)
    facts = evaluate.build(recipe(), panel, ledger, models, split, LABELLED, folder, QUIET)
    ledger.close()
    return folder, facts


def predictions(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "predictions.json").read_text()))


def test_rows_that_the_teacher_cannot_answer_are_counted_and_left_out_for_all(
    done: tuple[Path, dict[str, Any]], split: list[Example]
) -> None:
    folder, facts = done
    unusable = {"r7", "r9"}
    found = predictions(folder)
    assert found["ids"] == [e.id for e in split if e.id not in unusable]
    assert facts["conservation"]["evaluate"] == Conservation(30, 28, failed={"the answer is not in the list": 2})
    assert {name: len(rows) for name, rows in found["probabilities"].items()} == dict.fromkeys(
        ("teacher", "student", "linear", "untrained", "majority"), 28
    )


def test_texts_too_long_for_the_student_are_counted_and_not_cut(
    models: Models, split: list[Example], tmp_path: Path
) -> None:
    ledger = Ledger(ScriptedTeacher(small_run.RULES), tmp_path / "ledger.db")
    long = Example("long", {"text": "zq" * 300}, "long", "positive")
    facts = evaluate.build(recipe(), Panel.plain([()], 2), ledger, models, [*split, long], LABELLED, tmp_path, QUIET)
    ledger.close()
    assert facts["conservation"]["evaluate"] == Conservation(31, 30, failed={"longer than the student's context": 1})
    assert "long" not in predictions(tmp_path)["ids"]


def test_too_many_unusable_answers_stop_the_run(models: Models, split: list[Example], tmp_path: Path) -> None:
    ledger = Ledger(ScriptedTeacher(RULES), tmp_path / "ledger.db")
    for wanted, share in ((recipe(max_failed=0.06), split), (recipe(), [split[7]])):
        with pytest.raises(TeacherError, match="the answer is not in the list"):
            evaluate.build(wanted, Panel.plain([()], 2), ledger, models, share, LABELLED, tmp_path, QUIET)
    ledger.close()
    assert not (tmp_path / "predictions.json").exists()


@pytest.mark.parametrize("name", ["student", "untrained", "linear"])
def test_each_models_answers_are_those_of_its_own_file_to_its_own_prompt(
    done: tuple[Path, dict[str, Any]], models: Models, split: list[Example], name: str
) -> None:
    found = predictions(done[0])
    examples = [e for e in split if e.id in found["ids"]]
    engine = base.load("linear" if name == "linear" else "torch", getattr(models, name), precision="float32")
    for example, row in zip(examples, found["probabilities"][name], strict=True):
        prompt = linear_prompt(recipe(), example) if name == "linear" else prompts_of(recipe(), [example])[0]
        expected = np.exp(engine.score([prompt], answer_texts(recipe())).logprobs[0])
        assert row == pytest.approx(expected.tolist(), abs=1e-5)
    assert found["probabilities"]["student"] != found["probabilities"]["untrained"]


def test_the_teachers_answers_and_the_majoritys(done: tuple[Path, dict[str, Any]], split: list[Example]) -> None:
    found = predictions(done[0])
    by_id = {e.id: e for e in split}
    teacher = [("negative", "positive")[int(np.argmax(row))] for row in found["probabilities"]["teacher"]]
    assert teacher == [by_id[name].answer for name in found["ids"]]
    assert all(row == SHARES for row in found["probabilities"]["majority"])


def test_speeds_are_measured_and_stand_outside_the_hash(done: tuple[Path, dict[str, Any]]) -> None:
    speeds = json.loads((done[0] / "timings.json").read_text())
    for kind in ("cached", "uncached"):
        assert set(speeds[kind]) == {"student", "linear"}  # a scripted teacher has no speed of ours
        assert all(speed["requests_per_s"] > 0 for speed in speeds[kind].values())


def test_sizes_engines_and_tokens_are_told(
    done: tuple[Path, dict[str, Any]], models: Models, split: list[Example]
) -> None:
    folder, facts = done
    assert facts["engines"] == {
        "student": "torch-float32", "linear": "linear-float32", "untrained": "torch-float32",
    }  # fmt: skip
    assert facts["parameters"]["student"] == safetensors.parameters(models.student)
    kept = predictions(folder)["ids"]
    engine = base.load("torch", models.student)
    rendered = [f"Text: {e.slots['text']}" for e in split if e.id in kept]
    assert facts["task_prompt_tokens"] == pytest.approx(np.mean([engine.count_tokens(text) for text in rendered]))
    words = [len(f"Text: {e.slots['text']}".split()) for e in split]
    assert facts["teacher_tokens"] == {"prompt": pytest.approx(np.mean(words)), "completion": 1.0}


def test_a_local_teacher_is_timed_with_its_prefix_cache_and_without(
    tiny_llama: Path, models: Models, split: list[Example], tmp_path: Path
) -> None:
    teacher = LocalTeacher(base.load("torch", tiny_llama, precision="float32"), "rev")
    ledger = Ledger(teacher, tmp_path / "ledger.db")
    panel = Panel.plain([SHOTS, SHOTS[::-1]], 2)
    facts = evaluate.build(recipe(), panel, ledger, models, split, LABELLED, tmp_path, QUIET)
    made = ledger.calls_made
    assert made == 2 * len(split)  # measuring asks the teacher itself, not the ledger
    assert facts["parameters"]["teacher"] == teacher.engine.parameters
    assert facts["engines"]["teacher"] == "torch-float32"
    speeds = json.loads((tmp_path / "timings.json").read_text())
    kept, whole = speeds["cached"]["teacher"], speeds["uncached"]["teacher"]
    assert kept["computed_per_request"] < 0.6 * kept["tokens_per_request"]
    assert whole["computed_per_request"] == whole["tokens_per_request"]
    assert kept["tokens_per_request"] > 2 * speeds["cached"]["student"]["tokens_per_request"]  # two members
    assert teacher.engine.prefix_cache
    ledger.close()


def test_a_linear_student_is_its_own_linear_baseline(models: Models, split: list[Example], tmp_path: Path) -> None:
    only = Models(student=models.linear, linear=models.linear, untrained=None, student_q8_0=None)
    ledger = Ledger(ScriptedTeacher(small_run.RULES), tmp_path / "ledger.db")
    wanted = recipe({"initialise": "linear"})
    facts = evaluate.build(wanted, Panel.plain([()], 2), ledger, only, split, LABELLED, tmp_path, QUIET)
    ledger.close()
    assert set(predictions(tmp_path)["probabilities"]) == {"teacher", "student", "majority"}
    assert facts["engines"] == {"student": "linear-float32"}
    assert facts["conservation"]["evaluate"] == Conservation(30, 30)
