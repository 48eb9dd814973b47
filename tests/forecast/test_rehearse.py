"""A rehearsal asks what the run would ask, of no one, and leaves nothing but the rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import small_run
from aasut import pipeline, recipe
from aasut.forecast.rehearse import Rehearsal
from aasut.progress import Progress
from aasut.store import Artefact, Store
from aasut.teacher.server import ScriptedServer

QUIET = Progress(quiet=True)


@contextmanager
def rehearsed(path: Path, *flags: str) -> Iterator[tuple[Rehearsal, dict[str, Artefact]]]:
    scratch = path.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    with Store(path.parent / "runs" / ".store") as store:
        rehearsal = Rehearsal(recipe.load(path, flags), path.parent, store, QUIET, scratch)
        try:
            yield rehearsal, rehearsal.rehearse("full")
        finally:
            rehearsal.close()


def run(path: Path) -> pipeline.Run:
    return pipeline.run(recipe.load(path), path.parent, path.parent / "runs", QUIET)


def with_endpoint(folder: Path, url: str) -> Path:
    endpoint = {"base_url": url, "model": "m", "api_key_env": "", "concurrency": 4}
    plain = small_run.recipe(teacher={"endpoint": endpoint, "shots": 2, "candidates": 2})
    plain["data"]["split"] = {"pool": 40, "tune": 30, "calibrate": 5, "test": 25}
    return small_run.write_recipe(folder, plain)


def test_what_it_would_ask_is_what_the_run_asks_and_no_call_is_made(tmp_path: Path) -> None:
    with ScriptedServer(small_run.RULES) as server:
        path = with_endpoint(tmp_path, server.url)
        with rehearsed(path) as (rehearsal, done):
            counts = {stage: len(rehearsal.asked(stage).requests) for stage in ("choose", "label", "evaluate")}
            prints = {name: artefact.fingerprint for name, artefact in done.items()}
            assert len(rehearsal.test_tokens) == counts["evaluate"]
        assert server.stats()["requests"] == 0
        true = run(path)
    assert sum(counts.values()) == true.calls_made == server.stats()["requests"]
    assert min(counts.values()) > 0
    for entry in true.facts["lineage"]:
        if entry["stage"] in ("data", "choose", "label"):
            assert prints[entry["stage"]] == entry["fingerprint"], entry["stage"]


def test_only_the_rows_go_into_the_store(tmp_path: Path) -> None:
    path = small_run.write_recipe(tmp_path, rows=60)
    with rehearsed(path) as (rehearsal, done):
        assert [entry.stage for entry in rehearsal.store.entries().values()] == ["data"]
        assert rehearsal.store.attempts() == {}
        assert {name for name, artefact in done.items() if artefact.path.is_relative_to(rehearsal.store.root)} == {
            "data"
        }
    assert not (tmp_path / "runs" / ".store" / "ledger.db").exists()


def test_answers_that_the_ledger_holds_are_told_from_those_to_ask(tmp_path: Path) -> None:
    path = small_run.write_recipe(tmp_path, rows=80)
    run(path)
    small_run.write_table(tmp_path / "table.csv", small_run.sentences(90))
    with rehearsed(path) as (rehearsal, done):
        new = sum(len(rehearsal.asked(stage).requests) for stage in ("label", "evaluate"))
        assert not done["label"].reused
        assert 0 < new < 20
        assert sum(rehearsal.held.values()) > 40
    assert run(path).calls_made == new


def test_a_finished_run_has_nothing_to_rehearse(tmp_path: Path) -> None:
    path = small_run.write_recipe(tmp_path, rows=60)
    run(path)
    with rehearsed(path) as (rehearsal, done):
        assert all(artefact.reused for artefact in done.values())
        assert rehearsal.held == {}


@pytest.mark.parametrize(
    ("teacher", "kind"),
    [
        ({"scripted": {"": "negative"}}, "scripted"),
        ({"endpoint": {"base_url": "http://127.0.0.1:9/v1", "model": "m", "api_key_env": ""}}, "endpoint"),
        ({"model": {"address": "file:m"}}, "model"),
    ],
)
def test_the_kind_of_teacher(tmp_path: Path, teacher: dict[str, Any], kind: str) -> None:
    parsed = recipe.parse(small_run.recipe(teacher=teacher), "test")
    with Store(tmp_path / "store") as store:
        assert Rehearsal(parsed, tmp_path, store, QUIET, tmp_path).teacher_kind == kind
