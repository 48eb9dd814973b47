"""Every command that the documentation names runs, at CI scale, on real models and data."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line and not line.startswith("#")
]
TRIED = (
    "run",
    "chat",
    "serve",
    "init",
    "gold",
    "teacher",
    "runs",
    "doctor",
    "label",
    "plan",
    "certify",
    "gateway",
    "synthesize",
    "search",
    "adapt",
    "mix",
    "agent",
    "traces",
)  # below, in test_home.py or in test_recipes.py


def aasut(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aasut", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, cwd=ROOT, timeout=1800)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run of the README's recipe at CI scale."""
    root = tmp_path_factory.mktemp("runs")
    finished = aasut("run", "examples/reviews/recipe.yaml", "--scale", "ci", "--root", str(root), "--quiet")
    assert finished.returncode == 0, finished.stderr[-2000:]
    return root


def test_the_readmes_commands_are_known() -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert COMMANDS
    for command in COMMANDS:
        program, *words = command.split()
        if program == "make":
            assert words[0] in targets, command
        elif program == "python":
            assert (ROOT / words[0]).is_file(), command
        else:
            assert program == "aasut", command
            assert words[0] in TRIED, command
            grouped = words[0] in ("runs", "gateway", "traces") and not words[1].startswith("--")
            path = words[: 3 if words[1:2] == ["keys"] else 2] if grouped else words[:1]
            shown = aasut(*path, "--help")
            assert shown.returncode == 0
            for flag in (word for word in words if word.startswith("--")):
                assert flag in shown.stdout, command


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


def test_what_a_finished_run_is_asked_afterwards(runs: Path) -> None:
    certified = aasut("certify", "reviews-ci", "--risk", "0.05", "--root", str(runs))
    assert certified.returncode == 0, certified.stderr[-2000:]
    assert certified.stdout.startswith("No certificate: ")  # so few rows show nothing
    planned = aasut("plan", "reviews-ci", "--target", "0.9", "--root", str(runs), "--quiet")
    assert planned.returncode == 0, planned.stderr[-2000:]
    assert "more answers: " in planned.stdout
    facts = json.loads((runs / "reviews-ci" / "report.json").read_text(encoding="utf-8"))
    assert facts["certificate"]["certified"] is False
    assert len(facts["learning_curve"]["points"]) >= 3


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


@pytest.fixture(scope="module")
def log(runs: Path) -> Path:
    """A log of the requests that the README's application sends, with the answers of the model behind it."""
    from aasut import recipe
    from aasut.progress import Progress
    from aasut.sources import tables

    loaded = recipe.load(ROOT / "examples/reviews/recipe.yaml")
    task = loaded.task.build()
    found = tables.read(loaded.data.tables[0], task=task, base=ROOT, progress=Progress(quiet=True)).examples
    path = runs / "own" / "log.jsonl"
    path.parent.mkdir()
    with path.open("w", encoding="utf-8") as file:
        for example in [one for one in found if one.answer][:240]:
            messages = [{"role": m.role, "content": m.content} for m in task.prompt.render(example.slots)]
            said = "positive" if "great" in example.slots["text"] else "negative"
            answer = {"choices": [{"message": {"role": "assistant", "content": said}}]}
            file.write(json.dumps({"request": {"model": "big-1", "messages": messages}, "response": answer}) + "\n")
    return path


def test_from_a_log_to_a_student_with_the_readmes_commands(log: Path) -> None:
    """init, gold, --dry-run, run and runs on one's own log, against a teacher over HTTP that fails as planned."""
    folder = log.parent

    def here(*arguments: str, stdin: str = "", good: int = 0) -> str:
        command = [sys.executable, "-m", "aasut", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, cwd=folder, timeout=300)
        assert done.returncode == good, done.stdout + done.stderr[-2000:]
        return done.stdout + done.stderr

    assert "read back from 240 of 240" in here("init", "log.jsonl", "--out", "log.yaml")
    assert "aasut gold" in here("run", "log.yaml", good=1)
    assert "60 rows answered" in here("gold", "log.yaml", "--count", "60", stdin="1\n2\n" * 30)
    (folder / "rules.yaml").write_text("{great: positive, good: positive, love: positive, '': negative}")
    (folder / "plan.yaml").write_text(
        "{seed: 1, faults: [{fault: 429, share: 0.05, retry_after_s: 0.2}, {fault: hang_up, share: 0.03}]}"
    )
    server = subprocess.Popen(
        [sys.executable, "-m", "aasut", "teacher", "rules.yaml", "--faults", "plan.yaml", "--port", "0"],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=folder,
    )  # fmt: skip
    try:
        assert server.stderr is not None
        ready = re.search(r"http://[^ ]+/v1", server.stderr.readline())
        assert ready is not None
        own = ["--set", f"teacher.endpoint.base_url={ready[0]}", "--set", "teacher.endpoint.api_key_env="]
        forecast = json.loads(_json(here("run", "log.yaml", *own, "--dry-run", "--json")))
        finished = json.loads(_json(here("run", "log.yaml", *own, "--json")))
        assert forecast["total"]["calls"] == finished["calls_made_now"] > 0
        assert json.loads(_json(here("run", "log.yaml", *own, "--json")))["calls_made_now"] == 0
        some = ["--set", "data.asked=asked.jsonl"]
        labelled = json.loads(_json(here("label", "log.yaml", "--budget", "40", *own, *some, "--json")))
        assert (labelled["asked"], labelled["calls"]) == (40, 0)  # which the run has paid for
    finally:
        server.terminate()
        server.wait(20)
    assert [run["name"] for run in json.loads(_json(here("runs", "list", "--json")))["runs"]] == ["log"]
    assert "evaluate" in here("runs", "tree", "log")
    assert "All is as it was made" in here("runs", "verify")
    assert "nothing" in here("runs", "clean", "--older-than", "30d").casefold()
    assert "negative" in here("chat", "log", stdin="it broke after a day\n")


