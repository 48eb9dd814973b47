"""The recipes of examples/ run at CI scale, on real models and data; reviews does so in test_readme.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "examples").glob("*/recipe.yaml"))
OTHERS = [path for path in RECIPES if path.parent.name != "reviews"]


def test_the_readmes_recipe_is_there() -> None:
    assert len(OTHERS) == len(RECIPES) - 1


@pytest.mark.parametrize("recipe", OTHERS, ids=lambda path: path.parent.name)
def test_a_recipe_runs(tmp_path: Path, recipe: Path) -> None:
    command = [sys.executable, "-m", "aasut", "run", str(recipe.relative_to(ROOT)), "--scale", "ci", "--root"]
    ran = subprocess.run([*command, str(tmp_path), "--quiet"], capture_output=True, text=True, cwd=ROOT, timeout=1800)
    assert ran.returncode == 0, ran.stderr[-2000:]
    facts = json.loads((tmp_path / f"{recipe.parent.name}-ci" / "report.json").read_text(encoding="utf-8"))
    assert facts["verdict"]["n"] == facts["conservation"]["evaluate"]["kept"] > 0
