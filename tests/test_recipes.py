"""The recipes of examples/ run at CI scale, on real models and data; two do so in test_readme.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "examples").glob("*/recipe.yaml"))
PLAIN = {path: yaml.safe_load(path.read_text(encoding="utf-8")) for path in RECIPES}
FIELDS = [path for path, plain in PLAIN.items() if "documents" in plain]
MIXTURES = [path for path, plain in PLAIN.items() if "fields" in plain]
THERE = ("reviews", "energy", "home")  # in test_readme.py and test_home.py
OTHERS = [path for path in RECIPES if path.parent.name not in THERE and path not in (*FIELDS, *MIXTURES)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs in which a mixture finds the fields that were learned before."""
    return tmp_path_factory.mktemp("runs")


def ran(command: str, recipe: Path, root: Path, *more: str) -> dict[str, Any]:
    """The report that a command leaves of a recipe at CI scale."""
    words = [sys.executable, "-m", "aasut", command, str(recipe.relative_to(ROOT)), "--scale", "ci", "--root"]
    done = subprocess.run([*words, str(root), "--quiet", *more], capture_output=True, text=True, cwd=ROOT, timeout=1800)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads((root / f"{recipe.parent.name}-ci" / "report.json").read_text(encoding="utf-8"))
    return found


def test_the_readmes_recipe_is_there() -> None:
    assert {path.parent.name for path in RECIPES} >= {*THERE, "finance", "games", "automotive"}


@pytest.mark.parametrize("recipe", OTHERS, ids=lambda path: path.parent.name)
def test_a_recipe_runs(tmp_path: Path, recipe: Path) -> None:
    facts = ran("run", recipe, tmp_path)
    assert facts["verdict"]["n"] == facts["conservation"]["evaluate"]["kept"] > 0


@pytest.mark.parametrize(
    "recipe", [path for path in FIELDS if path.parent.name not in THERE], ids=lambda path: path.parent.name
)
def test_a_field_is_read_written_about_and_learned(runs: Path, recipe: Path) -> None:
    facts = ran("adapt", recipe, runs)
    rows = facts["synthesis"]["conservation"]
    assert rows["documents"]["kept"] > 100
    assert rows["filtered"]["in"] == rows["items"]["kept"] > 0
    learned = facts["adaptation"]["train"]
    assert learned["tokens_learned"]["documents"] > 1000
    assert learned["tokens_learned"]["general"] > 100
    assert set(facts["adaptation"]["evaluate"]["sets"]) == {"field", "general"}


@pytest.mark.parametrize("recipe", MIXTURES, ids=lambda path: path.parent.name)
def test_fields_become_one_model(runs: Path, recipe: Path) -> None:
    """Two of its fields, which the tests above have learned: four are more than CI has time for."""
    plain = PLAIN[recipe]
    assert all((recipe.parent / path).resolve() in FIELDS for path in (*plain["fields"], *plain["added"]))
    two = ["automotive", "games"]
    paths = ", ".join(f"../{name}/recipe.yaml" for name in two)
    facts = ran("mix", recipe, runs, "--set", f"fields=[{paths}]", "--set", "added=[]")["mixture"]
    assert facts["experts"]["names"] == two
    assert set(facts["sets"]) == {*two, "general"}
    for name in two:
        cost = {role: of["bits_per_byte"]["value"] for role, of in facts["sets"][name]["models"].items()}
        assert cost["mixture"] < cost["before"]
