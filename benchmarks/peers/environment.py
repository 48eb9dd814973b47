"""Environments of the peers' own, made on first use and kept in the cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from aasut.files import digest
from aasut.sources.models import cache_root

KEPT = cache_root() / "benchmarks"


class NotInstallable(Exception):
    """The end of what pip said."""


def python(
    name: str,
    *installs: Sequence[str],
    without: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
) -> Path:
    """The interpreter of an environment with the packages of `installs`, which pip is given one after the other.

    `without` are taken out again; `variables` are for what pip compiles. Raises NotInstallable.
    """
    folder = KEPT / f"{name}-{digest([*map(list, installs), list(without), dict(variables or {})])[:12]}"
    found = folder / "bin" / "python"
    if not (folder / "ready").exists():
        print(f"making the environment of {name}", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        for packages in installs:
            _pip(found, ["install", *packages], variables)
        if without:
            _pip(found, ["uninstall", "-y", *without], None)
        (folder / "ready").touch()
    return found


def _pip(found: Path, words: Sequence[str], variables: Mapping[str, str] | None) -> None:
    environment = os.environ | dict(variables or {})
    done = subprocess.run([str(found), "-m", "pip", *words], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise NotInstallable(f"pip {' '.join(words)}: {done.stderr[-1000:].strip()}")
