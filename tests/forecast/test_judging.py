"""What judges and other teachers will ask is forecast: no less than they then do, and caps are looked at before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import small_run
from aasut import pipeline, recipe
from aasut.forecast.forecast import Forecast, forecast
from aasut.progress import Progress
from aasut.teacher.server import ScriptedServer


def dry(path: Path) -> Forecast:
    quiet = Progress(quiet=True)
    return forecast(recipe.load(path, ()), path.parent, path.parent / "runs", quiet, probing=False, latency_s=0.5)


def write(folder: Path, *judges: dict[str, Any]) -> Path:
    plain = small_run.recipe(judges=[{"rubric": "Be right.", **judge} for judge in judges])
    return small_run.write_recipe(folder, plain, rows=160)


def test_calls_are_those_of_the_run_at_most(tmp_path: Path) -> None:
    path = write(tmp_path, {"scripted": {"Which answer": "tie", "": "right"}, "unlabelled": 20})
    found = dry(path)
    line = next(line for line in found.lines if line.stage == "judge")
    made = pipeline.run(recipe.load(path, ()), tmp_path, tmp_path / "runs", Progress(quiet=True)).facts
    test, compared = made["data"]["counts"]["test"], 1 - made["judged"]["preference"]["same"]
    assert line.calls == 3 * test + 20
    assert made["judged"]["ledger"]["calls_made"] == pytest.approx(test + 20 + 2 * compared * test)
    assert next(one for one in found.lines if one.stage == "label").calls == made["data"]["counts"]["pool"] - 20
    assert "at most" in found.how["calls"]
    assert found.problem() is None
    assert next(line for line in dry(path).lines if line.stage == "judge").reused


def test_a_cap_that_would_stop_a_judge_is_said_before(tmp_path: Path) -> None:
    with ScriptedServer({"": "right"}) as server:
        priced = {"base_url": server.url, "model": "m", "api_key_env": "", "usd_per_million_input_tokens": 1000.0}
        path = write(tmp_path, {"endpoint": priced, "max_usd": 0.5})
        found = dry(path)
        assert server.requests == 0
    line = next(line for line in found.lines if line.stage == "judge")
    assert line.usd == pytest.approx(line.tokens_in / 1000)
    assert line.seconds == pytest.approx(line.calls * 0.5 / 16)
    problem = found.problem()
    assert problem is not None
    assert problem.message.startswith("judges[0].max_usd ($0.5000) may stop the run: m needs up to about $")
    assert found.stops_after is None


def test_other_teachers_are_counted_beside_the_stage_that_asks_them(tmp_path: Path) -> None:
    others = [{"scripted": small_run.RULES | {word: "negative"}, "family": word} for word in ("lovely", "solid")]
    plain = small_run.recipe(teacher={"scripted": small_run.RULES, "others": others})
    path = small_run.write_recipe(tmp_path, plain, rows=160)
    found = dry(path)
    made = pipeline.run(recipe.load(path, ()), tmp_path, tmp_path / "runs", Progress(quiet=True)).facts
    calls = {line.stage: line.calls for line in found.lines}
    pool, test = made["data"]["counts"]["pool"], made["data"]["counts"]["test"]
    assert (calls["label"], calls["others"], calls["evaluate"]) == (pool, 2 * pool, test)
    assert sum(calls.values()) == made["ledger"]["calls_made"]
    assert [bill.calls for bill in found.others] == [pool, pool]
    assert found.problem() is None
    assert "others" not in {line.stage for line in dry(path).lines}  # the labels are made


def test_a_cap_that_would_stop_another_teacher_is_said_before(tmp_path: Path) -> None:
    with ScriptedServer({"": "positive"}) as server:
        priced = {"base_url": server.url, "model": "gpt-x", "api_key_env": "", "usd_per_million_input_tokens": 1000.0}
        others = [{"scripted": {"": "negative"}, "family": "b"}, {"endpoint": priced, "max_usd": 0.5}]
        plain = small_run.recipe(teacher={"scripted": small_run.RULES, "others": others})
        found = dry(small_run.write_recipe(tmp_path, plain, rows=160))
        assert server.requests == 0
    line = next(line for line in found.lines if line.stage == "others")
    assert line.usd == pytest.approx(line.usd_worst, rel=20)
    assert line.usd > 0.5
    problem = found.problem()
    assert problem is not None
    assert problem.message.startswith("teacher.others[1].max_usd ($0.5000) may stop the run: gpt-x needs up to about $")
    assert found.stops_after is None
