from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import small_run
from aasut import __version__
from aasut.cli import main
from chat_server import ChatServer, Reply, completion, refusal

Result = tuple[int, str, str]
Command = Callable[..., Result]


@pytest.fixture
def aasut(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command line in this process: (exit code, standard output, standard error)."""

    def call(*words: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["aasut", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            main()
        shown = capsys.readouterr()
        return int(caught.value.code or 0), shown.out, shown.err

    return call


def refused(result: Result, says: str, root: Path) -> None:
    """A user's mistake: exit code 1, one clear line, no traceback, no output that looks whole."""
    code, out, err = result
    mine = [line for line in err.splitlines() if line.startswith("aasut: ")]
    assert code == 1, err
    assert len(mine) == 1, err
    assert mine[0] == err.splitlines()[-1]
    assert says in mine[0]
    assert "Traceback" not in out + err
    assert all(line.startswith(("aasut: ", "{")) for line in err.splitlines()), err  # the rest is progress
    assert not list(root.rglob("report.json"))
    assert not list(root.rglob("report.html"))


def test_a_run_from_beginning_to_end(tmp_path: Path, aasut: Command) -> None:
    path, root = small_run.write_recipe(tmp_path), tmp_path / "runs"
    code, out, err = aasut("run", path, "--root", root)
    assert code == 0
    assert "teacher" in out
    assert "student" in out
    assert "Calls made of the teacher just now: 98" in out
    steps = [json.loads(line) for line in err.splitlines()]
    assert any(step.get("step") == "teacher labels the pool" and step["done"] == 60 for step in steps)
    assert any(re.match(r"label +done in .*60 rows in, 60 kept", step.get("message", "")) for step in steps)
    report = (root / "words" / "report.json").read_bytes()
    before = (root / "words" / "report.json").stat().st_mtime_ns

    code, out, err = aasut("run", path, "--root", root, "--json", "--quiet")
    assert (code, err) == (0, "")
    plain = json.loads(out)
    assert len(out.splitlines()) == 1
    assert plain["calls_made_now"] == 0
    assert plain["folder"] == str(root / "words")
    assert plain["verdict"] == json.loads(report)["verdict"]
    assert (root / "words" / "report.json").read_bytes() == report
    assert (root / "words" / "report.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(("margin", "result", "code"), [("0.3", "non_inferior", 0), ("0.001", "undecided", 3)])
def test_require_asks_for_the_verdict(tmp_path: Path, aasut: Command, margin: str, result: str, code: int) -> None:
    path = small_run.write_recipe(tmp_path, rows=80)
    words = ["run", path, "--root", tmp_path / "runs", "--set", f"evaluate.margin={margin}", "--json", "--quiet"]
    found, out, err = aasut(*words, "--require")
    assert (found, err) == (code, "")
    assert json.loads(out)["verdict"]["result"] == result
    assert (tmp_path / "runs" / "words" / "report.json").exists()
    assert aasut(*words)[0] == 0


def test_scale_and_several_flags(tmp_path: Path, aasut: Command) -> None:
    path = small_run.write_recipe(tmp_path, rows=80)
    flags = ["--scale", "ci", "--set", "seed=3", "--set", "data.limit=20", "--quiet", "--json"]
    code, out, _ = aasut("run", path, "--root", tmp_path / "r", *flags)
    assert code == 0
    assert json.loads(out)["name"] == "words-ci"
    assert max(json.loads(out)["data"]["counts"].values()) == 20


def edited(**changes: Any) -> dict[str, Any]:
    """The small recipe with dotted fields changed: data__limit=3."""
    plain = small_run.recipe()
    for place, value in changes.items():
        inner: Any = plain
        *sections, field = place.split("__")
        for section in sections:
            inner = inner[int(section)] if section.isdigit() else inner[section]
        inner[field] = value
    return plain


BAD_RECIPES: list[tuple[dict[str, Any], str]] = [
    (edited(colour="red"), "colour: there is no such field (given: 'red')"),
    (edited(student__epochs=3), "a linear student has no use for epochs"),
    (edited(task__labels=["negative", "positive", "Negative"]), "stands there twice"),
    (edited(task__labels=["positive"]), "at least 2"),
    (edited(task__prompt="{te\nxt}"), "is no slot name"),
    (edited(teacher={"scripted": {}, "calibration": "prior"}), "a scripted teacher gives no probabilities"),
    (edited(data__tables__0__source="nowhere.csv"), "nowhere.csv is not there"),
    (edited(data__tables__0__source="table.xyz"), "is not there"),
    (edited(data__tables__0__sha256="0" * 64), "the recipe pins " + "0" * 64),
    (edited(data__tables__0__slots={"text": "body"}), "has no column 'body'"),
    (edited(data__tables__0__encoding="klingon"), "no text encoding 'klingon'"),
    (edited(data__split={"pool": 0}), "The pool is empty"),
    (edited(data__split={"pool": 1, "test": 0}), "There are no human answers in test"),
    (edited(teacher={"scripted": {"great": "positive"}}), "answers are unusable (30 × no rule matches)"),
    (edited(teacher={"scripted": {"": "perhaps"}}), "× the answer is not in the list)"),
    (edited(teacher={"scripted": {"": "negative"}}), "the same answer, 'negative'"),
    (edited(teacher={"scripted": small_run.RULES, "shots": 90}), "90 shots are asked for"),
    (edited(teacher={"model": {"address": "file:nowhere.gguf"}}), "There is no model"),
    (edited(teacher={"model": {"address": "nonsense"}}), "cannot be read"),
    (edited(teacher={"model": {"address": "pypi:x==1#*.gguf"}}), "has no sha256"),
    (
        edited(teacher={"endpoint": {"base_url": "http://127.0.0.1:1/v1", "model": "m", "api_key_env": "NO_SUCH_KEY"}}),
        "environment variable NO_SUCH_KEY holds no key",
    ),
    (edited(teacher={"endpoint": {"base_url": "api.example.com", "model": "m"}}), "teacher.endpoint.base_url: "),
]


@pytest.mark.parametrize(("plain", "says"), BAD_RECIPES, ids=range(len(BAD_RECIPES)))
def test_a_bad_recipe_is_one_clear_line(tmp_path: Path, aasut: Command, plain: dict[str, Any], says: str) -> None:
    path = small_run.write_recipe(tmp_path, plain, rows=80)
    refused(aasut("run", path, "--root", tmp_path / "runs"), says, tmp_path)


def rows(count: int = 40, **changes: str) -> list[dict[str, str]]:
    return [row | changes for row in small_run.sentences(count)]


POOL = {"source": "pool.csv", "slots": {"text": "text"}, "id": "id", "group": {"column": "review"}, "role": "pool"}
GOLD = small_run.RECIPE["data"]["tables"][0] | {"role": "gold"}


def test_one_label_only(tmp_path: Path, aasut: Command) -> None:
    path = small_run.write_recipe(tmp_path)
    small_run.write_table(tmp_path / "table.csv", rows(sentiment="positive"))
    refused(aasut("run", path, "--root", tmp_path / "runs"), "All human answers are 'positive'", tmp_path)


def test_a_label_that_is_not_in_the_list(tmp_path: Path, aasut: Command) -> None:
    path = small_run.write_recipe(tmp_path)
    small_run.write_table(tmp_path / "table.csv", [*rows(), rows(1)[0] | {"id": "x", "sentiment": "neutral"}])
    says = "table.csv, line 42: the label 'neutral' is not in the list (negative, positive)"
    refused(aasut("run", path, "--root", tmp_path / "runs"), says, tmp_path)


@pytest.mark.parametrize("content", [b"", b"id,review,text,sentiment\n"])
def test_an_empty_table(tmp_path: Path, aasut: Command, content: bytes) -> None:
    path = small_run.write_recipe(tmp_path)
    (tmp_path / "table.csv").write_bytes(content)
    refused(aasut("run", path, "--root", tmp_path / "runs"), "table.csv is empty", tmp_path)


def test_an_empty_pool_table(tmp_path: Path, aasut: Command) -> None:
    path = small_run.write_recipe(tmp_path, edited(data__tables=[POOL, GOLD]))
    small_run.write_table(tmp_path / "pool.csv", [])
    refused(aasut("run", path, "--root", tmp_path / "runs"), "pool.csv is empty", tmp_path)


def test_gold_that_overlaps_the_pool(tmp_path: Path, aasut: Command) -> None:
    path = small_run.write_recipe(tmp_path, edited(data__tables=[POOL, GOLD]))
    twin = {"id": "p1", "review": "other", "text": small_run.sentences(120)[7]["text"].upper() + " "}
    small_run.write_table(tmp_path / "pool.csv", [twin])
    result = aasut("run", path, "--root", tmp_path / "runs")
    refused(result, "1 rows of the pool stand in a gold table too, the first is 0:p1", tmp_path)


def test_invalid_utf_8(tmp_path: Path, aasut: Command) -> None:
    path = small_run.write_recipe(tmp_path)
    small_run.write_table(tmp_path / "table.csv", rows(text="caf\u00e9 great"))
    text = (tmp_path / "table.csv").read_text(encoding="utf-8")
    (tmp_path / "table.csv").write_bytes(text.encode("latin-1"))
    result = aasut("run", path, "--root", tmp_path / "runs")
    refused(result, "table.csv is not utf-8: 40 of 40 rows cannot be read, the first in line 2", tmp_path)
    assert "try latin-1" in result[2]


def test_some_invalid_rows_are_named(tmp_path: Path, aasut: Command) -> None:
    path = small_run.write_recipe(tmp_path)
    content = (tmp_path / "table.csv").read_bytes() + b"x1,x1,caf\xe9,positive\n" * 5
    (tmp_path / "table.csv").write_bytes(content)
    result = aasut("run", path, "--root", tmp_path / "runs")
    refused(result, "5 of 125 rows cannot be used (not valid utf-8: 5, first in line 122)", tmp_path)


def test_recipes_that_are_none(tmp_path: Path, aasut: Command) -> None:
    refused(aasut("run", tmp_path / "recipe.yaml", "--root", tmp_path / "runs"), "There is no recipe", tmp_path)
    refused(aasut("run", tmp_path, "--root", tmp_path / "runs"), "is a folder", tmp_path)
    (tmp_path / "a.yaml").write_bytes(b"name: [\n\xff")
    refused(aasut("run", tmp_path / "a.yaml", "--root", tmp_path / "runs"), "is no YAML", tmp_path)
    path = small_run.write_recipe(tmp_path)
    nonsense = aasut("run", path, "--root", tmp_path / "runs", "--set", "student")
    refused(nonsense, "--set student: this is not section.field=value", tmp_path)
    refused(aasut("run", path, "--root", tmp_path / "runs", "--scale", "huge"), "There is no scale 'huge'", tmp_path)


@pytest.mark.parametrize("command", ["chat", "serve"])
def test_a_run_that_is_not_there(tmp_path: Path, aasut: Command, command: str) -> None:
    refused(aasut(command, "nowhere", "--root", tmp_path), "There is no run", tmp_path)


def test_a_root_that_is_a_file(tmp_path: Path, aasut: Command) -> None:
    path = small_run.write_recipe(tmp_path)
    (tmp_path / "runs").write_text("a file")
    refused(aasut("run", path, "--root", tmp_path / "runs"), "cannot be written: Not a directory", tmp_path)


@pytest.mark.parametrize("reply", [refusal(401, "Incorrect API key."), refusal(500, "broken")])
def test_a_teacher_that_refuses(tmp_path: Path, aasut: Command, reply: Reply) -> None:
    with ChatServer(lambda *_: reply) as server:
        endpoint = {"base_url": server.url, "model": "m", "api_key_env": "", "retries": 0}
        path = small_run.write_recipe(tmp_path, edited(teacher={"endpoint": endpoint}))
        result = aasut("run", path, "--root", tmp_path / "runs")
    refused(result, f"{server.url}/chat/completions does not answer: status", tmp_path)


def test_a_spending_cap_stops_with_one_line(tmp_path: Path, aasut: Command) -> None:
    with ChatServer(lambda *_: completion("positive", tokens=(1, 0))) as server:
        endpoint = {"base_url": server.url, "model": "m", "api_key_env": "", "usd_per_million_input_tokens": 1e6}
        plain = edited(teacher={"endpoint": endpoint, "max_usd": 80})
        path = small_run.write_recipe(tmp_path, plain)
        refused(aasut("run", path, "--root", tmp_path / "runs"), "could pass the cap of $80.0000", tmp_path)


@pytest.mark.parametrize(
    "words", [[], ["run"], ["--nonsense"], ["nonsense"], ["run", "a", "b"], ["serve", "a", "--port", "x"]]
)
def test_bad_usage(aasut: Command, words: list[str]) -> None:
    code, _, err = aasut(*words)
    assert code == 2
    assert "Traceback" not in err


def test_version_and_help(aasut: Command) -> None:
    assert aasut("--version") == (0, f"aasut {__version__}\n", "")
    code, out, _ = aasut("--help")
    assert code == 0
    assert all(command in out for command in ("run", "chat", "serve"))


def test_an_interrupted_run_says_so_and_goes_on(tmp_path: Path, aasut: Command) -> None:
    """SIGINT in the middle of labelling, in a process of its own."""

    def reply(number: int, body: dict[str, Any]) -> Reply:
        time.sleep(0.05)
        return completion("positive" if number % 2 else "negative")

    with ChatServer(reply) as server:
        endpoint = {"base_url": server.url, "model": "m", "api_key_env": "", "concurrency": 4}
        path = small_run.write_recipe(tmp_path, edited(teacher={"endpoint": endpoint}), rows=80)
        words = [sys.executable, "-m", "aasut", "run", str(path), "--root", str(tmp_path / "runs")]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while len(server.bodies) < 12:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert err.splitlines()[-1] == (
            "aasut: interrupted; everything done so far is kept, run the same command to go on"
        )
        assert "Traceback" not in out + err
        before = len(server.bodies)
        code, out, _ = aasut("run", path, "--root", tmp_path / "runs", "--json", "--quiet")
        assert code == 0
        plain = json.loads(out)
        total = plain["data"]["counts"]["pool"] + plain["data"]["counts"]["test"]
        assert len(server.bodies) - before == plain["calls_made_now"] <= total - 8


FREEING = """
    import os, signal
    from aasut import cli, pipeline

    class Freed:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            sum(range(1000))  # the signal is taken here

    @cli.app.command()
    def free() -> None:
        Freed()
        while True:
            signal.pause()

    cli.main()
"""


def test_a_signal_while_an_object_is_freed_is_not_lost() -> None:
    words = [sys.executable, "-c", textwrap.dedent(FREEING), "free"]
    ended = subprocess.run(words, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr.count("\n")) == (130, 1)
    assert ended.stderr.startswith("aasut: interrupted")


LIMITED = """
    import resource, signal, sys
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limit = int(sys.argv.pop())
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    from aasut.cli import main
    main()
"""


def test_no_space_left(tmp_path: Path) -> None:
    """Files may not grow beyond a limit, as on a full disk, at several places of the run; then there is room again."""
    path = small_run.write_recipe(tmp_path)
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    words = [
        sys.executable,
        "-c",
        textwrap.dedent(LIMITED),
        "run",
        str(path),
        "--root",
        str(tmp_path / "runs"),
        "--quiet",
    ]
    seen = set()
    for limit in (0, 5_000, 40_000, 60_000):
        ran = subprocess.run([*words, str(limit)], capture_output=True, text=True, env=environment)
        refused((ran.returncode, ran.stdout, ran.stderr), "", tmp_path)
        # SQLite calls a file that may not grow an I/O error.
        assert "No space left for" in ran.stderr or "cannot be used: disk I/O error" in ran.stderr
        seen.add(ran.stderr)
    assert len(seen) > 2
    ran = subprocess.run([*words, str(1 << 40)], capture_output=True, text=True, env=environment)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_the_recipe_of_the_small_run_is_a_recipe(tmp_path: Path) -> None:
    assert yaml.safe_load(small_run.write_recipe(tmp_path).read_text()) == small_run.RECIPE
