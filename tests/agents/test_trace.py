from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aasut.agents import trace
from aasut.agents.trace import Trace
from aasut.errors import StoreError

TOOL = {"type": "function", "function": {"name": "read"}}


def begun(root: Path, agent: str = "post", secret: str = "") -> Trace:
    return Trace(root, agent, "m", [TOOL], {"name": agent}, [secret])


def test_what_is_kept_comes_back_in_order(tmp_path: Path) -> None:
    first, second = begun(tmp_path), begun(tmp_path, "other")
    first.add("message", role="user", content="नमस्ते \ud800")
    second.add("message", role="user", content="no")
    first.add("call", id="a", output="\x00")
    first.end("answered", answer="yes")
    found = trace.find(tmp_path, first.id)
    assert (found.agent, found.model, found.reason, found.tools, found.settings) == (
        "post", "m", "answered", [TOOL], {"name": "post"},
    )  # fmt: skip
    assert [(event.kind, event.content) for event in trace.events(tmp_path, first.id)] == [
        ("message", {"role": "user", "content": "नमस्ते \ud800"}),
        ("call", {"id": "a", "output": "\x00"}),
        ("end", {"reason": "answered", "answer": "yes"}),
    ]
    assert [run.id for run in trace.runs(tmp_path, "other")] == [second.id]
    assert trace.find(tmp_path, "last").id == second.id
    assert trace.find(tmp_path, second.id[-6:]).reason == ""


def test_keys_are_blotted_out(tmp_path: Path) -> None:
    kept = begun(tmp_path, secret="hunter2-of-ours")
    kept.add("message", content='{"output": "hunter2-of-ours and sk-abcdefghijklmnop123456"}')
    kept.end("answered", answer="It is hunter2-of-ours")
    raw = b"".join(path.read_bytes() for path in (tmp_path / ".store").iterdir())
    assert b"hunter2" not in raw
    assert b"abcdefghijklmnop" not in raw
    assert b"[redacted]" in raw


@pytest.mark.parametrize("name", ["nothing-like-it", ""])
def test_a_trace_that_is_not_there_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="There are no traces of agents"):
        trace.runs(tmp_path)
    begun(tmp_path)
    with pytest.raises(StoreError, match=r"No trace of .* has"):
        trace.find(tmp_path, name)


def test_a_part_that_several_have_is_told(tmp_path: Path) -> None:
    first, _ = begun(tmp_path), begun(tmp_path)
    with pytest.raises(StoreError, match="2 traces of"):
        trace.find(tmp_path, first.id[:4])


def test_what_was_kept_outlives_a_kill(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom aasut.agents.trace import Trace\n"
        "kept = Trace(Path(sys.argv[1]), 'post', 'm', [], {})\n"
        "for number in range(5):\n    kept.add('message', number=number)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=dict(os.environ), check=False)
    assert ran.returncode == -signal.SIGKILL
    (run,) = trace.runs(tmp_path)
    assert run.reason == ""
    assert [event.content["number"] for event in trace.events(tmp_path, run.id)] == [0, 1, 2, 3, 4]
