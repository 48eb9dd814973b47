from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small_run
from aasut import pipeline
from aasut import recipe as recipes
from aasut.data import split
from aasut.data.panel import Panel
from aasut.errors import DataError
from aasut.evaluate import certificate
from aasut.evaluate.candidates import student_candidate
from aasut.evaluate.certificate import Wish
from aasut.evaluate.certify import Target
from aasut.finished import Taken, taken_up
from aasut.progress import Progress
from aasut.types import Example

QUIET = Progress(quiet=True)


def wish(kind: Any = "selective", against: Any = "human", risk: float = 0.05, confidence: float = 0.95) -> Wish:
    return Wish(Target(kind, risk, confidence), against)


def noisy(rows: int, wrong: int) -> list[dict[str, str]]:
    """Sentences of which every so many has the other human answer, whatever its words say; each its own group."""
    found = small_run.sentences(rows)
    for i, row in enumerate(found):
        row["review"] = f"g{i}"
        if i % wrong == 0:
            row["sentiment"] = "negative" if row["sentiment"] == "positive" else "positive"
    return found


def finished(folder: Path, rows: list[dict[str, str]]) -> None:
    path = small_run.write_recipe(folder)
    small_run.write_table(folder / "table.csv", rows)
    pipeline.run(recipes.load(path), folder, folder / "runs", QUIET)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with 2 % wrong answers whatever the score: about 200 rows in calibrate."""
    folder = tmp_path_factory.mktemp("run")
    finished(folder, noisy(2000, 50))
    return folder


@pytest.fixture
def taken(folder: Path) -> Iterator[Taken]:
    with taken_up("words", folder / "runs", QUIET, makes=("certify",)) as found:
        yield found


def test_a_certificate_says_what_it_promises(taken: Taken) -> None:
    made = taken.stages.certify(taken.done, wish())
    found = json.loads((made.path / certificate.FILE).read_text(encoding="utf-8"))
    assert found["certified"]
    calibrate = split.load(taken.done["data"].path, split.CALIBRATE)
    assert found["n"] == len(calibrate)
    assert found["accepted"] <= found["n"]
    assert found["p_value"] <= 0.05
    assert found["coverage"]["lower"] <= found["coverage"]["value"] <= found["coverage"]["upper"]
    assert found["sentence"].startswith("With 95 % confidence at most 5 % of the answers that the student gives itself")
    exported, splits = taken.done["export"].facts, taken.done["data"].facts["split_hash"]
    assert found["hashes"]["file_sha256"] == exported["files"][exported["served"]]
    assert {name: found["hashes"][name] for name in splits} == splits
    assert found["hashes"]["engine"] == "linear-float32"
    rows = made.facts["conservation"]["certify"]
    assert rows["in"] == rows["kept"] == len(calibrate)


def test_the_numbers_are_those_of_the_students_answers(taken: Taken) -> None:
    found = taken.stages.certify(taken.done, wish()).facts
    export = taken.done["export"]
    student = student_candidate(taken.stages.recipe, export.path / export.facts["served"])
    rows = split.load(taken.done["data"].path, split.CALIBRATE)
    answered = student.answer(rows)
    accept = answered.features[:, 0] >= found["threshold"]
    wrong = np.array([given != row.answer for given, row in zip(answered.given(student.task), rows, strict=True)])
    assert (found["accepted"], found["bad"]) == (accept.sum(), (accept & wrong).sum())
    assert found["wrong"] == found["bad"]


def test_calibrate_is_opened_once_a_certificate(folder: Path) -> None:
    with taken_up("words", folder / "runs", QUIET, makes=("certify",)) as taken:
        name = taken.done["data"].facts["split_hash"]["calibrate"]
        before = taken.stages.store.openings(name)
        first = taken.stages.certify(taken.done, wish(risk=0.11))
        again = taken.stages.certify(taken.done, wish(risk=0.11))
        assert again.fingerprint == first.fingerprint
        assert taken.stages.store.openings(name) == before + 1 == first.facts["calibrate_opened"]
        other = taken.stages.certify(taken.done, wish(risk=0.12))
        assert other.facts["calibrate_opened"] == before + 2
        assert f"{before + 2} times" in other.facts["sentence"]


def test_all_is_fixed_before_calibrate_is_opened(taken: Taken, tmp_path: Path) -> None:
    """With other answers in calibrate the walk starts at the same threshold, and counts other errors there."""
    stages, data, export = taken.stages, taken.done["data"], taken.done["export"]
    predicted = json.loads((taken.done["evaluate"].path / "predictions.json").read_text(encoding="utf-8"))
    panel = Panel.from_json((taken.done["label"].path / "panel.json").read_text(encoding="utf-8"))
    rows, (tune, test) = split.load(data.path, split.CALIBRATE), (split.load(data.path, n) for n in ("tune", "test"))
    other = {"negative": "positive", "positive": "negative"}
    flipped = [replace(row, answer=other[str(row.answer)]) for row in rows]

    def steps(calibrate: list[Example]) -> Any:
        student = student_candidate(stages.recipe, export.path / export.facts["served"])
        subject = certificate.Subject(student, tune, test, predicted, {}, lambda: (calibrate, 1))
        return certificate.build(stages.recipe, wish(), subject, panel, lambda: stages.ledger, tmp_path, QUIET)["steps"]

    one, two = steps(rows), steps(flipped)
    assert (one[0]["threshold"], one[0]["accepted"]) == (two[0]["threshold"], two[0]["accepted"])
    assert one[0]["wrong"] + two[0]["wrong"] == one[0]["accepted"]
    assert len(one) > len(two) == 1


def test_what_audits_should_find_is_bounded_on_test(taken: Taken) -> None:
    """This student follows the teacher on all inputs, so that only the number of answers in `test` speaks."""
    found = taken.stages.certify(taken.done, wish()).facts
    audit = found["audit"]
    predicted = json.loads((taken.done["evaluate"].path / "predictions.json").read_text(encoding="utf-8"))
    scores = np.array(predicted["probabilities"]["student"]).max(axis=1)
    assert audit["accepted"] == (scores >= found["threshold"]).sum()
    assert audit["differed"] == 0
    assert audit["risk"] == pytest.approx(1 - 0.025 ** (1 / audit["accepted"]))
    assert audit["confidence"] == pytest.approx(0.975)


def test_agreement_with_the_teacher_is_named_so(taken: Taken) -> None:
    found = taken.stages.certify(taken.done, wish(against="teacher")).facts
    assert "differ from the teacher's answer, which need not be right" in found["sentence"]
    assert "human" not in found["sentence"]
    assert found["audit"] == {"risk": 0.05, "confidence": 0.95}
    assert found["bad"] == 0  # the teacher is right by rule, and 2 % of the people are not: this student follows it


def test_the_system_counts_what_the_teacher_would_have_had_right(taken: Taken) -> None:
    found = taken.stages.certify(taken.done, wish("system")).facts
    assert found["certified"]
    assert found["wrong"] > found["bad"] == 0  # where people differ from the rule the teacher is wrong too
    assert "err on at most 5 % of all requests more than the teacher alone" in found["sentence"]


def test_no_certificate_says_how_many_more_answers(taken: Taken) -> None:
    found = taken.stages.certify(taken.done, wish(risk=0.03)).facts
    assert not found["certified"]
    assert found["threshold"] is found["coverage"] is found["audit"] is None
    assert found["more_gold"] > 0
    assert f"About {found['more_gold']:,} more human answers" in found["sentence"]
    hopeless = taken.stages.certify(taken.done, wish(risk=0.001)).facts
    assert hopeless["more_gold"] is None
    assert "cannot be promised to help" in hopeless["sentence"]


def test_groups_count_once(tmp_path: Path) -> None:
    finished(tmp_path, small_run.sentences(1600))  # two rows a group
    with taken_up("words", tmp_path / "runs", QUIET, makes=("certify",)) as taken:
        found = taken.stages.certify(taken.done, wish()).facts
    rows = found["conservation"]["certify"]
    assert rows["in"] > 1.9 * rows["kept"]
    assert rows["kept"] == found["n"]
    assert rows["dropped"] == {"another row of its group was drawn": rows["in"] - rows["kept"]}
    assert f"one of each group of {rows['in']}" in found["sentence"]


def test_too_few_groups_are_refused(tmp_path: Path) -> None:
    path = small_run.write_recipe(tmp_path, small_run.recipe(data=_data(calibrate=0)))
    pipeline.run(recipes.load(path), tmp_path, tmp_path / "runs", QUIET)
    with (
        taken_up("words", tmp_path / "runs", QUIET, makes=("certify",)) as taken,
        pytest.raises(DataError, match="`calibrate` has human answers of 0 groups"),
    ):
        taken.stages.certify(taken.done, wish())


def _data(**weights: float) -> dict[str, Any]:
    return small_run.recipe()["data"] | {"split": {"pool": 50, "tune": 8, "calibrate": 10, "test": 32} | weights}
