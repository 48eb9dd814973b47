"""Answering in a terminal: by keys on a real pseudo-terminal, by lines through a pipe, and across a kill."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from asking import aasut, ids, write_recipe, written
from test_session import FREE, LABELS, session

from aasut.gold.terminal import choose, clock, keys_of, sit, visible


class Screen:
    """A process on a pseudo-terminal."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process, self.master, self.shown = process, master, ""

    def until(self, pattern: str) -> str:
        """What is shown up to and with this; what comes after is for the next call."""
        end = time.monotonic() + 30
        while not (found := re.search(pattern, self.shown)):
            assert time.monotonic() < end, self.shown
            if select.select([self.master], [], [], 0.2)[0]:
                try:
                    self.shown += os.read(self.master, 65536).decode("utf-8", "replace")
                except OSError:  # Linux's way to say that the other end is closed
                    raise AssertionError(self.shown) from None
        before, self.shown = self.shown[: found.end()], self.shown[found.end() :]
        return before

    def keys(self, text: str) -> None:
        os.write(self.master, text.encode())


@contextmanager
def terminal(folder: Path, *flags: str) -> Iterator[Screen]:
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "aasut", "gold", "recipe.yaml", *flags]
    process = subprocess.Popen(
        command, cwd=folder, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C reaches it
    )  # fmt: skip
    os.close(slave)
    try:
        yield Screen(process, master)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(master)


