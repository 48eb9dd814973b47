from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aasut.economics import learning_curve, worth
from aasut.evaluate.subsets import TRIALS, Trial
from aasut.store import Artefact

FACTS = {"linear": True, "conservation": {"plan, human answers": {"kept": 300}}}


def trials(floor: float = 0.05, whole: int = 800) -> list[Trial]:
    """Students on 300 answers, of which each has as many right as 1 - floor - .2 (n / 100)^-.5 says."""
    random, found = np.random.default_rng(0), []
    ease = random.permutation(300)
    for of in (8, 4, 2, 1):
        wrong = round(300 * (floor + 0.2 * (whole / of / 100) ** -0.5))
        found += [Trial(whole // of, (ease >= wrong).tolist())]
    return found


GROUPS = [str(i) for i in range(300)]
CHANCE = [i < 180 for i in range(300)]
CURVE = learning_curve.fit(trials(), CHANCE, GROUPS, draws=400)


@pytest.mark.parametrize(
    ("have", "more"), [(1, 1), (10, 2), (60, 20), (246, 50), (800, 200), (1898, 500), (3000, 1000), (10**6, 200_000)]
)
def test_a_round_number_of_further_answers(have: int, more: int) -> None:
    assert worth.step(have) == more


def test_the_sentence_has_the_gain_and_an_interval_that_holds_it() -> None:
    said = re.fullmatch(r"500 more answers: \+(\d+\.\d) ± (\d+\.\d) points", worth.worth_sentence(CURVE, 500))
    assert said is not None
    gain = CURVE.gain(500)
    assert float(said[1]) == pytest.approx(100 * gain.value, abs=0.051)
    half = float(said[2]) / 100
    assert gain.value - half - 6e-4 <= gain.low <= gain.high <= gain.value + half + 6e-4


def test_facts_have_the_shape_of_the_report(tmp_path: Path) -> None:
    body = {"groups": GROUPS, "chance": CHANCE, "trials": [[t.examples, [int(c) for c in t.correct]] for t in trials()]}
    (tmp_path / TRIALS).write_text(json.dumps(body))
    facts = worth.facts_of(Artefact("plan", "f", tmp_path, "", FACTS, 0.0, reused=True))
    assert {"points", "curve", "sentence", "measured_on"} <= set(facts)
    assert facts["measured_on"] == "300 human answers in tune"
    assert [p["examples"] for p in facts["points"]] == [100, 200, 400, 800]
    curve = facts["curve"]
    assert len({len(curve[name]) for name in ("examples", "accuracy", "low", "high")}) == 1
    assert curve["examples"][-1] == 3200
    for low, value, high in zip(curve["low"], curve["accuracy"], curve["high"], strict=True):
        assert 0 <= low <= value <= high <= 1
    assert facts["measured_up_to"] == 800
    json.dumps(facts, allow_nan=False)


def test_gains_are_priced() -> None:
    found = worth.gains(CURVE, 0.01)
    assert [gain["more_answers"] for gain in found] == [200, 800, 2400]
    assert [gain["usd"] for gain in found] == pytest.approx([2, 8, 24])
    points = [gain["points"] for gain in found]
    assert 0 < points[0] < points[1] < points[2]


def target(accuracy: float, curve: Any = CURVE) -> Any:
    found = worth.target(curve, accuracy, 0.01)
    json.dumps(found, allow_nan=False)
    return found


def test_a_target_says_how_many_answers_and_what_they_cost() -> None:
    found = target(0.90)
    assert found["more_answers"] > 0
    assert found["answers"] == 800 + found["more_answers"]
    assert CURVE.accuracy(found["answers"]).value == pytest.approx(0.90, abs=1e-4)
    assert found["usd"] == pytest.approx(found["more_answers"] * 0.01)
    assert "more answers are expected" in found["sentence"]
    assert 0 < found["chance_within_4_times"] < 1


def test_a_target_that_is_reached_or_out_of_reach_is_said_plainly() -> None:
    assert target(0.7)["more_answers"] == 0
    assert "are at hand" in target(0.7)["sentence"]
    found = target(0.9999)
    assert found["more_answers"] is None
    assert found["usd"] is None
    assert "no number of answers" in found["sentence"]
