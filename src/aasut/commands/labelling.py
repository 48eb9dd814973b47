"""A round of budgeted labelling: rows are drawn, written down with their probabilities, and then asked.

What was drawn stands in the recipe's file before the first question is put, so that a kill loses neither the choice
nor, thanks to the ledger, an answer: the same command then goes on with the round that was begun, and draws no other.
The stages are those of `aasut run`, which finds them done.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aasut import pipeline
from aasut.data import acquire, asked, gold, split
from aasut.data.asked import Line
from aasut.data.panel import Panel
from aasut.engine import linear
from aasut.errors import DataError, RecipeError, StoreError, TeacherError
from aasut.gold import plan
from aasut.pipeline import Stages
from aasut.progress import Progress
from aasut.recipe import Recipe
from aasut.store import Artefact, Store
from aasut.student.train import linear_prompt
from aasut.types import Example

FEW = 10  # labels that a model is not asked about what it is unsure of


@dataclass(frozen=True)
class Round:
    """What a call of `aasut label` did; rows are counted, and `calls` of the teacher, several a row for a committee.

    `by`: what rows were chosen by; `resumed`: whether it finished a round that was begun before; `whole_pool`: what the
    stage `label` estimates of it, None for texts.
    """

    recipe: str
    file: str
    number: int
    random: int
    chosen: int
    by: str
    resumed: bool
    asked: int
    left: int
    for_people: int
    calls: int
    usd: float
    whole_pool: dict[str, Any] | None
    conservation: dict[str, Any]


def ask(recipe: Recipe, base: Path, root: Path, progress: Progress, budget: int, random_share: float) -> Round:
    """Ask the teacher for `budget` more rows, or for those of a round that is not finished. Raises AasutError."""
    path = asked.path_of(recipe, base)
    if path is None:
        raise RecipeError(
            "The recipe does not say where the rows that are asked are kept.",
            "Add `asked: asked.jsonl` under data in the recipe.",
        )
    pipeline.check(recipe)
    with Store(root / ".store") as store:
        stages = Stages(recipe, base, store, progress)
        try:
            lines = asked.read(path)
            label = None
            if lines:
                data = stages.data()
                label, missing = _labelled(stages, data, budget)
                if missing and label is not None:
                    return _done(stages, path, lines, data, label, "", resumed=True, for_people=0)
            else:
                data = Stages(asked.whole(recipe), base, store, progress).data()
            rows, people = _candidates(recipe, base, root, data, first=not lines)
            scores, by = _scores(stages, data, label, rows)
            more = _draw(recipe, rows, scores, budget, random_share, 1 + max((line.round for line in lines), default=0))
            asked.add(path, lines, more)
            progress.say(f"round {more[0].round}: {len(more):,} rows are asked, chosen by {by}")
            data = stages.data()
            label = stages.label(data, stages.choose(data))
            return _done(stages, path, [*lines, *more], data, label, by, resumed=False, for_people=people)
        finally:
            stages.close()


def _labelled(stages: Stages, data: Artefact, budget: int) -> tuple[Artefact | None, int]:
    """The labels of the rows asked so far, and how many of these rows had no answer yet: they are asked now.

    None where their answers are there and teach nothing. Raises RecipeError where more are missing than `budget`.
    """
    recipe = stages.recipe
    done = Stages(recipe, stages.base, stages.store, Progress(quiet=True), makes=())
    try:
        return done.label(data, done.choose(data)), 0
    except StoreError:
        pass
    choose = stages.choose(data)
    panel = Panel.from_json((choose.path / "panel.json").read_text(encoding="utf-8"))
    task, template = recipe.task.build(), recipe.teacher_template()
    questions = [panel.requests(template, task, row.slots) for row in split.load(data.path, split.POOL)]
    missing = sum(stages.ledger.holds(one) < len(one) for one in questions)
    if missing > budget:
        raise RecipeError(
            f"{missing:,} of the {len(questions):,} rows in {recipe.data.asked} have no answer from the teacher as the "
            "recipe asks it now.",
            f"Give --budget {missing} to have them answered first, or put the teacher's settings back.",
        )
    stages.progress.say(f"{missing:,} rows of a round that was begun are asked first" if missing else "nothing is open")
    try:
        return stages.label(data, choose), missing
    except TeacherError as error:
        if missing:
            raise
        stages.progress.say(str(error))
        return None, 0


def _candidates(recipe: Recipe, base: Path, root: Path, data: Artefact, *, first: bool) -> tuple[list[Example], int]:
    """Rows that may be asked, and how many others are left to people: those that `aasut gold` would ask next.

    If what people answer later were what is left over by a choice, the test would be easier than the inputs are.
    """
    rows = split.load(data.path, split.POOL if first else split.UNASKED)
    groups: set[str] = set()
    if recipe.data.gold is not None:
        found = split.unanswered(recipe, base, Progress(quiet=True))
        order, report = plan.order(found.rows, recipe.seed), root / recipe.name / "report.json"
        planned = plan.make(recipe, len(order), found.counts[split.TEST], report, discordance=None, count=None)
        groups = {row.group for row in order[: planned.asked]}
    free = [row for row in rows if row.group not in groups]
    if not free:
        kept = f", {len(rows):,} that are left to people aside" if rows else ""
        raise RecipeError(f"Every row of the pool was asked{kept}.", "Add inputs to the tables, or run the recipe.")
    return free, len(rows) - len(free)


def _scores(stages: Stages, data: Artefact, label: Artefact | None, rows: list[Example]) -> tuple[Any, str]:
    """How unsure the linear student is of each row, [rows], and in words what rows are chosen by."""
    recipe, why = stages.recipe, "no label is there yet"
    if recipe.task.kind != "classify":
        return None, "diversity alone: the linear model that tells what is uncertain knows labels only"
    if label is not None:
        try:
            if label.facts["conservation"]["label"]["kept"] < FEW:
                raise DataError(f"fewer than {FEW} labels are there")
            model = linear.load(stages.linear(data, label).path)
            answers = recipe.task.build().answers
            logprobs = model.score([linear_prompt(recipe, row) for row in rows], answers).logprobs
            return acquire.uncertainty(np.exp(logprobs)), "uncertainty and diversity"
        except DataError as error:
            why = error.message.rstrip(".")
    return None, f"diversity alone: {why}"


def _draw(
    recipe: Recipe, rows: list[Example], scores: Any, budget: int, random_share: float, number: int
) -> list[Line]:
    vectors = acquire.embed([linear_prompt(recipe, row) for row in rows])
    hash_of = gold.hashes(rows, recipe.task.build())
    picked = acquire.pick(vectors, scores, budget, random_share, (recipe.seed, number))
    ids = [rows[one.row].id for one in picked]
    return [
        Line(name, hash_of[name], number, one.arm, one.probability, recipe.seed)
        for name, one in zip(ids, picked, strict=True)
    ]


def _done(
    stages: Stages, path: Path, lines: list[Line], data: Artefact, label: Artefact, by: str, *, resumed: bool,
    for_people: int,
) -> Round:  # fmt: skip
    number = max(line.round for line in lines)
    arms = [line.arm for line in lines if line.round == number]
    return Round(
        stages.recipe.name,
        str(path),
        number,
        arms.count("random"),
        arms.count("chosen"),
        by,
        resumed,
        data.facts["counts"][split.POOL],
        len(split.load(data.path, split.UNASKED)),
        for_people,
        stages.calls_made,
        stages.usd_spent,
        label.facts.get("whole_pool"),
        data.facts["conservation"] | label.facts["conservation"],
    )


def describe(found: Round, again: str, use: str) -> list[str]:
    """In lines for a reader; again, use: the commands that ask for more and that use the answers."""
    arms = f"{found.chosen:,} chosen by {found.by}, {found.random:,} at random" if found.by else "begun before"
    lines = [
        f"Round {found.number}: {found.chosen + found.random:,} rows, {arms}. Asked so far: {found.asked:,} of "
        f"{found.asked + found.left:,} rows of the pool."
    ]
    if found.for_people:
        lines.append(f"{found.for_people:,} rows are left to people: aasut gold would ask them next.")
    paid = f", for ${found.usd:.4g}" if found.usd else ""
    lines.append(f"Calls made of the teacher just now: {found.calls:,}{paid}.")
    if found.whole_pool:
        shares = ", ".join(
            f"{answer} {one['share'] * 100:.0f} % ({one['low'] * 100:.0f} to {one['high'] * 100:.0f})"
            for answer, one in found.whole_pool["shares"].items()
        )
        lines.append(f"Over the whole pool the teacher would say: {shares}.")
    return [*lines, f"Use them: {use}", f"More: {again}"]


def as_dict(found: Round) -> dict[str, Any]:
    """As plain data."""
    return asdict(found)
