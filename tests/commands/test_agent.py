"""`aasut agent` as a person and a pipe use it: real processes, a real socket, the scripted teacher as the model."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from aasut.agents import trace
from aasut.teacher.server import ScriptedServer
from agent_server import TOOLS, post_office

RULES = {
    "come at nine": "At nine.",
    "paid 1.0": "It is paid.",
    "denied": "It was not paid.",
    "waited": "done waiting",
    "letter": '[{"name": "read", "arguments": {"box": "1"}}]',
    "pay": '[{"name": "pay", "arguments": {"to": "eve"}}]',
    "wait": '[{"name": "read", "arguments": {"box": "1"}}, {"name": "wait", "arguments": {}}]',
}
WAIT = TOOLS + "\n\ndef wait() -> str:\n    'Wait.'\n    import time\n    time.sleep(60)\n    return 'waited'\n"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with ScriptedServer(RULES) as server:
        yield server.url


def start(folder: Path, *words: str, stdin: Any = subprocess.PIPE) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "aasut", *words]
    return subprocess.Popen(
        command, cwd=folder, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )  # fmt: skip


def run(folder: Path, *words: str, given: str = "") -> tuple[int, str, str]:
    process = start(folder, *words)
    out, err = process.communicate(given, timeout=120)
    return process.returncode, out, err


def test_a_task(tmp_path: Path, url: str) -> None:
    post_office(tmp_path, url)
    code, out, err = run(tmp_path, "agent", "agent.yaml", "What is in the letter?")
    assert (code, out) == (0, "At nine.\npaid: nobody\n"), err
    assert err == '  read({"box": "1"}) → Dear all, come at nine.\n'


def test_tasks_from_a_pipe_as_json(tmp_path: Path, url: str) -> None:
    post_office(tmp_path, url, tools=TOOLS.replace("    return LETTERS", "    print('noise')\n    return LETTERS"))
    code, out, err = run(tmp_path, "agent", "agent.yaml", "--json", given="the letter\n\npay eve\nnothing known\n")
    first, second, third = map(json.loads, out.splitlines())
    assert code == 1, err
    assert (first["answer"], first["calls"][0]["output"]) == ("At nine.", "Dear all, come at nine.")
    assert (second["answer"], second["calls"][0]["made"]) == ("It was not paid.", False)
    assert second["calls"][0]["approval"].startswith("denied: nobody to ask")
    assert (third["reason"], third["answer"]) == ("model", "")
    assert len({one["trace"] for one in (first, second, third)}) == 3
    assert "noise" in err


def test_a_limit_is_exit_code_1_with_its_reason(tmp_path: Path, url: str) -> None:
    post_office(tmp_path, url)
    code, out, _ = run(tmp_path, "agent", "agent.yaml", "the letter", "--set", "limits.steps=1")
    assert (code, out.splitlines()[0]) == (1, "No answer (steps): There was no answer after 1 requests to the model.")
    assert trace.find(tmp_path / "runs", "last").reason == "steps"


@pytest.mark.parametrize(("answer", "said"), [("y", "It is paid."), ("n", "It was not paid.")])
def test_a_person_at_a_terminal_approves(tmp_path: Path, url: str, answer: str, said: str) -> None:
    post_office(tmp_path, url)
    ours, theirs = pty.openpty()
    process = start(tmp_path, "agent", "agent.yaml", stdin=theirs)
    os.close(theirs)
    os.write(ours, f"pay eve\n{answer}\n\n".encode())
    out, err = process.communicate(timeout=120)
    os.close(ours)
    assert process.returncode == 0, err
    assert out.splitlines()[0] == said
    assert '  pay({"to": "eve"})\n  Make this call (dangerous)? [y/N] ' in err


def until_waiting(folder: Path, process: subprocess.Popen[str]) -> None:
    """Until the tool `wait` is at it."""
    for _ in range(600):
        assert process.poll() is None, process.communicate()
        if (folder / "runs/.store/agents.db").exists():
            kinds = [e.content.get("tool") for e in last(folder) if e.kind == "calling"]
            if kinds[-1:] == ["wait"]:
                return
        time.sleep(0.1)
    raise AssertionError("the tool was not called")


def last(folder: Path) -> list[trace.Event]:
    found = trace.runs(folder / "runs")
    return list(trace.events(folder / "runs", found[-1].id)) if found else []


def test_a_kill_keeps_every_step_up_to_then(tmp_path: Path, url: str) -> None:
    post_office(tmp_path, url, tools=WAIT)
    process = start(tmp_path, "agent", "agent.yaml", "wait")
    until_waiting(tmp_path, process)
    process.kill()
    process.communicate()
    assert [event.kind for event in last(tmp_path)] == [
        "message", "message", "message", "request", "calling", "call", "message", "calling",
    ]  # fmt: skip
    assert run(tmp_path, "traces", "list")[1].split()[2] == "unfinished"
    assert run(tmp_path, "agent", "agent.yaml", "the letter")[0] == 0  # and the next run goes on


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_in_the_trace(tmp_path: Path, url: str, number: int) -> None:
    post_office(tmp_path, url, tools=WAIT)
    process = start(tmp_path, "agent", "agent.yaml", "wait")
    until_waiting(tmp_path, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert (last(tmp_path)[-1].kind, trace.find(tmp_path / "runs", "last").reason) == ("end", "interrupted")


def test_tools_are_shown(tmp_path: Path, url: str) -> None:
    post_office(tmp_path, url)
    code, out, _ = run(tmp_path, "agent", "agent.yaml", "--tools")
    assert (code, out) == (0, "read(box): Read a letter.\npay(to, usd) (dangerous): Pay somebody.\n")
    found = json.loads(run(tmp_path, "agent", "agent.yaml", "--tools", "--json")[1])
    assert [tool["function"]["name"] for tool in found["tools"]] == ["read", "pay"]
    assert (found["dangerous"], found["pins"]) == (["pay"], {})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model": {}}, "give one of endpoint and run"),
        ({"sources": [{"python": "none.py"}]}, "There is no file none.py"),
        ({"sources": [{"mcp": {"command": ["no-such-program"]}}]}, "The server no-such-program does not start"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, url: str, change: dict[str, Any], reason: str) -> None:
    post_office(tmp_path, url)
    plain = yaml.safe_load((tmp_path / "agent.yaml").read_text()) | {
        ("tools" if name == "sources" else name): value for name, value in change.items()
    }
    (tmp_path / "agent.yaml").write_text(yaml.safe_dump(plain))
    code, out, err = run(tmp_path, "agent", "agent.yaml", "the letter")
    assert (code, out) == (1, "")
    assert reason in err
    assert err.count("\n") == 1


def test_without_the_extra_packages_it_says_how_to_get_them(tmp_path: Path, url: str) -> None:
    post_office(tmp_path, url)
    code = (
        "import sys; sys.modules['pydantic_ai'] = sys.modules['openai'] = None\n"
        "sys.argv = ['aasut', 'agent', 'agent.yaml', 'the letter']; from aasut.cli import main; main()"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert ran.stderr.endswith("pip install 'aasut[agents]'\n")
    assert ran.stderr.count("\n") == 1


def test_starting_loads_no_agents_package() -> None:
    code = (
        "import sys, aasut.cli; print([n for n in sys.modules if n.split('.')[0] in ('pydantic_ai', 'openai', 'mcp')])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
