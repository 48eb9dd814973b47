"""Environments of their own for peers, made on first use and kept in the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

KEPT = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aasut" / "benchmarks"


class Unavailable(Exception):
    """A peer that cannot be installed here; says why."""


def python(name: str, *steps: Sequence[str]) -> Path:
    """The interpreter of an environment with these packages, a `pip install` for each step. Raises Unavailable."""
    folder = KEPT / f"{name}-{hashlib.sha256(repr(steps).encode()).hexdigest()[:12]}"
    found = folder / "bin" / "python"
    if (folder / "ready").exists():
        return found
    print(f"making the environment of {name}", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    for packages in steps:
        made = subprocess.run([str(found), "-m", "pip", "install", *packages], capture_output=True, text=True)
        if made.returncode:
            last = (made.stderr.strip() or "no reason given").splitlines()[-1]
            raise Unavailable(f"{' '.join(packages)}: {last[:300]}")
    (folder / "ready").touch()
    return found
