"""`aasut gold`: finds the recipe, plans, lets one person answer, and says how far things are."""

from __future__ import annotations

import getpass
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from aasut import recipe as recipes
from aasut.data import gold as answers
from aasut.data import split
from aasut.errors import RecipeError
from aasut.gold import plan, status, terminal
from aasut.gold.session import Session
from aasut.progress import Progress
from aasut.recipe import Recipe
from aasut.tasks import Task

# Agreement shown while answering grows by this many rows at once: one by one, it would tell the other's answer.
BLIND_STEP = 10


@dataclass(frozen=True)
class Wishes:
    """The command's flags. `rater` empty: the login name; `port` 0: a free one."""

    rater: str = ""
    count: int | None = None
    double: float = 0.1
    discordance: float | None = None
    adjudicate: bool = False
    web: bool = False
    port: int = 0
    status: bool = False


def run(
    target: str,
    root: Path,
    wishes: Wishes,
    stdin: TextIO,
    stdout: TextIO,
    progress: Progress,
    announce: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Let a person answer, in the terminal or the browser, and return the state as plain data.

    target: a recipe's path, or the name of a run below `root`; announce: called with the page's
    address once it can be opened. Raises AasutError.
    """
    recipe, place = find(target, root)
    task, path = recipe.task.build(), _answers_of(target, recipe, place.parent)
    found = split.unanswered(recipe, place.parent, progress)
    if not found.rows:
        raise RecipeError(f"{target} has no row to ask: all have a human answer.", "Add a table with role: pool.")
    rows = plan.order(found.rows, recipe.seed)
    report = root / recipe.name / "report.json"
    planned = plan.make(
        recipe, len(rows), found.counts[split.TEST], report, discordance=wishes.discordance, count=wishes.count
    )
    session = Session(
        task,
        path,
        rows[: planned.asked],
        rater=wishes.rater or _login(),
        double=wishes.double,
        seed=recipe.seed,
        adjudicate=wishes.adjudicate,
    )
    flags = "" if root == Path("runs") else f" --root {shlex.quote(str(root))}"

    def state() -> dict[str, Any]:
        return status.gather(
            task,
            answers.read(path),
            rows,
            found.split_of,
            session.doubles,
            planned,
            chosen=found.chosen,
            confidence=recipe.evaluate.confidence,
            again=f"aasut gold {shlex.quote(target)}{flags}",
            use=f"aasut run {shlex.quote(str(place))}{flags}",
        )

    if not wishes.status:
        progress.say(planned.sentence())
        announce = announce or (lambda address: progress.say(f"Answer at {address} (Ctrl-C stops)"))
        measured = partial(_measured, session, task, recipe.evaluate.confidence)
        if wishes.web:
            from aasut.gold import web

            web.serve(session, wishes.port, measured, lambda: state()["next"], announce)
        else:
            terminal.sit(session, stdin, stdout, measured=measured)
    return state()


def _answers_of(target: str, recipe: Recipe, base: Path) -> Path:
    """The file of answers by hand."""
    path = answers.path_of(recipe, base)
    if path is None:
        raise RecipeError(
            f"{target} does not say where answers by hand go.", "Add `gold: gold.jsonl` under data in the recipe."
        )
    return path


def _measured(session: Session, task: Task, confidence: float) -> str:
    """How far people agree, in a few words."""
    return status.note(status.agreed(session.queue, session.rows, task, confidence, by=BLIND_STEP))


def find(target: str, root: Path) -> tuple[Recipe, Path]:
    """A recipe and its file, by the file's path or a run's name; the recipe's paths are relative to the file's folder.

    Raises RecipeError where there is neither.
    """
    places = [Path(target), Path(target) / "recipe.yaml", root / target / "recipe.yaml"]
    place = next((place for place in places if place.is_file()), None)
    if place is None:
        raise RecipeError(
            f"{target} is neither a recipe nor a finished run in {root}.", "Give the path of a recipe.yaml."
        )
    return recipes.load(place), place


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        raise RecipeError("Your login name is not known.", "Give your name with --rater NAME.") from None
