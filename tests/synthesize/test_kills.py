"""Writing that is killed with SIGKILL, again and again, over real HTTP: nothing is lost, and nothing paid for twice."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import chunked
from aasut.recipe import Endpoint
from aasut.store import digest
from aasut.synthesize import write
from aasut.teacher.faults import Fault, Plan
from aasut.teacher.openai import OpenAiTeacher
from aasut.teacher.server import ScriptedServer
from aasut.types import Message, Request

KILLS, CONCURRENCY, CHUNKS = 20, 4, 60
WANTED = {"kinds": ["questions", "relations", "reading", "conversations", "calls"], "tools": chunked.TOOLS, "turns": 2}
LATENCY = Plan(latency_s=0.01, faults=(Fault(fault="slow", share=0.05, seconds=0.1),))


def recipe(server: ScriptedServer) -> dict[str, Any]:
    endpoint = {"base_url": server.url, "model": "m", "api_key_env": "", "concurrency": CONCURRENCY}
    return chunked.recipe(teacher={"endpoint": endpoint}, synthesize=WANTED).model_dump(mode="json", exclude_unset=True)


def start(server: ScriptedServer, folder: Path) -> subprocess.Popen[bytes]:
    given = folder / "given.json"
    given.write_text(json.dumps({"recipe": recipe(server), "chunks": CHUNKS}), encoding="utf-8")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, chunked.__file__, str(given), str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)


def finish(server: ScriptedServer, folder: Path) -> str:
    """Write to the end; the items, without the server's address."""
    process = start(server, folder)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said.decode()
    return (folder / write.FILE).read_text(encoding="utf-8").replace(server.url, "URL")


def committed(folder: Path, server: ScriptedServer) -> set[str]:
    """What the server calls the requests whose answers stand in the ledger."""
    if not (folder / "ledger.db").exists():
        return set()
    with closing(sqlite3.connect(folder / "ledger.db")) as database:
        try:
            rows = database.execute("SELECT request FROM call").fetchall()
        except sqlite3.OperationalError:  # killed before the first table was there
            return set()
    teacher = OpenAiTeacher(Endpoint.model_validate(recipe(server)["teacher"]["endpoint"]))
    found = set()
    for (text,) in rows:
        plain = json.loads(text)
        messages = tuple(Message(role, content) for role, content in plain["messages"])
        request = Request(messages, (), plain["max_tokens"], plain["temperature"], schema=plain.get("schema", ""))
        found.add(digest(teacher.body(request)))
    teacher.close()
    return found


def test_after_twenty_kills_the_items_are_those_of_an_undisturbed_run(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    with ScriptedServer(chunked.RULES, LATENCY) as server:
        undisturbed = finish(server, whole)
        total = server.stats()["answered"]
    draw = random.Random(20)
    moments = sorted(draw.sample(range(1, total - CONCURRENCY), KILLS))
    done: list[tuple[set[str], Counter[str]]] = []
    with ScriptedServer(chunked.RULES, LATENCY) as server:
        again = 0
        for moment in moments:
            process = start(server, killed)
            while server.answered < moment + again and process.poll() is None:
                time.sleep(0.001)
            time.sleep(draw.random() * 0.02)
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=20)
            assert process.returncode == -signal.SIGKILL
            while server.open:  # what was in flight is answered, to nobody
                time.sleep(0.001)
            again = server.stats()["answered_again"]
            done.append((committed(killed, server), Counter(server.asked)))
        items = finish(server, killed)
        asked, answered_again = Counter(server.asked), server.stats()["answered_again"]
        paid = committed(killed, server)
    assert items == undisturbed
    assert items.count("\n") > 400
    for number, (kept, before) in enumerate(done):
        assert all(asked[name] == before[name] for name in kept), f"asked again after kill {number + 1}"
    assert [len(kept) for kept, _ in done] == sorted(len(kept) for kept, _ in done)
    assert len(done[-1][0]) > total / 2
    assert set(asked) == paid
    assert len(asked) == total
    assert answered_again <= asked.total() - total <= KILLS * 2 * CONCURRENCY
