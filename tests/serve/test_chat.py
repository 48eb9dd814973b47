from __future__ import annotations

import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aasut.engine.scripted import ScriptedEngine
from aasut.errors import DataError
from aasut.prompts import PromptTemplate
from aasut.serve.chat import chat
from aasut.serve.student import ServedStudent
from aasut.tasks import Classify

RULES = {"great": "positive", "awful": "negative"}
ONE = "Review: {text} ="
TWO = "From {sender}: {text} ="


def student(prompt: str = ONE, context: int = 100) -> ServedStudent:
    template = PromptTemplate.of(prompt)
    task = Classify(("negative", "positive"), template)
    return ServedStudent(task, template, ScriptedEngine(RULES, context), "reviews", "0" * 64)


def pipe(text: str, *, prompt: str = ONE, as_json: bool = False, context: int = 100) -> tuple[int, list[str]]:
    out = io.StringIO()
    code = chat(student(prompt, context), io.StringIO(text), out, as_json=as_json)
    return code, out.getvalue().splitlines()


def test_piped_lines_get_one_answer_each_in_order() -> None:
    code, lines = pipe("great film\nawful\r\na great end")
    assert code == 0
    assert [line.split()[0] for line in lines] == ["positive", "negative", "positive"]
    assert lines[0].startswith("positive  90.9%  (then negative 9.1%, ")
    assert lines[0].endswith(" ms)")


def test_piped_json() -> None:
    code, lines = pipe("great\nawful\n", as_json=True)
    records = [json.loads(line) for line in lines]
    assert code == 0
    assert [r["label"] for r in records] == ["positive", "negative"]
    assert (records[0]["probability"], records[0]["runner_up_probability"]) == (0.909091, 0.090909)
    assert records[0]["runner_up"] == "negative"
    assert records[0]["milliseconds"] >= 0


def test_a_line_that_cannot_be_answered_keeps_its_place() -> None:
    code, lines = pipe("great\n\none two three four five six\nawful\n", context=5)
    assert code == 1
    assert [line.split()[0] for line in lines] == ["positive", "error:", "error:", "negative"]
    assert "the context has 5" in lines[2]
    code, lines = pipe("great\n\n", as_json=True)
    assert code == 1
    assert "empty" in json.loads(lines[1])["error"]


def test_several_slots_are_piped_as_json_objects() -> None:
    good = json.dumps({"sender": "Jo", "text": "awful"})
    bad = ["awful", "[]", '{"text": "x"}', '{"sender": 1, "text": "x"}', '{"sender": "a", "text": "b", "c": "d"}']
    code, lines = pipe("\n".join([good, *bad]), prompt=TWO)
    assert code == 1
    assert [line.split()[0] for line in lines] == ["negative"] + ["error:"] * 5
    assert '{"sender": "…", "text": "…"}' in lines[1]


def test_no_input_gives_no_output() -> None:
    assert pipe("") == (0, [])


def test_input_that_is_not_utf8_is_one_clear_error() -> None:
    stream = io.TextIOWrapper(io.BytesIO(b"gr\xff"), encoding="utf-8")
    with pytest.raises(DataError, match="not UTF-8"):
        chat(student(), stream, io.StringIO())
    lenient = io.TextIOWrapper(io.BytesIO(b"gr\xff\ngreat\n"), encoding="utf-8", errors="surrogateescape")
    out = io.StringIO()
    assert chat(student(), lenient, out) == 1
    assert [line.split()[0] for line in out.getvalue().splitlines()] == ["error:", "positive"]


# A job in the background of a shell has SIGINT ignored, and so have its children.
SCRIPT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, {here!r})
from test_chat import *
code = chat(student({prompt!r}), sys.stdin, sys.stdout, as_json={as_json})
print("code", code)
"""


class Terminal:
    """`chat` in a process of its own, on a real pseudo-terminal."""

    def __init__(self, prompt: str = ONE, as_json: bool = False) -> None:
        self.master, slave = pty.openpty()
        code = SCRIPT.format(here=str(Path(__file__).parent), prompt=prompt, as_json=as_json)
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=slave, stdout=slave, stderr=slave, close_fds=True
        )
        os.close(slave)
        self.shown = ""

    def wait_for(self, text: str) -> str:
        """What is shown up to and with `text`, since the last call."""
        deadline = time.monotonic() + 20
        while text not in self.shown:
            ready, _, _ = select.select([self.master], [], [], max(deadline - time.monotonic(), 0))
            assert ready, self.shown
            try:
                self.shown += os.read(self.master, 4096).decode()
            except OSError:
                raise AssertionError(f"ended without {text!r}: {self.shown!r}") from None
        before, _, self.shown = self.shown.partition(text)
        return before + text

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def interrupt(self) -> None:
        """Ctrl-C once it waits: a signal between Python's last look and the read would wait for a key."""
        while Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
            time.sleep(0.01)
        self.process.send_signal(signal.SIGINT)

    def end(self) -> None:
        self.wait_for("code 0")
        assert self.process.wait(timeout=10) == 0
        os.close(self.master)


def test_a_terminal_is_told_what_to_type_and_gets_answers() -> None:
    terminal = Terminal()
    hint = terminal.wait_for("text> ")
    assert "reviews answers: negative, positive" in hint
    assert "Type the text." in hint
    terminal.type("a great film\n")
    terminal.wait_for("positive  90.9%  (then negative 9.1%, ")
    terminal.wait_for("text> ")
    terminal.type("\n")
    terminal.end()


def test_several_slots_are_asked_for_by_name_and_ctrl_d_ends() -> None:
    terminal = Terminal(TWO)
    assert "Type the sender, then text." in terminal.wait_for("sender> ")
    terminal.type("Jo\n")
    terminal.wait_for("text> ")
    terminal.type("awful\n")
    terminal.wait_for("negative  90.9%")
    terminal.wait_for("sender> ")
    terminal.type("\x04")
    terminal.end()


def test_ctrl_c_ends_cleanly() -> None:
    terminal = Terminal()
    terminal.wait_for("text> ")
    terminal.interrupt()
    terminal.end()
    assert "Traceback" not in terminal.shown


def test_json_on_a_terminal_is_not_mixed_with_prompts() -> None:
    terminal = Terminal(as_json=True)
    terminal.type("great\n")
    shown = terminal.wait_for("}")
    assert "Type the" not in shown
    assert json.loads(shown[shown.index("{") :])["label"] == "positive"
    terminal.type("\x04")
    terminal.end()
