"""What the store's records say of this machine's pace."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import small_run
from aasut import recipe as recipes
from aasut.files import TIMINGS
from aasut.forecast import history
from aasut.recipe import Recipe
from aasut.store import Artefact, Store

MODEL = {"address": "file:m"}
SPEEDS = {"requests_per_s": 10.0, "computed_per_request": 5.0}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path) as opened:
        yield opened


def recipe(**changes: Any) -> Recipe:
    student = {"initialise": "pretrained", "model": MODEL, "prompt": "{text} ="} | changes.pop("student", {})
    plain = {"teacher": {"model": MODEL, "prompt": "{text} =", "shots": 0}, "student": student}
    return recipes.parse(small_run.recipe(**plain | changes), "test")


def finished(store: Store, made: Recipe, requests_per_s: float = 10.0, positions: int = 1000) -> list[Artefact]:
    """Finished stages of a run, with settings as the pipeline gives them."""

    def stage(name: str, settings: Any, parents: list[Artefact], facts: Any, speeds: Any = None) -> Artefact:
        def build(folder: Path) -> dict[str, Any]:
            if speeds is not None:
                (folder / TIMINGS).write_text(json.dumps(speeds))
            return dict(facts)

        return store.stage(name, 1, settings, parents, build)

    choose = stage("choose", [made.teacher, "", made.task, made.seed], [], {})
    label = stage("label", [positions], [choose], {})
    train = stage("train", [made.student, made.task, made.seed], [label], {"positions": positions})
    export = stage("export", [made.name, made.export, made.task, ""], [train], {})
    pace = SPEEDS | {"requests_per_s": requests_per_s}
    both = {"student": pace, "teacher": pace | {"computed_per_request": 50.0}}
    evaluate = stage("evaluate", [requests_per_s], [label, export], {}, {"cached": both, "uncached": both})
    return [choose, label, train, export, evaluate]


def test_an_empty_store_says_nothing(store: Store) -> None:
    assert history.student(store, recipe()) == {}
    assert history.teacher(store, recipe()) == {}


def test_the_seconds_of_a_finished_run_are_found(store: Store) -> None:
    _, _, train, export, _ = finished(store, recipe())
    found = history.student(store, recipe())
    assert found["position"] == pytest.approx(train.seconds / 1000)
    assert found["export"] == pytest.approx(export.seconds)
    assert found["tokens"] == found["whole"] == pytest.approx(1 / (10 * 5))
    assert found["request"] == pytest.approx(1 / 10)
    assert history.teacher(store, recipe())["tokens"] == pytest.approx(1 / (10 * 50))


def test_another_student_or_teacher_says_nothing_of_this_one(store: Store) -> None:
    finished(store, recipe())
    assert history.student(store, recipe(student={"precision": "float32"})) == {}
    assert history.student(store, recipe(export={"precision": "float32"})) == {}
    assert history.student(store, recipe(student={"epochs": 9}))["request"] == pytest.approx(0.1)  # as fast
    other = {"model": {"address": "file:other"}, "prompt": "{text} =", "shots": 0}
    assert history.teacher(store, recipe(teacher=other)) == {}


def test_the_last_run_counts(store: Store) -> None:
    finished(store, recipe(), requests_per_s=10.0, positions=1000)
    finished(store, recipe(), requests_per_s=20.0, positions=2000)
    assert history.student(store, recipe())["request"] == pytest.approx(1 / 20)


def test_a_run_whose_speeds_are_lost_gives_none(store: Store) -> None:
    evaluated = finished(store, recipe())[-1]
    (evaluated.path / TIMINGS).unlink()
    assert history.teacher(store, recipe()) == {}
    assert set(history.student(store, recipe())) == {"position", "first", "forward", "export"}
