from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from aasut.commands import planning
from aasut.errors import AasutError, DataError
from aasut.progress import Progress
from aasut.runs.catalogue import Catalogue
from aasut.store import Store

QUIET = Progress(quiet=True)


def student(run: str, accuracy: float, low: float, usd: float) -> dict[str, Any]:
    return {"run": run, "accuracy": accuracy, "ci": [low, 1.0], "usd_per_million_requests": usd}


def test_the_cheapest_student_that_reaches_a_target_is_chosen() -> None:
    students = [student("small", 0.86, 0.8, 1.0), student("middle", 0.91, 0.87, 2.0), student("large", 0.95, 0.92, 5.0)]
    found = planning.size_for(students, 0.9)
    assert (found["seen"], found["sure"]) == ("middle", "large")
    assert planning.size_for(students, 0.85)["sure"] == "middle"
    assert planning.size_for(students, 0.99)["seen"] is None
    assert "none reaches 99 %" in planning.size_for(students, 0.99)["sentence"]
    assert "the interval of none" in planning.size_for(students, 0.93)["sentence"]


def test_a_small_model_is_trained_on_parts_as_its_run_trained_it(neural: Path) -> None:
    found = planning.learning_curve(neural, "words", QUIET)
    assert found["learning_curve"]["student"] == "the recipe's"
    accuracy = [point["accuracy"] for point in found["learning_curve"]["points"]]
    assert len(accuracy) == 4
    assert accuracy[-1] > 0.7
    assert accuracy[-1] >= accuracy[0]
    assert found["students"][0]["accuracy"] == pytest.approx(accuracy[-1])
    with pytest.raises(DataError, match="no linear model of free text"):
        planning.learning_curve(neural, "words", QUIET, proxy=True)


def test_a_run_whose_parts_are_gone_is_refused(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "runs")
    with Store(tmp_path / "runs" / ".store") as store:
        done = planning.find(Catalogue(tmp_path / "runs", store), "words")
        shutil.rmtree(done.parts["label"].path)
    with pytest.raises(AasutError, match="no label of words any more"):
        planning.learning_curve(tmp_path / "runs", "words", QUIET)
    (tmp_path / "runs" / "weaker" / "recipe.yaml").unlink()
    with pytest.raises(AasutError, match="The recipe of weaker is not in"):
        planning.learning_curve(tmp_path / "runs", "weaker", QUIET)


def test_students_of_several_sizes_give_a_scaling_law_and_too_few_say_what_is_missing(root: Path) -> None:
    with Store(root / ".store") as store:
        catalogue = Catalogue(root, store)
        some = [
            {"parameters": n, "answers": d, "accuracy": 1 - 0.05 - n**-0.5 - d**-0.5, "n": 300, "linear": False,
             "trained": "none"}
            for n in (100, 300, 1000) for d in (100, 300, 1000)
        ]  # fmt: skip
        found = planning._law(catalogue, some)
        assert found["E"] == pytest.approx(0.05, abs=1e-4)
        assert found["alpha"] == pytest.approx(0.5, rel=1e-3)
        few = planning._law(catalogue, some[:3])
    assert "3 different numbers of parameters are needed, and there are 1" in few["missing"]
    assert "student.shape" in few["missing"]
