"""A student's calls, done: through a pipe, and at a terminal."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from aasut.agents.chat import Doing
from aasut.agents.functions import Toolbox
from aasut.engine.scripted import ScriptedEngine
from aasut.prompts import PromptTemplate
from aasut.serve.chat import chat
from aasut.serve.student import ServedStudent
from aasut.tasks import Tools
from agent_server import TOOLS

RULES = {
    "read": '[{"name": "read", "arguments": {"box": "1"}}]',
    "pay": '[{"name": "pay", "arguments": {"to": "eve"}}, {"name": "read", "arguments": {"box": "9"}}]',
    "hello": "I only keep the post.",
    "strange": '[{"name": "fly", "arguments": {}}]',
    "broken": '[{"name": "read", "argu',
}


def student(path: Path, known: list[str] | None = None) -> ServedStudent:
    """A student that was made for the tools of a file."""
    prompt = PromptTemplate.of("Post: {text} =")
    definitions = [one for one in Toolbox.load(path).definitions if not known or one["function"]["name"] in known]
    task = Tools(prompt, 60, json.dumps(definitions))
    return ServedStudent(task, prompt, ScriptedEngine(RULES), "post", "0" * 64)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "post.py"
    path.write_text(TOOLS)
    return path


def pipe(file: Path, text: str, *, as_json: bool = False) -> tuple[int, list[str]]:
    out = io.StringIO()
    do = Doing(Toolbox.load(file), None, out, as_json=as_json)
    code = chat(student(file), io.StringIO(text), out, as_json=as_json, do=do)
    return code, out.getvalue().splitlines()


def test_calls_are_made_and_shown_with_the_state(file: Path) -> None:
    code, lines = pipe(file, "read it\nhello\n")
    assert code == 0
    assert lines == ['read(box="1") → Dear all, come at nine.', "paid: nobody", "I only keep the post."]


def test_dangerous_calls_are_denied_without_a_person(file: Path) -> None:
    assert pipe(file, "pay\n")[1] == [
        'pay(to="eve") → denied: it is dangerous, and nobody approved it',
        "read(box=\"9\") → The tool failed: KeyError: '9'.",
        "paid: nobody",
    ]


@pytest.mark.parametrize(("answer", "state"), [("y\n", "paid: eve"), ("n\n", "paid: nobody"), ("", "paid: nobody")])
def test_a_person_is_asked_first(file: Path, answer: str, state: str) -> None:
    out = io.StringIO()
    do = Doing(Toolbox.load(file), io.StringIO(answer), out, as_json=False)
    chat(student(file), io.StringIO("pay\n"), out, do=do)
    assert out.getvalue().startswith('pay(to="eve") is dangerous. Do it? [y/N] ')
    assert out.getvalue().splitlines()[-1] == state


def test_as_json(file: Path) -> None:
    _, lines = pipe(file, "pay\nhello\n", as_json=True)
    first, second = map(json.loads, lines)
    assert [(call["tool"], call["arguments"], call["made"], call["failed"]) for call in first["calls"]] == [
        ("pay", {"to": "eve"}, False, True),
        ("read", {"box": "9"}, True, True),
    ]
    assert (first["state"], first["finish"]) == ("paid: nobody", "stop")
    assert second["text"] == "I only keep the post."


def test_calls_that_cannot_be_made_are_told(file: Path) -> None:
    _, lines = pipe(file, "strange\nbroken\n")
    assert lines[0] == "fly() → There is no tool 'fly'. There are: read, pay."
    assert lines[2] == '[{"name": "read", "argu'


TALK = """
import sys
sys.path[:0] = [{tests!r}, {agents!r}]
from pathlib import Path
from aasut.agents import chat
from aasut.cli import main
import aasut.cli, test_chat
aasut.cli._student = lambda run, root: test_chat.student(Path({file!r}))
sys.modules["pydantic_ai"] = sys.modules["mcp"] = sys.modules["fastmcp"] = None
sys.argv = ["aasut", "chat", "post", "--tools", {given!r}, *{more!r}]
main()
"""


def talk(file: Path, given: Path, *more: str) -> list[str]:
    """The command line in a process of its own, without the packages of agents, over a student of ours."""
    tests = Path(__file__).parent.parent
    code = TALK.format(tests=str(tests), agents=str(tests / "agents"), file=str(file), given=str(given), more=more)
    return [sys.executable, "-c", code]


def test_the_command_needs_no_extra_package_and_keeps_its_output_clean(file: Path) -> None:
    file.write_text(TOOLS.replace("    return LETTERS[box]", "    print('noise')\n    return LETTERS[box]"))
    ran = subprocess.run(talk(file, file, "--json"), input="read it\n", capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    (line,) = ran.stdout.splitlines()
    assert json.loads(line)["calls"][0]["output"] == "Dear all, come at nine."
    assert ran.stderr == "noise\n"


def test_a_file_without_the_student_s_tools_is_refused(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.py"
    other.write_text("def read(box: str) -> str:\n    'Read.'\n    return ''\n")
    ran = subprocess.run(talk(file, other), input="read it\n", capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert ran.stderr == (
        "aasut: The student post calls pay, and there is no such tool. "
        "Give the tools that it learned; these are: read.\n"
    )


def test_at_a_terminal(file: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        talk(file, file), stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    os.close(theirs)
    os.write(ours, b"pay\ny\n\n")
    out, err = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 0, err
    assert "post answers: calls of read, pay, or in its own words" in out
    assert 'pay(to="eve") is dangerous. Do it? [y/N] pay(to="eve") → paid 1.0 to eve' in out
    assert "paid: eve" in out
