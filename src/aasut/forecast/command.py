"""`aasut run --dry-run`: forecast, print, and fail where the run would."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from aasut.forecast import table
from aasut.forecast.forecast import forecast, to_json
from aasut.progress import Progress
from aasut.recipe import Recipe


def run(
    recipe: Recipe, base: Path, root: Path, progress: Progress, scale: str, probing: bool, latency_s: float | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Print the forecast; raises AasutError, after it, where the run could not work."""
    found = forecast(recipe, base, root, progress, scale, probing=probing, latency_s=latency_s)
    if as_json:
        print(to_json(found))
    else:
        Console(width=None if sys.stdout.isatty() else 100, highlight=False).print(table.render(found))
    problem = found.problem()
    if problem is not None:
        raise problem