@contextmanager
def started(folder: Path, *arguments: str) -> Iterator[str]:
    """A server of aasut in `folder`; yields its address once it says it."""
    command = [sys.executable, "-m", "aasut", *arguments, "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=folder)
    try:
        assert server.stderr is not None
        ready = re.search(r"http://[^ ]+/v1", server.stderr.readline())
        assert ready is not None
        yield ready[0]
    finally:
        server.terminate()
        server.wait(60)


def test_in_front_of_an_api_with_the_readmes_commands(log: Path, tmp_path: Path) -> None:
    """gateway, run --from-traffic, gold, certify, gateway --student, status, keys, export, reload, on real requests."""
    (tmp_path / "rules.yaml").write_text("{great: positive, good: positive, love: positive, '': negative}")
    requests = [json.loads(line)["request"] for line in log.read_text(encoding="utf-8").splitlines()]

    with_key = os.environ | {"OPENAI_API_KEY": "sk-of-the-application"}

    def here(*arguments: str, stdin: str = "", good: int = 0) -> str:
        command = [sys.executable, "-m", "aasut", *arguments]
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, cwd=tmp_path, timeout=300, env=with_key
        )
        assert done.returncode == good, done.stdout + done.stderr[-2000:]
        return done.stdout + done.stderr

    def ask(url: str) -> str:
        """Send all requests through the gateway; who answered the last."""
        for body in requests:
            data, kind = json.dumps(body).encode(), {"content-type": "application/json"}
            with urllib.request.urlopen(urllib.request.Request(url + "/chat/completions", data, kind)) as answer:
                said = str(answer.headers["x-aasut-answered-by"])
        return said

    with started(tmp_path, "teacher", "rules.yaml") as teacher:
        with started(tmp_path, "gateway", "--upstream", teacher) as url:
            assert ask(url) == "upstream"
        assert "aasut gold traffic.yaml" in here("run", "--from-traffic", good=1)
        assert "80 rows answered" in here("gold", "traffic.yaml", "--count", "80", stdin="1\n2\n" * 40)
        finished = json.loads(_json(here("run", "traffic.yaml", "--from-traffic", "--json")))
        assert finished["calls_made_now"] == 0  # all of it was paid when it came
        assert "calibrate" in here("certify", "traffic", "--risk", "0.05")
        refused = here("gateway", "--upstream", teacher, "--student", "traffic", good=1)
        assert "certifies nothing" in refused
        with started(tmp_path, "gateway", "--upstream", teacher, "--student", "traffic", "--mode", "shadow") as url:
            assert ask(url) == "upstream"
            here("gateway", "reload")
            assert "shadow" in here("gateway", "status")
    state = json.loads(here("gateway", "status", "--json"))
    assert state["requests"] == 480
    assert "aasut-" in here("gateway", "keys", "add", "app", "--usd-per-month", "50")
    here("gateway", "export", "log.jsonl")
    assert len((tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()) >= 480


def _json(output: str) -> str:
    """The line of a command's answer: neither progress nor a message."""
    return next(
        line for line in output.splitlines() if line.startswith("{") and line[:9] not in ('{"step": ', '{"message')
    )


def test_documents_become_a_student_that_knows_them(tmp_path: Path) -> None:
    recipe, root = "examples/energy/recipe.yaml", ["--root", str(tmp_path), "--quiet"]
    shown = aasut("synthesize", recipe, "--preview", "2", "--scale", "ci", *root)
    assert shown.returncode == 0, shown.stderr[-2000:]
    assert "By this measure a whole run asks " in shown.stdout
    adapted = aasut("adapt", recipe, "--scale", "ci", *root, "--json")
    assert adapted.returncode == 0, adapted.stderr[-2000:]
    facts = json.loads(adapted.stdout)
    assert facts["synthesis"]["conservation"]["documents"]["kept"] > 150
    assert facts["adaptation"]["train"]["tokens_learned"]["documents"] > 1000
    written = aasut("synthesize", recipe, "--scale", "ci", *root)
    assert written.stdout.startswith("Files      ")
    assert "Calls made of the teacher just now: 0" in written.stdout
    found = aasut("search", str(tmp_path / "energy-ci" / "recipe.yaml"), "which cable does a Back-UPS want", *root[:2])
    assert found.returncode == 0, found.stderr[-2000:]
    assert found.stdout.startswith("1. ")
