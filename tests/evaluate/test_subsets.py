from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import small_run
from aasut.errors import DataError
from aasut.evaluate import subsets
from aasut.evaluate.subsets import Judge, Trial, parts, trainings
from aasut.progress import Progress
from aasut.recipe import Recipe
from aasut.store import Artefact, Store
from aasut.student import train
from aasut.types import Example, Label

RECIPE = Recipe.model_validate(small_run.recipe())
QUIET = Progress(quiet=True)


def examples(count: int, seed: int = 1) -> list[Example]:
    return [
        Example(row["id"], {"text": row["text"]}, row["review"], row["sentiment"])
        for row in small_run.sentences(count, seed)
    ]


POOL, TUNE = examples(48), examples(40, seed=2)
LABELS = [Label(e.id, (1.0, 0.0) if e.answer == "negative" else (0.0, 1.0)) for e in POOL]
GROUPS = [e.group for e in POOL]


def make(labels: Any, folder: Path) -> None:
    train.linear(RECIPE, POOL, labels, folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    make(LABELS, folder)
    return folder


def test_parts_are_whole_groups_and_those_of_a_size_share_none() -> None:
    groups = [f"g{i}" for i in range(40) for _ in range(1 + i % 5)]
    found = parts(groups, 3, every=True)
    assert [part.of for part in found] == [8] * 8 + [4] * 4 + [2] * 2
    for of in (8, 4, 2):
        same = [part.rows for part in found if part.of == of]
        assert sorted(row for rows in same for row in rows) == list(range(len(groups)))
        assert max(map(len, same)) - min(map(len, same)) <= 5 * 8 / of
        for rows in same:
            inside = {groups[row] for row in rows}
            assert not inside & {groups[row] for row in set(range(len(groups))) - set(rows)}
    assert parts(groups, 3, every=True) == found
    assert parts(groups, 4, every=True) != found


def test_students_that_cost_much_are_few() -> None:
    assert [part.name for part in parts(GROUPS, 1, every=False)] == ["1-of-8", "2-of-8", "1-of-4", "1-of-2"]
    assert trainings(every=False) == pytest.approx(1)
    assert trainings(every=True) == pytest.approx(3)


def test_few_groups_leave_no_empty_part() -> None:
    found = parts(["a", "a", "b"], 0, every=True)
    assert all(part.rows for part in found)
    assert {part.of for part in found} == {8, 4, 2}


@pytest.fixture(scope="module")
def made(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    def build(folder: Path) -> dict[str, Any]:
        return subsets.build(LABELS, GROUPS, whole, make, Judge(RECIPE, TUNE, linear=True), folder, QUIET, 7)

    with Store(tmp_path_factory.mktemp("store")) as store:
        return store.stage("plan", 1, [], [], build)


def test_students_of_all_parts_are_judged_on_the_same_answers(made: Artefact) -> None:
    trials, chance, groups = subsets.read(made)
    assert chance == [e.answer == TUNE[0].answer for e in TUNE]
    assert groups == [e.group for e in TUNE]
    assert sorted(t.examples for t in trials) == [6] * 8 + [12] * 4 + [24] * 2 + [48]
    assert all(len(t.correct) == len(TUNE) for t in trials)
    by_size = {n: [sum(t.correct) for t in trials if t.examples == n] for n in (6, 48)}
    assert by_size[48][0] > sum(by_size[6]) / 8
    assert made.facts["conservation"]["plan, students"]["kept"] == 15
    assert [path.name for path in made.path.iterdir()] == ["trials.json"]


def test_a_killed_stage_goes_on_at_the_next_student(whole: Path, made: Artefact, tmp_path: Path) -> None:
    asked: list[int] = []

    def dying(labels: Any, folder: Path) -> None:
        asked.append(len(labels))
        if len(asked) == 4:
            raise KeyboardInterrupt
        make(labels, folder)

    def build(maker: Any) -> dict[str, Any]:
        return subsets.build(LABELS, GROUPS, whole, maker, Judge(RECIPE, TUNE, linear=True), tmp_path, QUIET, 7)

    with pytest.raises(KeyboardInterrupt):
        build(dying)
    build(dying)
    assert len(asked) == 4 + 11
    assert (tmp_path / "trials.json").read_text() == (made.path / "trials.json").read_text()


def test_a_part_that_cannot_be_learned_from_counts_as_failed(whole: Path, tmp_path: Path) -> None:
    def picky(labels: Any, folder: Path) -> None:
        if len(labels) < 10:
            folder.mkdir()
            raise DataError("All alike.")
        make(labels, folder)

    facts = subsets.build(LABELS, GROUPS, whole, picky, Judge(RECIPE, TUNE, linear=True), tmp_path, QUIET, 7)
    students = facts["conservation"]["plan, students"]
    assert students.balanced
    assert dict(students.failed) == {"All alike.": 8}
    assert {path.name for path in tmp_path.iterdir()} == {"trials.json"}


def test_answers_too_long_for_the_student_count_as_failed(tiny_llama: Path) -> None:
    plain = small_run.recipe(
        student={"model": {"address": "file:model"}, "prompt": "{text} ="}, export={"precision": "float32"}
    )
    long = Example("long", {"text": "too long by far " * 400}, "long", "positive")
    judge = Judge(Recipe.model_validate(plain), [TUNE[0], long, TUNE[1]], linear=False)
    assert len(judge(tiny_llama)) == 2
    assert judge.too_long == 1
    assert judge.tune == TUNE[:2]


def test_without_human_answers_nothing_is_judged() -> None:
    with pytest.raises(DataError, match="no human answers in tune"):
        Judge(RECIPE, [], linear=True)
    assert Trial(3, [True]).examples == 3
