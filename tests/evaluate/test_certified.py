from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import small_run
from aasut import pipeline
from aasut import recipe as recipes
from aasut.evaluate import certified
from aasut.evaluate.certificate import Wish
from aasut.evaluate.certify import Target
from aasut.finished import taken_up
from aasut.progress import Progress

QUIET = Progress(quiet=True)


def found(**changes: Any) -> dict[str, Any]:
    return {
        "kind": "selective", "against": "human", "risk": 0.05, "confidence": 0.95, "certified": True, "n": 200,
        "accepted": 150, "bad": 2, "more_gold": None, "calibrate_opened": 1, "coverage": {"value": 0.75},
    } | changes  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "With 95 % confidence at most 5 % of the answers that the student gives itself differ from the human "
             "answer; it answers 75.0 % and defers the rest. Shown on 200 human answers: 150 accepted, 2 of them bad."),
        ({"kind": "system"}, "err on at most 5 % of all requests more than the teacher alone"),
        ({"against": "teacher"}, "differ from the teacher's answer, which need not be right"),
        ({"against": "teacher", "kind": "system"}, "at most 5 % of all requests get an answer that differs from"),
        ({"calibrate_opened": 3}, "`calibrate` was opened 3 times: that many certificates hold together with 85 %"),
        ({"calibrate_opened": 20}, "hold together with none."),
        ({"certified": False, "more_gold": 1200}, "Defer all. About 1,200 more human answers in `calibrate`"),
        ({"certified": False}, "More answers cannot be promised to help"),
    ],
)  # fmt: skip
def test_the_promise_in_words(changes: dict[str, Any], says: str) -> None:
    assert says in certified.sentence(found(**changes), 200)


def test_rows_of_one_group_are_told() -> None:
    assert "200 human answers, one of each group of 350:" in certified.sentence(found(), 350)


def test_what_the_report_shows(tmp_path: Path) -> None:
    path = small_run.write_recipe(tmp_path, rows=1600)
    pipeline.run(recipes.load(path), tmp_path, tmp_path / "runs", QUIET)
    with taken_up("words", tmp_path / "runs", QUIET, makes=("certify",)) as taken:
        made = taken.stages.certify(taken.done, Wish(Target("selective", 0.05, 0.95), "human"))
        report = taken.stages.report(taken.done | {"certify": made}, "full")
        without = taken.stages.report(taken.done, "full")
        facts = json.loads((report.path / "report.json").read_text(encoding="utf-8"))
    shown, curve = facts["certificate"], facts["risk_coverage"]
    assert shown["sentence"] == made.facts["sentence"]
    assert shown["on_test"]["accepted"] == round(shown["on_test"]["coverage"] * facts["verdict"]["n"])
    assert curve["certified"] == {name: shown["on_test"][name] for name in ("coverage", "risk")}
    assert curve["coverage"][-1] == 1.0
    assert curve["risk"][-1] == pytest.approx(1 - facts["student"]["accuracy"])
    facts = json.loads((without.path / "report.json").read_text(encoding="utf-8"))
    assert facts["certificate"] is None
    assert facts["risk_coverage"]["certified"] is None
