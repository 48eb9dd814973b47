"""Commands in processes of their own: told of, ended with the one that failed, and with the one that started them."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aasut.errors import ModelError
from aasut.mixture import children
from aasut.progress import Progress

RULES = "{good: positive, '': negative}"


def serving(folder: Path) -> list[str]:
    """A command that would go on for ever."""
    (folder / "rules.yaml").write_text(RULES, encoding="utf-8")
    return ["teacher", str(folder / "rules.yaml"), "--port", "0"]


def alive(words: str) -> list[int]:
    """Processes whose command line has these words."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if words in (path / "cmdline").read_bytes().replace(b"\0", b" ").decode():
                found.append(int(path.name))
        except OSError:
            continue
    return found


def test_each_is_run_and_what_is_said_goes_by_its_name() -> None:
    said = io.StringIO()
    children.run({"one": ["--version"], "two": ["--version"]}, 2, Progress(said))
    lines = ['{"message": "reading"}\n', '{"step": "learns", "done": 2, "total": 8}\n', "aasut: no\n", "[1]\n"]
    assert [children._told(line) for line in lines] == ["reading", "learns, 2 of 8", "", ""]
    assert said.getvalue() == ""


def test_one_that_fails_is_told_of_in_a_line_and_ends_the_others(tmp_path: Path) -> None:
    said = io.StringIO()
    gone = tmp_path / "gone.yaml"
    with pytest.raises(ModelError) as caught:
        children.run(
            {"other": serving(tmp_path), "bad": ["adapt", str(gone)], "later": ["--version"]}, 2, Progress(said)
        )
    assert str(caught.value) == (
        f"bad: There is no recipe {gone}. Give the path of a recipe.yaml. "
        "What is done is kept: mend this, and run the same command again."
    )
    assert alive(str(tmp_path)) == []


def test_they_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    words = json.dumps(serving(tmp_path))
    code = (
        "from aasut.mixture import children; from aasut.progress import Progress\n"
        f"children.run({{'other': {words}}}, 1, Progress())"
    )
    starter = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    child = f"aasut.mixture.children {starter.pid} "
    assert starter.stderr is not None
    assert "other: " in starter.stderr.readline(), "it serves"
    assert alive(child)
    os.kill(starter.pid, signal.SIGKILL)
    starter.wait()
    starter.stderr.close()
    for _ in range(300):
        if not alive(child):
            break
        time.sleep(0.05)
    assert alive(child) == []
