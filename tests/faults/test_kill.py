"""Runs that are killed with SIGKILL, as a user runs them, and what the same command then does."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import small_run
from aasut.store import Store
from chat_server import ChatServer, Reply, completion

CONCURRENCY = 4


def command(recipe: Path, root: Path) -> list[str]:
    return [sys.executable, "-m", "aasut", "run", str(recipe), "--root", str(root)]


def start(recipe: Path, root: Path) -> subprocess.Popen[str]:
    # The commands of one test may use different folders; threads of numerical libraries stay few.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(
        command(recipe, root), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def finish(recipe: Path, root: Path) -> dict[str, Any]:
    """Run to the end; the content of report.json."""
    process = start(recipe, root)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    return dict(json.loads((root / "words" / "report.json").read_text()))


def kill_when(recipe: Path, root: Path, said: str) -> None:
    """Start the run, kill it the moment its progress says this."""
    process = start(recipe, root)
    assert process.stderr is not None
    for line in process.stderr:
        if said in line:
            process.kill()
            break
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL


def committed(root: Path) -> set[str]:
    """Questions whose answers stand in the ledger."""
    with closing(sqlite3.connect(root / ".store" / "ledger.db")) as database:
        rows = database.execute("SELECT request FROM call").fetchall()
    return {json.loads(row[0])["messages"][-1][1] for row in rows}


def test_no_completed_call_is_repeated_after_a_kill(tmp_path: Path) -> None:
    """Killed twice in the middle of labelling. The server counts: what was committed is never asked again."""
    enough = threading.Event()
    stop_at = 20

    def reply(number: int, body: dict[str, Any]) -> Reply:
        time.sleep(0.01)
        if number >= stop_at:
            enough.set()
        question = body["messages"][-1]["content"].casefold()
        good = any(word in question for word in small_run.WORDS["positive"])
        return completion("positive" if good else "negative", tokens=(1_000_000, 0))

    with ChatServer(reply) as server:
        endpoint = {"base_url": server.url, "model": "m", "api_key_env": "", "concurrency": CONCURRENCY}
        endpoint["usd_per_million_input_tokens"] = 2
        recipe = small_run.write_recipe(tmp_path, small_run.recipe(teacher={"endpoint": endpoint}))
        for _ in range(2):
            process = start(recipe, tmp_path / "runs")
            assert enough.wait(60)
            process.kill()
            process.communicate(timeout=60)
            assert process.returncode == -signal.SIGKILL
            time.sleep(0.1)  # the server finishes what it had begun
            done, asked_before = committed(tmp_path / "runs"), len(server.bodies)
            assert len(done) >= 15
            enough.clear()
            stop_at = asked_before + 15
        report = finish(recipe, tmp_path / "runs")
        assert set(server.questions()[asked_before:]) & done == set()
        asked = Counter(server.questions())
        repeated = sum(times - 1 for times in asked.values())
        assert repeated <= 2 * CONCURRENCY
        # tune is not asked: nothing is chosen or calibrated
        counts, calls = report["data"]["counts"], report["ledger"]
        assert len(asked) == len(committed(tmp_path / "runs")) == counts["pool"] + counts["test"]
        assert (calls["calls_made"], calls["calls_reused"]) == (len(asked) - len(done), len(done))
        assert (calls["usd_spent"], calls["usd_reused"]) == (2 * calls["calls_made"], 2 * len(done))
        assert report["economics"]["labelling_usd"] == 2 * len(asked)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A recipe, and the report of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("clean")
    recipe = small_run.write_recipe(folder)
    return recipe, finish(recipe, folder / "runs")


def test_a_run_that_is_killed_at_every_stage_ends_as_one_that_was_not(
    tmp_path: Path, clean: tuple[Path, dict[str, Any]]
) -> None:
    recipe, undisturbed = clean
    for moment in ("find duplicates", '"teacher labels the pool"', '"label ', '"linear ', "measuring speed"):
        kill_when(recipe, tmp_path, moment)
        assert not (tmp_path / "words" / "report.json").exists()
    report = finish(recipe, tmp_path)
    assert report["lineage"] == undisturbed["lineage"]
    for part in ("verdict", "conservation", "data", "disagreements", "task"):
        assert report[part] == undisturbed[part], part
    with Store(tmp_path / ".store") as store:
        assert store.verify() == []
    assert os.listdir(tmp_path / ".store" / "work") == []
    assert list(tmp_path.rglob("*.partial")) == []
