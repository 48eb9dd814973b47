"""The process that reads, spoken to as the pool speaks to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from read_blocks import HINDI, office

WANTED = {"format": "auto", "encoding": "auto", "pattern": None, "fields": [], "title": None}


@contextmanager
def worker(memory_mb: int = 512, timeout_s: float = 20) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "aasut.documents.worker", str(memory_mb), str(timeout_s), "64"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        yield process
        process.kill()


def ask(process: subprocess.Popen[bytes], path: Path, **wanted: Any) -> list[Any]:
    """All messages of a file, up to the one that ends it."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps([str(path), WANTED | wanted]).encode() + b"\n")
    process.stdin.flush()
    found = []
    while not found or found[-1][0] != "done":
        found.append(json.loads(process.stdout.readline()))
    return [message for message in found if message != ["ready"]]


def test_one_file_after_another(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(f"# नियम\n\n{HINDI}\n", encoding="utf-8")
    (tmp_path / "b.bin").write_bytes(bytes(range(256)))
    (tmp_path / "c.docx").write_bytes(office.docx("words"))
    with worker() as process:
        for _ in range(2):
            assert ask(process, tmp_path / "a.md") == [
                ["blocks", [["नियम", 1, None, None], [HINDI, 0, None, None]]],
                ["done", "", "", False],
            ]
            assert ask(process, tmp_path / "b.bin") == [["done", "not a document", "binary", False]]
            assert ask(process, tmp_path / "c.docx")[0] == ["blocks", [["words", 0, None, None]]]


def test_many_blocks_come_in_batches_and_a_late_fault_after_them(tmp_path: Path) -> None:
    rows = "".join(json.dumps({"n": i, "text": "word " * 20}) + "\n" for i in range(5000))
    (tmp_path / "a.jsonl").write_text(rows + "broken\n")
    with worker() as process:
        *batches, end = ask(process, tmp_path / "a.jsonl")
    assert len(batches) > 3
    assert max(len(json.dumps(batch)) for batch in batches) < 1 << 20
    assert end[:2] == ["done", "JSON that does not parse"]


def test_it_ends_itself_where_it_lacked_memory(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": [' + ",".join(["[1]"] * 4_000_000) + "]}")
    with worker(memory_mb=256) as process:
        assert ask(process, tmp_path / "a.json") == [["done", "needs more memory than reading.memory_mb", "", True]]
        assert process.wait(10) == 0


def test_it_ends_when_its_input_does() -> None:
    with worker() as process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(20) == 0


def test_it_does_not_outlive_who_started_it_even_in_a_loop(tmp_path: Path) -> None:
    """The one who started it is killed; a regular expression holds the interpreter, so that no thread can run."""
    (tmp_path / "a.txt").write_text("a" * 64 + "b")
    code = f"""
import json, subprocess, sys, time
p = subprocess.Popen([sys.executable, "-m", "aasut.documents.worker", "512", "0.1", "64"], stdin=subprocess.PIPE,
                     stdout=subprocess.PIPE)
print(p.pid, p.stdout.readline(), flush=True)
wanted = {WANTED!r} | {{"pattern": "(?P<x>(a+)+)$"}}
p.stdin.write(json.dumps([{str(tmp_path / "a.txt")!r}, wanted]).encode() + b"\\n")
p.stdin.flush()
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        number = int(parent.stdout.readline().split()[0])
        time.sleep(1)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and _runs(number):
        time.sleep(0.1)
    assert not _runs(number)


def _runs(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{number}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")
