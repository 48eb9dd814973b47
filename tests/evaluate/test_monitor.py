from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from aasut.errors import DataError
from aasut.evaluate import monitor
from aasut.evaluate.monitor import Monitor


def alarms(true_risk: float, runs: int, audits: int, seed: int = 0) -> float:
    """Share of runs with an alarm among so many audits."""
    rng = np.random.default_rng(seed)
    return float(np.mean([Monitor.begin(0.05, 0.9).saw(rng.random(audits) < true_risk).alarm for _ in range(runs)]))


def test_the_wealth_is_the_product_of_the_bets() -> None:
    errors = [False, True, False, False, True]
    state = Monitor.begin(0.05, 0.95, eta=4.0).saw(errors)
    wealth = math.prod(1 + 4.0 * (error - 0.05) for error in errors)
    assert math.exp(state.log_wealth) == pytest.approx(wealth, rel=1e-12)
    assert (state.audits, state.errors) == (5, 2)
    assert state == Monitor.begin(0.05, 0.95, eta=4.0).saw(errors[:2]).saw(errors[2:])


def test_false_alarms_are_rare_however_long_one_looks() -> None:
    assert alarms(0.05, 300, 800) <= 0.1 + 3 * math.sqrt(0.1 * 0.9 / 300)


def test_a_doubled_risk_is_noticed() -> None:
    assert alarms(0.10, 100, 600) > 0.95


def test_an_alarm_stays() -> None:
    rung = Monitor.begin(0.05, 0.95).saw([True] * 6)
    assert rung.alarm
    calm = rung.saw([False] * 500)
    assert calm.alarm
    assert calm.log_wealth < 0
    assert "Alarm: 6 of 506" in calm.sentence()


def test_the_largest_bet_is_ruined_by_right_answers_alone() -> None:
    ruined = Monitor.begin(0.25, 0.95, eta=4.0).saw([False])
    assert ruined.log_wealth == -math.inf
    assert not ruined.saw([True] * 50).alarm
    assert json.loads(json.dumps(ruined.as_dict()))["wealth"] == 0.0


@pytest.mark.parametrize(("risk", "confidence", "eta"), [(0, 0.9, None), (0.1, 1, None), (0.1, 0.9, 11), (0.1, 0.9, 0)])
def test_what_cannot_be_watched_is_refused(risk: float, confidence: float, eta: float | None) -> None:
    with pytest.raises(DataError):
        Monitor.begin(risk, confidence, eta)


def certificate(folder: Path, **changes: object) -> Path:
    path = folder / "certificate.json"
    plain = {"certified": True, "kind": "selective", "risk": 0.05, "confidence": 0.95}
    path.write_text(json.dumps(plain | changes), encoding="utf-8")
    return path


def test_audits_of_a_file(tmp_path: Path) -> None:
    audits = tmp_path / "audits.jsonl"
    audits.write_text('{"wrong": false}\n\n' + '{"wrong": true, "id": 4}\n' * 8, encoding="utf-8")
    state = monitor.over(certificate(tmp_path), audits)
    assert (state.audits, state.errors, state.alarm) == (9, 8, True)


@pytest.mark.parametrize(
    ("line", "said"),
    [("{}", "line 2: there is no audit"), ("no", "line 2"), ('{"wrong": 1}', "line 2"), ("[]", "line 2")],
)
def test_a_line_that_is_no_audit(tmp_path: Path, line: str, said: str) -> None:
    audits = tmp_path / "audits.jsonl"
    audits.write_text(f'{{"wrong": true}}\n{line}\n', encoding="utf-8")
    with pytest.raises(DataError, match=said):
        monitor.over(certificate(tmp_path), audits)


def test_nothing_to_watch(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no certificate"):
        monitor.over(tmp_path / "certificate.json", tmp_path / "audits.jsonl")
    with pytest.raises(DataError, match="certifies nothing"):
        monitor.over(certificate(tmp_path, certified=False), tmp_path / "audits.jsonl")
    with pytest.raises(DataError, match="kind system"):
        monitor.over(certificate(tmp_path, kind="system"), tmp_path / "audits.jsonl")
    with pytest.raises(DataError, match=r"audits\.jsonl cannot be read"):
        monitor.over(certificate(tmp_path), tmp_path / "audits.jsonl")
