"""Every command and every recipe that the documentation names runs, at CI scale, on real models and data."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RECIPES = sorted((ROOT / "examples").glob("*/recipe.yaml"))
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line and not line.startswith("#")
]


def aasut(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aasut", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, cwd=ROOT, timeout=600)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every recipe's run at CI scale."""
    root = tmp_path_factory.mktemp("runs")
    for recipe in RECIPES:
        finished = aasut("run", str(recipe.relative_to(ROOT)), "--scale", "ci", "--root", str(root), "--quiet")
        assert finished.returncode == 0, finished.stderr[-2000:]
    return root


def test_the_readmes_commands_are_known() -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert COMMANDS
    for command in COMMANDS:
        program, *words = command.split()
        if program == "make":
            assert words[0] in targets, command
        else:
            assert program == "aasut", command
            assert words[0] in ("run", "chat", "serve"), command
            assert aasut(words[0], "--help").returncode == 0
            for flag in (word for word in words if word.startswith("--")):
                assert flag in aasut(words[0], "--help").stdout, command


def test_a_finished_run_holds_what_the_readme_says(runs: Path) -> None:
    folder = runs / "reviews-ci"
    facts = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert facts["verdict"]["n"] == facts["conservation"]["evaluate"]["kept"]
    assert (folder / "report.html").read_text(encoding="utf-8").startswith("<!")
    assert (folder / "student" / "model.safetensors").exists()
    assert (folder / "student.gguf").read_bytes()[:4] == b"GGUF"
    assert "gemma" in (folder / "card.md").read_text(encoding="utf-8").casefold()


def test_the_second_run_calls_nobody_and_changes_nothing(runs: Path) -> None:
    folder = runs / "reviews-ci"
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*") if p.is_file()}
    report = (folder / "report.json").read_bytes()
    again = aasut("run", "examples/reviews/recipe.yaml", "--scale", "ci", "--root", str(runs), "--quiet", "--json")
    assert json.loads(again.stdout)["calls_made_now"] == 0
    assert (folder / "report.json").read_bytes() == report
    assert {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*") if p.is_file()} == before


def test_chat_answers_with_a_label(runs: Path) -> None:
    answered = aasut("chat", "reviews-ci", "--root", str(runs), "--json", stdin="I love this camera\nit broke\n")
    assert answered.returncode == 0, answered.stderr
    labels = [json.loads(line)["label"] for line in answered.stdout.splitlines()]
    assert len(labels) == 2
    assert set(labels) <= {"negative", "positive"}


@pytest.fixture
def port(runs: Path) -> Iterator[int]:
    """The port of a server of the CI run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = int(free.getsockname()[1])
    command = [sys.executable, "-m", "aasut", "serve", "reviews-ci", "--root", str(runs), "--port", str(number)]
    server = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{number}/health", timeout=1)
                break
            except OSError:
                time.sleep(0.1)
        yield number
    finally:
        server.terminate()
        server.wait(30)


def test_the_readmes_client_gets_an_answer(port: int) -> None:
    [code] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    code = code.replace(":8000/", f":{port}/").replace('model="reviews"', 'model="reviews-ci"')
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("negative", "positive")
