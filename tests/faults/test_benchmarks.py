"""The fault benchmarks themselves, on a few of their cases."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(script: str, *words: str) -> tuple[int, dict[str, Any]]:
    """Exit code and the last line of a benchmark."""
    ended = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *words],
        stdout=subprocess.PIPE, text=True, timeout=240, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return ended.returncode, json.loads(ended.stdout.splitlines()[-1])


def test_killed_runs_end_in_the_same_hashes() -> None:
    code, told = run("kills.py", "--kills", "2", "--worlds", "words", "--faults", "")
    assert (code, told["same_hashes"], told["kills"], told["unclear"]) == (0, 1.0, 2, 0)


def test_bad_recipes_tables_and_commands_end_in_one_line() -> None:
    code, told = run("hostile.py", "--kinds", "recipes,files,commands", "--every", "25")
    assert told["cases"] >= 20
    assert (code, told["tracebacks"], told["hangs"], told["rows_lost"], told["unclear"]) == (0, 0, 0, 0, 0)
