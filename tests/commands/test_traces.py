from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from aasut.agents.start import opened
from agent_server import calling, post_office, said, speaking
from command_line import command


@pytest.fixture
def root(tmp_path: Path) -> Path:
    async def main(url: str) -> None:
        async with opened(post_office(tmp_path, url), tmp_path, tmp_path / "runs") as ready:
            session = ready.session(None, lambda _: None)
            await session.run(*ready.task("What is in 1?"))

    with speaking(calling(("read", {"box": "1"}), ("pay", {"to": "eve"})), said("At \x1b[31mnine.")) as server:
        asyncio.run(main(server.url))
    return tmp_path / "runs"


def test_runs_are_listed(root: Path) -> None:
    code, out, _ = command("traces", "list", "--root", root)
    assert code == 0
    assert " post " in out
    assert "answered" in out
    assert out.rstrip().endswith("What is in 1?")
    found = json.loads(command("traces", "list", "--root", root, "--json")[1])["traces"]
    assert [(one["agent"], one["steps"], one["calls"], one["tokens"]) for one in found] == [("post", 2, 2, 27)]
    assert command("traces", "list", "--root", root, "--agent", "other")[1] == "There are no traces of this agent.\n"


def test_one_is_shown_step_by_step(root: Path) -> None:
    out = command("traces", "show", "last", "--root", root)[1]
    assert 'read({"box": "1"}): not dangerous' in out
    assert "→ Dear all, come at nine." in out
    assert 'pay({"to": "eve"}): denied: nobody to ask (dangerous)' in out
    assert "assistant: At \\u{1b}[31mnine." in out
    assert "\x1b" not in out
    assert "end: answered" in out
    found = json.loads(command("traces", "show", "--root", root, "--json")[1])
    assert [event["kind"] for event in found["events"]][-1] == "end"
    assert found["settings"]["name"] == "post"


def test_they_are_exported(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    code, out, _ = command("traces", "export", file, "--root", root)
    assert (code, out) == (0, f"1 of 2 answers in {file}, 1 left out: calls that failed or were not made\n")
    found = json.loads(command("traces", "export", file, "--root", root, "--all", "--chat", "--json")[1])
    assert (found["examples"]["in"], found["examples"]["kept"]) == (2, 2)
    assert len(file.read_text(encoding="utf-8").splitlines()) == 2


def test_without_traces_it_says_so(tmp_path: Path) -> None:
    code, _, err = command("traces", "list", "--root", tmp_path)
    assert code == 1
    assert "There are no traces of agents" in err
