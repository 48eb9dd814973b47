from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import time
from typing import Any

import pytest

from aasut.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines_away_from_a_terminal() -> None:
    stream = io.StringIO()
    progress = Progress(stream, every_s=0)
    progress.say("नमस्ते")
    with progress.steps("label", 3) as step:
        step.advance(2, "half")
        step.advance()
    said, first, last = lines(stream)  # the end is told once
    assert said == {"message": "नमस्ते"}
    assert (first["step"], first["done"], first["total"], first["note"]) == ("label", 2, 3, "half")
    assert (last["done"], last["left_s"]) == (3, 0)
    assert "नमस्ते" in stream.getvalue()


def test_lines_come_no_oftener_than_asked() -> None:
    stream = io.StringIO()
    with Progress(stream, every_s=60).steps("label", 1000) as step:
        for _ in range(1000):
            step.advance()
    assert [line["done"] for line in lines(stream)] == [1000]


def test_a_broken_step_says_where_it_stood() -> None:
    stream = io.StringIO()

    def broken() -> None:
        with Progress(stream).steps("label", 9) as step:
            step.advance(4)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert lines(stream)[-1]["done"] == 4


def test_the_time_left_leaves_resumed_parts_out_of_the_pace() -> None:
    with Progress(quiet=True).steps("label", 100) as step:
        step.advance(50, resumed=True)
        assert step.seconds_left is None
        step.started = time.monotonic() - 10
        step.advance(10)
        assert step.seconds_left == pytest.approx(40, abs=0.5)
        step.advance(40)
        assert step.seconds_left == 0


def test_a_bar_on_a_terminal() -> None:
    stream = Terminal()
    progress = Progress(stream)
    with progress.steps("label", 4) as step:
        step.started = time.monotonic() - 61
        step.shown = 0
        step.advance(2)
    progress.say("done")
    shown = stream.getvalue()
    assert re.search(r"label +━{12} +2/4  1:01, 1:01 left", shown)
    assert shown.endswith("\ndone\n")
    assert "{" not in shown


def test_quiet_says_nothing() -> None:
    for stream in (io.StringIO(), Terminal()):
        progress = Progress(stream, quiet=True, every_s=0)
        progress.say("a")
        with progress.steps("b", 1) as step:
            step.shown = 0
            step.advance()
        assert stream.getvalue() == ""


def test_standard_output_stays_clean() -> None:
    code = "from aasut.progress import Progress\np = Progress()\np.say('a')\nwith p.steps('b', 1) as s: s.advance()"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == ""
    assert [next(iter(json.loads(line))) for line in ran.stderr.splitlines()] == ["message", "step"]
