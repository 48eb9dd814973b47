"""`aasut doctor RECIPE` as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import small_run
import test_text_tasks as texts
from aasut import recipe
from aasut.doctor import gradients, numbers, training, view
from aasut.doctor.subject import Subject
from aasut.errors import RecipeError
from aasut.student import objective


def doctor(*words: object) -> subprocess.CompletedProcess[str]:
    ran = subprocess.run(
        [sys.executable, "-m", "aasut", "doctor", *map(str, words)],
        capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=300,
    )  # fmt: skip
    assert "Traceback" not in ran.stdout + ran.stderr, ran.stderr
    return ran


def test_a_recipe_is_examined_and_told_as_json(tiny_llama: Path, tmp_path: Path) -> None:
    path = texts.write_run(tmp_path, "generate", tiny_llama)
    ran = doctor(path, "--root", tmp_path / "runs", "--json")
    found = json.loads(ran.stdout)
    assert (ran.returncode, found["works"], found["faults"]) == (0, True, [])
    assert list(found["sections"]) == ["Looked at", "Example", "Losses", "Teacher", "Gradients"]
    levels = {finding["name"]: finding["level"] for finding in found["sections"]["Gradients"]}
    assert levels == {"gradient": "ok", "processes": "ok"}
    assert {token["part"] for token in found["example"]["tokens"]} == {"prompt", "answer", "end"}
    assert all(token["learned"] == (token["part"] != "prompt") for token in found["example"]["tokens"])
    assert not (tmp_path / "runs").exists()  # looking leaves nothing behind


def test_labels_are_examined_for_a_terminal(tiny_llama: Path, tmp_path: Path) -> None:
    plain = small_run.recipe(
        student={"model": {"address": f"file:{tiny_llama}"}}, export={"serve": "safetensors", "engine": "torch"}
    )
    ran = doctor(small_run.write_recipe(tmp_path, plain), "--root", tmp_path / "runs")
    assert ran.returncode == 0, ran.stderr
    assert "Training on this recipe's model and rows is exact." in ran.stdout
    assert max(len(line) for line in ran.stdout.splitlines()) <= 100


def test_an_examination_that_breaks_is_a_fault(text: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """A packing that loses its last part leaves nothing of a row alone."""
    monkeypatch.setattr(objective, "packs", lambda *_: iter(()))
    (found,) = training._all(gradients.examine(text))
    assert (found.level, found.name) == ("fault", "broken")
    assert "would end so too" in found.problem


def test_what_cannot_be_examined_is_told_in_one_line(tmp_path: Path) -> None:
    ran = doctor(small_run.write_recipe(tmp_path), "--root", tmp_path / "runs")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("aasut: A linear student is fitted by scikit-learn")
    assert len(ran.stderr.splitlines()) == 1
    assert doctor(tmp_path / "recipe.yaml", "--network").returncode == 2


def test_the_teachers_answers_are_taken_where_it_was_asked(tiny_llama: Path, tmp_path: Path) -> None:
    path = texts.write_run(tmp_path, "generate", tiny_llama, student={
        "model": {"address": f"file:{tiny_llama}"}, "prompt": "{text} =", "epochs": 1, "checks": 1,
        "precision": "float32"})  # fmt: skip
    loaded = recipe.load(path)
    before = Subject.of_recipe(loaded, tmp_path, tmp_path / "runs")
    texts.run(path)
    after = Subject.of_recipe(loaded, tmp_path, tmp_path / "runs")
    assert before.answers == "human answers of tune"
    assert after.answers == "the teacher's answers, from an earlier run"
    assert {text for label in after.labels for text in label.texts} <= texts.LEARNED["generate"]


def test_inputs_without_any_answer_are_examined_too(tiny_llama: Path, tmp_path: Path) -> None:
    path = texts.write_run(tmp_path, "generate", tiny_llama)
    loaded = recipe.load(path, ["data.split={pool: 1, tune: 0, calibrate: 0, test: 1}"])
    subject = Subject.of_recipe(loaded, tmp_path, tmp_path / "runs")
    assert subject.answers.startswith("made-up answers")
    shown = view.view(subject)
    checks = (view.examine(subject, shown), numbers.examine(training.sample(subject)), gradients.examine(subject))
    assert {finding.level for found in checks for finding in found} == {"ok"}


def test_a_linear_student_has_no_training(tmp_path: Path) -> None:
    path = small_run.write_recipe(tmp_path)
    with pytest.raises(RecipeError, match="no training to examine"):
        training.examine(recipe.load(path), tmp_path, tmp_path / "runs")