def test_one_key_a_label(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    with terminal(tmp_path, "--rater", "ann", "--count", "10") as screen:
        shown = screen.until(r"1 of 10[\s\S]*quit")
        assert "Is it worth having?" in shown
        assert "[1] negative   [2] positive" in shown
        assert "secret" not in shown
        screen.keys("2")
        screen.until("2 of 10[^\n]*about [^\n]* left[\\s\\S]*quit")
        screen.keys("1")
        screen.until(r"3 of 10[\s\S]*quit")
        screen.keys("u")
        screen.until(r"2 of 10[\s\S]*quit")
        screen.keys("\x1b[A")  # an arrow means nothing
        screen.keys("neg\r")  # a typed beginning
        screen.until(r"3 of 10[\s\S]*quit")
        screen.keys("s")
        screen.until("nothing goes back")
        screen.keys("\r")
        screen.until("quit")
        screen.keys("s")
        screen.until("nothing goes back")
        screen.keys("3\r")
        screen.until(r"4 of 10[\s\S]*quit")
        screen.keys("9")
        screen.until("This is no answer: the answers are negative, positive")
        screen.keys("q")
        screen.until("2 rows answered; 7 left to ask")
        assert screen.process.wait(10) == 0
    lines = written(tmp_path)
    kinds = [next(kind for kind in ("answer", "undo", "unusable") if kind in line) for line in lines]
    assert kinds == ["answer", "answer", "undo", "answer", "unusable"]
    assert len({line["id"] for line in lines}) == 3
    assert all(line["seconds"] >= 0 and line["by"] == "ann" for line in lines)


def test_a_kill_loses_the_row_on_the_screen_alone(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    for number in range(1, 4):
        with terminal(tmp_path, "--rater", "ann", "--count", "10") as screen:
            screen.until(rf"── {number} of 10[\s\S]*quit")
            screen.keys("2")
            screen.until(rf"── {number + 1} of 10")  # the next one is shown: the answer is on the disk
            os.kill(screen.process.pid, signal.SIGKILL)
            screen.process.wait()
        assert len(written(tmp_path)) == number
    assert len(set(ids(written(tmp_path)))) == 3


def test_ctrl_c_is_a_way_to_stop(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    with terminal(tmp_path, "--count", "10") as screen:
        screen.until("quit")
        screen.keys("1")
        screen.until("2 of 10[\\s\\S]*quit")
        screen.keys("\x03")
        assert "Traceback" not in screen.until("1 rows answered; 9 left")
        assert screen.process.wait(10) == 0


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path) -> None:
    write_recipe(tmp_path, rows=11)
    ran = aasut(tmp_path, "gold", "recipe.yaml", "--count", "11", given="1\n" * 11)
    assert ran.returncode == 0
    assert "\x1b" not in ran.stdout
    assert "&  ␛[31m".replace("  ", " ") in ran.stdout
    assert visible("a\tb\x00\x7f\x9b31m\u2028") == "a\tb␀\ufffd\ufffd31m\ufffd"


def test_lines_through_a_pipe_and_the_state_as_json(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    first = aasut(tmp_path, "gold", "recipe.yaml", "--rater", "ann", "--count", "6", "--double", "1", "--json",
                  given="1\npositive\nNEG\ns\nhard to say\n")  # fmt: skip
    assert first.returncode == 0
    state = json.loads(first.stdout)
    assert (state["answers"], state["untouched"], state["skipped"]) == (3, 2, 1)
    assert "1 of 6" in first.stderr
    assert [line.get("answer") or line["skip"] for line in written(tmp_path)] == [
        "negative", "positive", "negative", "hard to say"]  # fmt: skip
    aasut(tmp_path, "gold", "recipe.yaml", "--rater", "bob", "--count", "6", "--double", "1", given="1\n1\n1\n1\n")
    plain = aasut(tmp_path, "gold", "recipe.yaml", "--count", "6", "--double", "1", "--status").stdout
    assert "Not counted: raters disagree on 1." in plain
    assert "Two people answered 3 rows and say the same on 67 %: kappa 0.00" in plain
    decide = ("gold", "recipe.yaml", "--rater", "eve", "--count", "6", "--adjudicate")
    decided = aasut(tmp_path, *decide, given="2\n").stdout
    assert re.search(r"People said:\n  1\. (negative|positive)\n  2\. (negative|positive)\n", decided)
    assert "disagree" not in decided.split("People said")[1]
    assert aasut(tmp_path, *decide, given="2\n").stdout.count("People said") == 0


def test_what_cannot_be_asked_is_one_clear_line(tmp_path: Path) -> None:
    path = write_recipe(tmp_path)
    cases = {
        ("gold", "nowhere"): "nowhere is neither a recipe nor a finished run in runs",
        ("gold", "recipe.yaml", "--count", "0"): "--count 0 asks for nothing",
        ("gold", "recipe.yaml", "--double", "2"): "--double 2 is no share",
        ("gold", "recipe.yaml", "--discordance", "0"): "--discordance 0 is no share",
        ("gold", "recipe.yaml", "--rater", " "): "' ' is no name of a person",
        ("run", "recipe.yaml"): "Give some with: aasut gold RECIPE",
    }
    for words, says in cases.items():
        ran = aasut(tmp_path, *words)
        assert ran.returncode == 1
        assert ran.stdout == ""
        assert ran.stderr.splitlines()[-1].startswith("aasut: ")
        assert says in ran.stderr
    path.write_text(path.read_text().replace("  gold: gold.jsonl\n", ""))
    assert "does not say where answers by hand go. Add `gold: gold.jsonl`" in aasut(tmp_path, "gold", str(path)).stderr
    assert not (tmp_path / "gold.jsonl").exists()


def test_free_text_goes_over_several_lines_and_is_checked(tmp_path: Path) -> None:
    asked = session(tmp_path, FREE)
    out = io.StringIO()
    given = '{"a"\n{"a": \\\n 1}\n{"a": "x"}\n:u\n{"a": 2}\n:s\n2\n:q\nnever read\n'
    sit(asked, io.StringIO(given), out)
    kept = [line.get("answer", line.get("skip", "")) for line in written(tmp_path)]
    assert kept == ['{"a": 1}', "", '{"a": 2}', "more than one answer fits"]
    assert "This is no answer: it is no JSON (Expecting" in out.getvalue()
    assert "This is no answer: a: 'x' is not of type 'integer'" in out.getvalue()
    assert "The answer is JSON: a (integer)" in out.getvalue()
    assert "Type the answer; a line that ends in \\ goes on." in out.getvalue()


def test_free_text_that_differs_is_decided_by_number(tmp_path: Path) -> None:
    sit(session(tmp_path, FREE, rater="ann"), io.StringIO('{"a": 1}\n'), io.StringIO())
    sit(session(tmp_path, FREE, rater="bob"), io.StringIO('{"a": 2}\n'), io.StringIO())
    out = io.StringIO()
    sit(session(tmp_path, FREE, rater="eve", adjudicate=True), io.StringIO(":2\n"), out)
    said = re.findall(r"^  [12]\. (.*)$", out.getvalue(), re.MULTILINE)
    assert sorted(said) == ['{"a": 1}', '{"a": 2}']
    assert written(tmp_path)[-1]["answer"] == said[1]


@pytest.mark.parametrize(
    ("text", "found"),
    [("neg", "negative"), ("NEGATIVE ", "negative"), ("2", "neutral"), ("ne", None), ("0", None), ("4", None),
     ("", None), ("x", None), ("positive", "positive"), ("p", "positive")],
)  # fmt: skip
def test_choosing_by_name_number_or_beginning(text: str, found: str | None) -> None:
    assert choose(text, ["negative", "neutral", "positive", "positively"][: 4 if text == "positive" else 3]) == found


def test_labels_that_are_digits_have_themselves_as_keys() -> None:
    assert keys_of(["0", "1", "2"]) == ("0", "1", "2")
    assert choose("1", ["0", "1", "2"]) == "1"
    assert choose("1", [str(number) for number in range(1, 12)]) == "1"
    assert keys_of(LABELS.answers) == ("1", "2", "3")
    assert keys_of([str(number) for number in range(10)]) == ()
    assert keys_of(()) == ()


def test_lengths_of_time() -> None:
    assert [clock(seconds) for seconds in (0.2, 59, 60, 3599, 7500)] == [
        "1 s",
        "59 s",
        "1 min",
        "1 h 0 min",
        "2 h 5 min",
    ]
