from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aasut.commands.planning import Finished
from aasut.store import Artefact, Store


def test_a_learning_curve_is_planned_without_opening_test(root: Path, plain: Any) -> None:
    with Store(root / ".store", read_only=True) as store:
        before = store.database.execute("SELECT COUNT(*) FROM opening").fetchone()
    found = plain("plan", "words", "--root", root, "--target", "0.9", "--quiet")
    with Store(root / ".store", read_only=True) as store:
        assert store.database.execute("SELECT COUNT(*) FROM opening").fetchone() == before
    curve = found["learning_curve"]
    assert len(curve["points"]) == 4
    assert curve["points"][-1]["examples"] == found["labels"]
    assert curve["points"][0]["accuracy"] < curve["points"][-1]["accuracy"]
    assert "more answers: +" in curve["sentence"]
    assert "human answers in tune" in curve["measured_on"]
    assert found["target"]["accuracy"] == 0.9
    assert "missing" in found["scaling_law"]
    assert found["devices"]["used"] == "literal"
    assert [one["run"] for one in found["students"]] in (["words", "weaker"], ["weaker", "words"])
    assert found["size"]["seen"] == "words"


def test_a_second_plan_trains_nothing_and_says_the_same(root: Path, aasut: Any, plain: Any) -> None:
    first = plain("plan", "words", "--root", root, "--quiet")
    code, out, err = aasut("plan", "words", "--root", root, "--json")
    assert code == 0
    assert json.loads(out) == first
    assert "plan       reused" in err
    assert "training" not in err


def test_it_is_told_in_words(root: Path, aasut: Any) -> None:
    code, out, _ = aasut("plan", "words", "--root", root, "--target", "0.9", "--quiet")
    assert code == 0
    for said in ("more answers: +", "extrapolated", "90 % right", "labels, training", "weaker"):
        assert said in out
    assert all(len(line) <= 100 for line in out.splitlines())


def test_devices_are_told_for_students_that_train_long(neural: Path, aasut: Any) -> None:
    code, out, _ = aasut("plan", "words", "--root", neural, "--quiet")
    assert code == 0
    for said in ("published, literally", "published, last decade", "* extrapolated", "as the recipe has them"):
        assert said in out


def table(path: Path, rows: int = 4) -> Path:
    lines = ["parameters,tokens,loss"]
    for n in np.geomspace(1e7, 1e9, rows):
        lines += [f"{n},{d},{1.69 + 406.4 / n**0.34 + 410.7 / d**0.28}" for d in np.geomspace(1e8, 1e10, 4)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_table_of_ones_own_runs_gives_a_scaling_law(tmp_path: Path, aasut: Any, plain: Any) -> None:
    found = plain("plan", "--runs", table(tmp_path / "runs.csv"))["runs_table"]
    assert found["alpha"] == pytest.approx(0.34, rel=1e-4)
    assert found["held_out"]["predicted"] == pytest.approx(found["held_out"]["loss"], rel=1e-4)
    code, out, _ = aasut("plan", "--runs", tmp_path / "runs.csv")
    assert code == 0
    assert "Without the largest run" in out


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        ((), 2, "give a RUN"),
        (("words", "--screen"), 2, "--screen goes alone"),
        (("words", "--answers", "x.yaml"), 2, "goes with --screen"),
        (("--screen", "--answers", "none.yaml"), 1, "none.yaml cannot be read"),
        (("--target", "0.9", "--runs", "x.csv"), 2, "need a RUN"),
        (("words", "--target", "1.5"), 2, "target"),
        (("nothing",), 1, "There is no finished run nothing"),
        (("--runs", "no.csv"), 1, "no.csv cannot be read"),
        (("--dense", "--runs", "x.csv"), 2, "need a RUN"),
        (("words", "--dense"), 1, "--dense goes with a mixture, and words is none"),
        (("words", "--processes"), 1, "A linear student trains in one process"),
    ],
)
def test_mistakes_are_one_line(root: Path, aasut: Any, words: tuple[str, ...], code: int, why: str) -> None:
    found, out, err = aasut("plan", *words, "--root", root, "--quiet")
    assert (found, out) == (code, "")
    assert why in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["words", "--screen"], "--screen goes alone"),
        (["--answers", "x.yaml"], "goes with --screen"),
        ([], "a RUN"),
    ],
)
def test_what_goes_with_a_screening(aasut: Any, words: list[str], said: str) -> None:
    code, _, err = aasut("plan", *words)
    assert code == 2
    assert said in err


def test_what_people_were_paid_is_no_price_of_the_teachers_answers() -> None:
    label = Artefact("label", "", Path(), "", {"conservation": {"label": {"kept": 4}}}, 0.0, reused=True)
    facts = {"economics": {"labelling_usd": 12.0, "human_answers_usd": 10.0}}
    assert Finished(None, None, {"label": label}, facts).usd_per_answer == 0.5  # type: ignore[arg-type]
