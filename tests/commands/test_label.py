"""`aasut label` as a user runs it: what it prints, what it refuses, and what a SIGKILL in the middle costs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import small_run
from aasut import cli
from aasut.data import asked
from chat_server import ChatServer, Reply, completion

CONCURRENCY = 4
FEW_THREADS = os.environ | {"OMP_NUM_THREADS": "1"}


def write(folder: Path, **changes: Any) -> Path:
    plain = small_run.recipe(**changes)
    plain["data"] |= {"asked": "asked.jsonl"}
    return small_run.write_recipe(folder, plain, rows=240)


def aasut(*arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command in a process of its own."""
    command = [sys.executable, "-m", "aasut", *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    return done.returncode, done.stdout, done.stderr


def test_what_it_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = write(tmp_path)
    root = ["--root", str(tmp_path / "runs"), "--quiet"]
    first = CliRunner().invoke(cli.app, ["label", str(recipe), "--budget", "30", *root])
    assert first.exit_code == 0, first.output
    lines = first.output.splitlines()
    assert lines[0] == (
        "Round 1: 30 rows, 24 chosen by diversity alone: no label is there yet, 6 at random. "
        "Asked so far: 30 of 120 rows of the pool."
    )
    assert lines[1] == "Calls made of the teacher just now: 30."
    assert lines[2].startswith("Over the whole pool the teacher would say: negative ")
    assert lines[3:] == [
        f"Use them: aasut run {recipe} --root {tmp_path / 'runs'}",
        f"More: aasut label {recipe} --budget 30 --root {tmp_path / 'runs'}",
    ]
    second = CliRunner().invoke(
        cli.app, ["label", str(recipe), "--budget", "10", "--random-share", "0.5", "--json", *root]
    )
    facts = json.loads(second.stdout)
    assert (facts["number"], facts["random"], facts["chosen"], facts["asked"], facts["left"]) == (2, 5, 5, 40, 80)
    assert facts["by"] == "uncertainty and diversity"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "Missing option '--budget'"),
        (["--budget", "0"], 2, "should be greater than or equal to 1"),
        (["--budget", "5", "--random-share", "1.5"], 2, "should be less than or equal to 1"),
        (["--budget", "5", "--set", "data.asked="], 1, "data.asked: String should have at least 1 character"),
        (["--budget", "5", "--set", "data.asked=null"], 1, "Add `asked: asked.jsonl` under data in the recipe."),
    ],
)
def test_what_it_refuses(tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    found, out, err = aasut("label", write(tmp_path), "--root", tmp_path / "runs", *arguments)
    assert (found, out) == (code, "")
    assert said in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "asked.jsonl").exists()


def test_a_kill_loses_no_choice_and_pays_nothing_twice(tmp_path: Path) -> None:
    """Killed in the middle of the first round and of the second; then as if nothing had happened, and a run is free."""
    enough, limit = threading.Event(), 20

    def reply(number: int, body: dict[str, Any]) -> Reply:
        time.sleep(0.01)
        if number >= limit:
            enough.set()
        good = any(word in body["messages"][-1]["content"] for word in small_run.WORDS["positive"])
        return completion("positive" if good else "negative", tokens=(1_000_000, 0))

    def killed(budget: int) -> list[asked.Line]:
        enough.clear()
        process = subprocess.Popen(
            [sys.executable, "-m", "aasut", "label", str(recipe), "--budget", str(budget), *root],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=FEW_THREADS,
        )  # fmt: skip
        assert enough.wait(60)
        process.kill()
        assert process.wait(60) == -signal.SIGKILL
        time.sleep(0.1)  # the server finishes what it had begun
        return asked.read(tmp_path / "asked.jsonl")

    def label(budget: int) -> dict[str, Any]:
        code, out, err = aasut("label", recipe, "--budget", str(budget), "--json", *root)
        assert code == 0, err
        return dict(json.loads(out))

    with ChatServer(reply) as server:
        endpoint = {"base_url": server.url, "model": "m", "api_key_env": "", "concurrency": CONCURRENCY}
        recipe = write(tmp_path, teacher={"endpoint": endpoint | {"usd_per_million_input_tokens": 2}})
        root = ["--root", str(tmp_path / "runs")]
        drawn = killed(50)
        assert len(drawn) == 50
        code, out, err = aasut("label", recipe, "--budget", "2", *root)
        assert (code, out) == (1, "")
        assert "rows in asked.jsonl have no answer from the teacher" in err
        before = len(server.bodies)
        facts = label(50)
        assert asked.read(tmp_path / "asked.jsonl") == drawn
        assert (facts["number"], facts["resumed"], facts["asked"]) == (1, True, 50)
        assert facts["usd"] == pytest.approx(2 * facts["calls"])
        assert 0 < len(server.bodies) - before == facts["calls"] <= 35
        limit = len(server.bodies) + 10
        drawn = killed(30)
        assert len(drawn) == 80
        facts = label(30)
        assert asked.read(tmp_path / "asked.jsonl") == drawn
        assert (facts["number"], facts["resumed"], facts["asked"]) == (2, True, 80)
        times = Counter(server.questions())
        assert len(times) == 80
        assert sum(times.values()) - 80 <= 2 * CONCURRENCY  # at most what was in flight at the kills
        code, _, err = aasut("run", recipe, *root)
        assert code == 0, err
        assert set(server.questions()[sum(times.values()) :]) & set(times) == set()  # it asks for test alone
        assert label(5)["number"] == 3
