"""Counted work against what the stages themselves say that they did."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

import small_run
from aasut import pipeline, recipe
from aasut.forecast import history
from aasut.forecast import work as works
from aasut.forecast.forecast import forecast
from aasut.forecast.pace import EARLIER
from aasut.forecast.rehearse import Rehearsal
from aasut.forecast.work import Work
from aasut.progress import Progress
from aasut.store import Store

QUIET = Progress(quiet=True)


def counted(path: Path, scratch: Path) -> Work:
    scratch.mkdir()
    loaded = recipe.load(path)
    with Store(path.parent / "runs" / ".store") as store:
        rehearsal = Rehearsal(loaded, path.parent, store, QUIET, scratch)
        return works.count(rehearsal, rehearsal.rehearse("full"))


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> tuple[Work, Work, Any, list[list[int]], Path]:
    """The work before and after a run of a small Llama that teaches itself; its facts, tokens and recipe."""
    folder = tmp_path_factory.mktemp("local")
    address = {"address": f"file:{tiny_llama}"}
    prompt = "Review: {text}\nSentiment:"
    plain = small_run.recipe(
        teacher={"model": address, "shots": 2, "candidates": 2, "committee": 2, "prompt": prompt},
        student={"initialise": "pretrained", "model": address, "prompt": "{text}\nIt is", "epochs": 2,
                 "batch_examples": 8, "checks": 3},
    )  # fmt: skip
    plain["data"]["split"] = {"pool": 40, "tune": 30, "calibrate": 5, "test": 25}
    path = small_run.write_recipe(folder, plain, rows=70)
    before = counted(path, folder / "one")
    done = pipeline.run(recipe.load(path), folder, folder / "runs", QUIET)
    ledger = sqlite3.connect(folder / "runs" / ".store" / "ledger.db")
    usages = [json.loads(row[0])["usage"] for row in ledger.execute("SELECT completion FROM call")]
    ledger.close()
    return before, counted(path, folder / "two"), done.facts, usages, path


def test_calls_and_tokens_are_the_ledgers(local: Any) -> None:
    before, _, facts, usages, _ = local
    assert sum(stage.calls for stage in before.stages) == facts["ledger"]["calls_made"] == len(usages)
    lost = sum(stage.tokens_in for stage in before.stages) - sum(usage[0] for usage in usages)
    assert 0 <= lost < len(usages)  # the ledger has the mean of a batch, rounded down
    assert sum(stage.tokens_out for stage in before.stages) == sum(usage[1] for usage in usages)


def test_training_is_the_trainers(local: Any) -> None:
    before, _, facts, *_ = local
    assert before.steps == facts["training"]["steps"]
    assert before["train"].units["train.positions"] == facts["training"]["positions"]
    assert before["train"].units["train.checks"] == len(facts["training"]["curve"])
    assert len(before.validation) == facts["training"]["validation_examples"]


def test_after_the_run_no_work_is_left(local: Any) -> None:
    after = local[1]
    assert all(stage.reused for stage in after.stages)
    assert all(not sum(stage.units.values()) for stage in after.stages)


def test_a_run_of_the_same_models_tells_the_pace_of_the_next(local: Any, tmp_path: Path) -> None:
    """More rows after a finished run: its own seconds are used, and no model is tried."""
    path = local[4]
    rows = small_run.sentences(90)
    folder = small_run.write_table(tmp_path / "table.csv", rows).parent
    (folder / "recipe.yaml").write_text(path.read_text())
    loaded = recipe.load(folder / "recipe.yaml")
    found = forecast(loaded, folder, path.parent / "runs", QUIET)
    assert found.how["teacher"] == found.how["student"] == EARLIER
    trained = next(line for line in found.lines if line.stage == "train")
    assert trained.seconds > 0
    other = loaded.model_copy(update={"student": loaded.student.model_copy(update={"batch_examples": 4})})
    with Store(path.parent / "runs" / ".store") as store:
        assert history.student(store, other) == {}
        assert set(history.teacher(store, other)) == {"tokens", "whole", "request"}
        assert history.student(store, loaded)["position"] == pytest.approx(
            local[2]["training"]["seconds"] / local[2]["training"]["positions"],
            abs=0.05 / local[2]["training"]["positions"],  # the report rounds seconds
        )


def test_the_teacher_is_loaded_once(local: Any) -> None:
    before = local[0]
    assert before.total("teacher.load") == 1
    assert before["choose"].units["teacher.load"] == 1


def test_timing_counts_its_warm_up_and_repetitions() -> None:
    assert works._timed(100, 2) == 8 + 2 * 100
    assert works._timed(3, 1) == 3 + 3


def test_candidates_that_are_not_known_yet_count_as_their_mean(tmp_path: Path, tiny_llama: Path) -> None:
    """One set of worked examples of six answers: its length is taken as the mean of all six."""
    plain = small_run.recipe(
        teacher={"model": {"address": f"file:{tiny_llama}"}, "shots": 1, "candidates": 4, "prompt": "{text} is"}
    )
    plain["data"]["split"] = {"pool": 40, "tune": 30, "calibrate": 5, "test": 25}
    path = small_run.write_recipe(tmp_path, plain, rows=70)
    rows = small_run.sentences(70)
    for number, row in enumerate(rows):  # some worked examples are far longer
        row["text"] += " word" * (number % 7)
    small_run.write_table(tmp_path / "table.csv", rows)
    found = counted(path, tmp_path / "scratch")
    choose, label = found.asked["choose"], found.asked["label"]
    lengths = {r.messages[:-1]: t.prefix for r, t in zip(choose.requests, choose.tokens, strict=True)}
    assert len(set(lengths.values())) > 1
    mean = sum(lengths.values()) / len(lengths)
    questions = sum(tokens.question for tokens in label.tokens)
    assert found["label"].tokens_in == pytest.approx(questions + mean * len(label.tokens), abs=2)


def test_no_more_is_healed_on_than_there_is_and_than_is_wanted(tmp_path: Path, tiny_llama: Path) -> None:
    texts = [json.dumps({"text": f"It rained on day {i}, and street {i % 7} was empty."}) for i in range(60)]
    (tmp_path / "general.jsonl").write_text("\n".join(texts))
    found = []
    for tokens in (100, 10**6):
        heal = {"texts": [{"source": "general.jsonl"}], "context": 64, "tokens": tokens}
        student = {"initialise": "pruned", "shape": {"layers": 1}, "model": {"address": f"file:{tiny_llama}"}}
        path = small_run.write_recipe(tmp_path, small_run.recipe(student=student | {"heal": heal}))
        small_run.write_table(tmp_path / "table.csv", small_run.sentences(60))
        found.append(counted(path, tmp_path / f"scratch-{tokens}")["heal"].units["heal.learned"])
    assert found[0] == 100
    assert 100 < found[1] < sum(map(len, texts))
