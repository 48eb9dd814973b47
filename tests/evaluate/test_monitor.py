from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from aasut.errors import DataError
from aasut.evaluate import monitor
from aasut.evaluate.monitor import Monitor


def alarms(true_risk: float, runs: int, audits: int, good: int = 0) -> float:
    """Share of runs with an alarm among so many audits, of which the first `good` find one error in a hundred."""
    rng = np.random.default_rng(0)
    risks = np.r_[np.full(good, 0.01), np.full(audits - good, true_risk)]
    return float(np.mean([Monitor.begin(0.05, 0.9).saw(rng.random(audits) < risks).alarm for _ in range(runs)]))


def mixture(risk: float, bets: Sequence[float], errors: Sequence[bool]) -> float:
    """W by its definition: bets on each risk, begun at every tenth audit, and what is never staked."""
    starts = range(0, len(errors), 10)
    total = 1 / (len(starts) + 1)
    for j, start in enumerate(starts, 1):
        for bet in bets:
            by = [bet / risk if error else (1 - bet) / (1 - risk) for error in errors[start:]]
            total += math.prod(by) / (j * (j + 1) * len(bets))
    return total


def test_the_wealth_is_the_mixture_of_the_bets() -> None:
    errors = (np.random.default_rng(1).random(47) < 0.15).tolist()
    state = Monitor.begin(0.05, 0.95).saw(errors)
    assert state.bets == pytest.approx((0.1, 0.2, 0.4, 0.8))
    for n in (0, 1, 9, 10, 11, 30, 47):
        part = Monitor.begin(0.05, 0.95).saw(errors[:n])
        assert part.wealth == pytest.approx(mixture(0.05, state.bets, errors[:n]), rel=1e-12)
    assert (state.audits, state.errors) == (47, sum(errors))
    assert state == Monitor.begin(0.05, 0.95).saw(errors[:13]).saw(errors[13:])


@pytest.mark.parametrize("risk", [0.001, 0.05, 0.25, 0.5, 0.9])
def test_wealth_is_not_expected_to_grow(risk: float) -> None:
    """Over every run of audits, weighted by its chance at the promised risk, W stays 1 in the mean."""
    total = 0.0
    for errors in itertools.product((False, True), repeat=12):
        total += (
            math.prod(risk if error else 1 - risk for error in errors) * Monitor.begin(risk, 0.9).saw(errors).wealth
        )
    assert total == pytest.approx(1, rel=1e-9)


def test_false_alarms_are_rare_however_long_one_looks() -> None:
    assert alarms(0.05, 300, 800) <= 0.1 + 3 * math.sqrt(0.1 * 0.9 / 300)


def test_a_doubled_risk_is_noticed() -> None:
    assert alarms(0.10, 100, 600) > 0.95


def test_a_good_time_does_not_hide_a_bad_one() -> None:
    assert alarms(0.20, 100, 1200, good=1000) > 0.95


def test_an_alarm_stays() -> None:
    rung = Monitor.begin(0.05, 0.95).saw([True] * 6)
    assert rung.alarm
    calm = rung.saw([False] * 500)
    assert calm.alarm
    assert calm.wealth < 1
    assert "Alarm: 6 of 506" in calm.sentence()


def test_the_state_is_plain_data_however_bad_it_is() -> None:
    worst = json.loads(json.dumps(Monitor.begin(0.001, 0.95).saw([True] * 1000).as_dict(), allow_nan=False))
    assert worst["alarm"]
    assert worst["wealth"] > 1e200


@pytest.mark.parametrize(("risk", "confidence"), [(0, 0.9), (1, 0.9), (0.1, 1), (0.1, 0)])
def test_what_cannot_be_watched_is_refused(risk: float, confidence: float) -> None:
    with pytest.raises(DataError):
        Monitor.begin(risk, confidence)


def test_beside_the_upstream_the_share_that_differs_is_watched() -> None:
    state = monitor.beside({"risk": 0.05, "confidence": 0.95, "audit": {"risk": 0.08, "confidence": 0.975}})
    assert (state.risk, state.what) == (0.08, "differed")
    assert state.level == pytest.approx(0.025)
    assert "0 of 0 audited answers differed from the upstream's; at most 8 % is expected" in state.sentence()
    for old in ({}, {"audit": None}):
        with pytest.raises(DataError, match="Certify again"):
            monitor.beside(old)


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
