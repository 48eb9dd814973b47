"""The home example's student on commands of unseen templates: exact calls, English and Hindi apart, free and bound.

The grammar of examples/home is the teacher, served here where nobody serves it yet; the recipe runs through the
pipeline in a folder of its own and goes on where it was stopped. Beside the student stand the same model untrained and
linear classifiers with a lookup of the house's words (home_linear.py). Without --full: fewer commands, two epochs. The
last line is one JSON object; shares with Wilson intervals at 95 %.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "home"))
import grammar
import home_linear

import commands
from aasut.data import split
from aasut.engine.base import Engine, Prompt, load, write
from aasut.errors import AasutError
from aasut.progress import Progress
from aasut.recipe import Recipe
from aasut.recipe import load as load_recipe
from aasut.sources.models import cache_root, fetch
from aasut.student.train import prompts_of
from aasut.tasks import Task
from aasut.teacher import python_rules
from aasut.teacher.server import ScriptedServer
from aasut.types import Example

EXAMPLE = grammar.FOLDER
LESS = 0.4  # commands of each template without --full, as a share of the usual
EPOCHS = 2  # without --full
UNTRAINED = 60  # commands of each language that the untrained model is tried on: it writes to the limit
ONE_BY_ONE = 64  # commands that are timed alone


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--full", action="store_true", help="all commands, and the recipe's epochs")
    options.add_argument("--linear", action="store_true", help="the linear baseline alone")
    options.add_argument("--root", type=Path, default=cache_root() / "benchmarks" / "home")
    options.add_argument("--set", action="append", default=[], help="section.field=value of the recipe")
    chosen = options.parse_args()
    root = chosen.root / ("full" if chosen.full else "less")
    home = example(root, 1.0 if chosen.full else LESS)
    sets = chosen.set if chosen.full else [f"student.epochs={EPOCHS}", *chosen.set]
    recipe = load_recipe(home / "recipe.yaml", sets)
    test, pool = parts(recipe, home, root)
    languages = [grammar.language_of(one.slots["text"]) for one in test]
    gold = [one.answer or "" for one in test]
    found: dict[str, Any] = {"n": {name: languages.count(name) for name in grammar.LANGUAGES}, "n_pool": len(pool)}
    print(json.dumps(found), flush=True)
    linear = home_linear.Linear().fit(pool).answer([one.slots["text"] for one in test])
    found |= exact("linear", linear, gold, languages)
    print(json.dumps(found), flush=True)
    if not chosen.linear:
        found |= student(recipe, home, root, sets, test, languages)
    print(json.dumps(found))


def example(root: Path, scale: float) -> Path:
    """A copy of the example with its commands drawn. The same commands are written again at each start."""
    home = root / "home"
    shutil.copytree(EXAMPLE, home, ignore=shutil.ignore_patterns("data", "__pycache__"), dirs_exist_ok=True)
    commands.write(home / "data", 7, scale)
    return home


def parts(recipe: Recipe, home: Path, root: Path) -> tuple[list[Example], list[dict[str, str]]]:
    """The test split as the recipe's run has it; the pool with the grammar's answers."""
    folder = root / "split"
    folder.mkdir(exist_ok=True)
    split.build(recipe, home, folder, Progress(quiet=True))
    pool = [{"text": one.slots["text"]} for one in split.load(folder, "pool")]
    return split.load(folder, "test"), [row | {"calls": grammar.answer(row["text"])} for row in pool]


def student(
    recipe: Recipe, home: Path, root: Path, sets: Sequence[str], test: list[Example], languages: list[str]
) -> dict[str, Any]:
    """Train it, or take the one that was trained; what it and the untrained model answer, and how fast."""
    run = [sys.executable, "-m", "aasut", "run", str(home / "recipe.yaml"), "--root", str(root / "runs"), "--json"]
    with ExitStack() as stack:
        try:
            stack.enter_context(ScriptedServer(python_rules.load(home / "grammar.py"), port=8010))
        except AasutError:
            print("port 8010 is taken: the teacher that is there is asked", file=sys.stderr)
        words = [word for one in sets for word in ("--set", one)]
        subprocess.run([*run, *words], check=True, stdout=subprocess.DEVNULL)
    task, gold = recipe.task.build(), [one.answer or "" for one in test]
    prompts = prompts_of(recipe, test)
    engine = load(recipe.export.engine, root / "runs" / recipe.name / "student.gguf")
    free, _ = answers(engine, task, prompts, bound=False)
    bound, seconds = answers(engine, task, prompts, bound=True)
    found = exact("free", free, gold, languages) | exact("bound", bound, gold, languages)
    found |= {f"exact_{name}": found[f"bound_{name}"] for name in grammar.LANGUAGES}
    found["calls_s"] = round(len(test) / seconds, 2)
    started = time.perf_counter()
    for prompt in prompts[:ONE_BY_ONE]:
        answers(engine, task, [prompt], bound=True)
    found["calls_s_one_by_one"] = round(min(ONE_BY_ONE, len(test)) / (time.perf_counter() - started), 2)
    engine.close()
    some = [p for name in grammar.LANGUAGES for p in [i for i, x in enumerate(languages) if x == name][:UNTRAINED]]
    assert recipe.student.model is not None
    engine = load("auto", fetch(recipe.student.model, base=home, progress=Progress(quiet=True)).path)
    for name, binding in (("untrained_free", False), ("untrained_bound", True)):
        said, _ = answers(engine, task, [prompts[place] for place in some], bound=binding)
        found |= exact(name, said, [gold[place] for place in some], [languages[place] for place in some])
    return found


def answers(engine: Engine, task: Task, prompts: Sequence[str], *, bound: bool) -> tuple[list[str], float]:
    """What a model says to each prompt, and the seconds of all. `bound`: calls of the house's functions alone."""
    schema = task.schema if bound else ""
    started = time.perf_counter()
    written = write(engine, [Prompt(prompt, task.max_tokens, schema=schema) for prompt in prompts])
    return [task.parse(one.text) or "" for one in written], time.perf_counter() - started


def exact(name: str, said: Sequence[str], gold: Sequence[str], languages: Sequence[str]) -> dict[str, Any]:
    """The share of answers that are the right calls, by language, with its interval."""
    found: dict[str, Any] = {}
    for language in grammar.LANGUAGES:
        right = [one == other for one, other, spoken in zip(said, gold, languages, strict=True) if spoken == language]
        found[f"{name}_{language}"] = round(sum(right) / len(right), 4)
        found[f"{name}_{language}_ci"] = wilson(sum(right), len(right))
    return found


def wilson(right: int, count: int, z: float = 1.96) -> list[float]:
    """Wilson's interval (1927)."""
    share, spread = right / count, z * z / count
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * (share * (1 - share) / count + spread / (4 * count)) ** 0.5
    return [round(max(0.0, middle - half), 4), round(min(1.0, middle + half), 4)]


if __name__ == "__main__":
    main()
