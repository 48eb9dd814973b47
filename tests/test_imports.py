"""The rules of the house that hold across modules: who imports whom, what loads when, what names resolve."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import pytest

import aasut
from aasut import recipe
from aasut.engine import base as engines
from aasut.errors import AasutError
from aasut.student import initialize, losses
from aasut.teacher import base as teachers

ROOT = Path(aasut.__file__).parent
CORE = ("types", "json_form", "tools", "prompts", "tasks", "errors", "files", "lock", "recipe", "records", "store",
        "progress", "words", "plain_form", "comparison")  # fmt: skip
LEVELS = [CORE, ("sources", "formats"), ("documents",), ("engine",), ("retrieval",), ("teacher",), ("data",),
          ("synthesize",), ("student",), ("export",), ("evaluate",), ("economics",), ("serve", "gold"), ("gateway",),
          ("agents",)]  # fmt: skip
LEVEL = {part: number for number, parts in enumerate(LEVELS) for part in parts}
ABOVE = {
    "commands": {"cli"},
    "report": {"pipeline", "cli", "runs", "commands", "field", "mixture"},
    "publish": {"pipeline", "field", "mixture"},
    "workshop": {"pipeline", "learning", "proof", "commands", "field", "mixture"},
    "field": {"commands", "mixture"},
    "mixture": {"commands"},
    "learning": {"pipeline"},
    "proof": {"pipeline"},
    "pipeline": {"cli", "forecast", "doctor", "finished", "commands"},
    "finished": {"commands"},
    "runs": {"cli", "doctor", "commands"},
    "doctor": {"cli"},
    "forecast": {"cli", "commands"},
    "init": {"cli", "commands"},
    "cli": {"__main__"},
}  # and who may import them
HEAVY = ("torch", "transformers", "openvino", "openvino_genai", "sklearn", "matplotlib", "scipy", "pyarrow", "numpy",
         "aiohttp", "uvicorn", "starlette", "tokenizers", "safetensors", "rensa", "markitdown", "bm25s")  # fmt: skip


def modules() -> dict[str, Path]:
    """Module name below aasut to file; the package itself is ''."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path) -> Iterator[str]:
    """All that a module imports, inside functions too, and what registries name: `aasut.engine.torch:load`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and re.fullmatch(r"aasut(\.[a-z_]\w*)+(:\w+)?", str(node.value)):
            yield str(node.value).partition(":")[0]


def parts_imported(path: Path) -> set[str]:
    """First parts below aasut: `engine` for aasut.engine.torch."""
    return {name.split(".")[1] for name in imports(path) if name.startswith("aasut.")}


def test_the_modules_are_found() -> None:
    assert {"", "cli", "types", "engine.base", "teacher.ledger", "serve.api", "report.report"} <= set(modules())
    assert {name.split(".")[0] for name in modules()} - {"", "__main__"} <= set(LEVEL) | set(ABOVE)
    assert "torch" in set(imports(modules()["engine.torch"]))
    assert "aasut.engine.linear" in set(imports(modules()["engine.base"]))
    assert parts_imported(modules()["pipeline"]) >= {"data", "export", "report"}  # deferred ones
    assert parts_imported(modules()["learning"]) >= {"data", "student"}
    assert parts_imported(modules()["proof"]) >= {"data", "evaluate"}


@pytest.mark.parametrize("name", [name for name in modules() if name])
def test_imports_point_one_way(name: str) -> None:
    part = name.split(".")[0]
    for other in parts_imported(modules()[name]) - {part, "__version__"}:
        if other in ABOVE:
            assert part in ABOVE[other], f"{name} imports {other}"
        elif part in LEVEL:
            assert other in LEVEL, f"{name} imports {other}, which has no place in the order"
            same_level = LEVEL[other] == LEVEL[part] and part != "formats"
            assert LEVEL[other] < LEVEL[part] or same_level, f"{name} imports {other}"


def test_the_core_has_no_circle() -> None:
    graph: dict[str, set[str]] = {name: set() for name in CORE}
    for module, path in modules().items():
        if (part := module.split(".")[0]) in graph:
            graph[part] |= parts_imported(path) - {part}
    done: set[str] = set()
    while len(done) < len(CORE):
        free = {name for name in CORE if name not in done and graph[name] - {"__version__"} <= done}
        assert free, f"a circle among {set(CORE) - done}"
        done |= free


@pytest.mark.parametrize("name", [*CORE, "", "cli", "__main__"])
def test_light_modules_name_no_heavy_one(name: str) -> None:
    assert {found.split(".")[0] for found in imports(modules()[name])} & set(HEAVY) == set()


def loaded(code: str) -> set[str]:
    """Top-level modules in memory after some code has run in a fresh interpreter."""
    shown = f"{code}\nimport json, sys; print(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    ran = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True)
    return set(json.loads(ran.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    [
        "import aasut.cli",
        "import aasut.types, aasut.tasks, aasut.errors, aasut.recipe, aasut.store, aasut.progress, aasut.pipeline",
        "from typer.testing import CliRunner; from aasut.cli import app; CliRunner().invoke(app, ['run', '--help'])",
    ],
)
def test_the_command_line_starts_without_heavy_modules(code: str) -> None:
    assert loaded(code) & set(HEAVY) == set()


def test_heavy_modules_would_be_seen() -> None:
    assert {"numpy", "scipy"} <= loaded("import aasut.data.panel") & set(HEAVY)


def test_the_package_exports_its_version_alone() -> None:
    tree = ast.parse(modules()[""].read_text(encoding="utf-8"))
    docstring, assignment = tree.body
    assert isinstance(docstring, ast.Expr)
    assert isinstance(assignment, ast.Assign)
    assert [ast.unparse(target) for target in assignment.targets] == ["__version__"]
    assert importlib.metadata.version("aasut") == aasut.__version__


@pytest.mark.parametrize("place", [*engines._FACTORIES.values(), *teachers._FACTORIES.values()])
def test_registered_factories_are_there(place: str) -> None:
    module, function = place.split(":")
    assert callable(getattr(import_module(module), function))


def test_registries_know_what_recipes_may_say() -> None:
    def said(section: Any, field: str) -> set[str]:
        return set(get_args(section.model_fields[field].annotation))

    assert said(recipe.Student, "initialise") == set(initialize.INITIALISATIONS) | {"linear"}
    for section in (recipe.Teacher, recipe.Export):
        assert said(section, "engine") - {"auto"} <= set(engines.engines())
    kinds = {"model", "endpoint", "scripted"}
    assert set(teachers._FACTORIES) == kinds <= set(recipe.Teacher.model_fields)
    for name in initialize.INITIALISATIONS:
        assert callable(initialize.get(name))
    for name in losses.LOSSES:
        assert callable(losses.get(name))


@pytest.mark.parametrize(
    ("ask", "valid"),
    [
        (lambda: engines.load("nonsense", Path()), ["auto", *engines._FACTORIES]),
        (lambda: teachers.create("nonsense", None, None, ""), list(teachers._FACTORIES)),
        (lambda: initialize.get("nonsense"), [*initialize.INITIALISATIONS, "linear"]),
        (lambda: losses.get("nonsense"), list(losses.LOSSES)),
    ],
    ids=["engine", "teacher", "initialisation", "loss"],
)
def test_an_unknown_name_lists_the_valid_ones(ask: Callable[[], object], valid: list[str]) -> None:
    with pytest.raises(AasutError, match=r"There is no .*'nonsense'") as caught:
        ask()
    listed = caught.value.remedy.removeprefix("Choose one of: ").rstrip(".").split(", ")
    assert sorted(listed) == sorted(valid)
