"""Rows to ask and a recipe for them, as small files."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

HOSTILE = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'> & \x1b[31m"
SPECIAL = ["इस फ़ोन की बैटरी दो दिन चलती है", "هذا الهاتف رائع (48h) جدا", HOSTILE]


TASK: dict[str, Any] = {"labels": ["negative", "positive"], "prompt": "Is it worth having?\n{text}"}
STUDENT: dict[str, Any] = {"initialise": "linear"}


def write_recipe(folder: Path, rows: int = 40, task: dict[str, Any] = TASK, student: dict[str, Any] = STUDENT) -> Path:
    """recipe.yaml and logs.jsonl in `folder`: rows without answers, some of them hard to show."""
    noun = ["lamp", "chair", "window", "river", "engine", "garden", "letter", "bottle", "mirror", "pencil"]
    with (folder / "logs.jsonl").open("w", encoding="utf-8") as file:
        for i in range(rows):
            words = f"{noun[i % 10]} {noun[i // 10 % 10]} {['good', 'bad'][i % 2]} {i * 7919} {noun[i * 3 % 10]}"
            text = f"{SPECIAL[i // 5 % 3]} {words}" if i % 5 == 0 else words
            file.write(json.dumps({"id": f"secret-{i}", "text": text}, ensure_ascii=False) + "\n")
    plain = {
        "name": "asked",
        "task": task,
        "data": {
            "tables": [{"source": "logs.jsonl", "slots": {"text": "text"}, "id": "id", "role": "pool"}],
            "gold": "gold.jsonl",
        },
        "teacher": {"scripted": {"good": "positive", "": "negative"}},
        "student": student,
        "evaluate": {"margin": 0.2, "timing_requests": 4},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
    return path


def written(folder: Path) -> list[dict[str, Any]]:
    """The lines of gold.jsonl."""
    path = folder / "gold.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def aasut(folder: Path, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aasut", *words]
    return subprocess.run(command, cwd=folder, input=given, capture_output=True, text=True, timeout=60)


@contextmanager
def page(folder: Path, *flags: str) -> Iterator[str]:
    """The address of a page served by a process of its own, which is interrupted at the end and must end well."""
    command = [sys.executable, "-m", "aasut", "gold", "recipe.yaml", "--web", *flags]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        said: list[str] = []
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+/[\w-]+/", line):
                yield found[0]
                break
        else:
            raise AssertionError("".join(said))
        process.send_signal(signal.SIGINT)
        shown, complaints = process.communicate(timeout=20)
        assert (process.returncode, complaints) == (0, "")
        assert "rows answered" in shown
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()


def ids(lines: Sequence[dict[str, Any]]) -> list[str]:
    return [line["id"] for line in lines]
