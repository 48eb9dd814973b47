"""Stage `plan`: students of small parts of the teacher's answers, judged on `tune`: what are more answers worth?

Writes trials.json: the human answers' groups, whether the commonest is right, and for each student how many answers
it learned from and which human answers it gives too. Neither `test` nor `calibrate` is opened. A killed stage goes on
at the next student.
"""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aasut.engine.base import load
from aasut.errors import DataError
from aasut.evaluate.candidates import Candidate
from aasut.evaluate.verdict import Answers
from aasut.progress import Progress
from aasut.recipe import Recipe
from aasut.store import Artefact, write_atomically
from aasut.types import Conservation, Example, Label

VERSION = 1
NAME = "plan"  # of the stage
TRIALS = "trials.json"
CELLS = 8  # equal parts, of which subsets are put together
BATCH = 256


@dataclass(frozen=True, slots=True)
class Part:
    """A subset: the `number`-th of `of` parts of the rows; `rows` are their places."""

    of: int
    number: int
    rows: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"{self.number + 1}-of-{self.of}"


@dataclass(frozen=True, slots=True)
class Trial:
    """A student of so many of the teacher's answers; `correct`, is it right, one entry a human answer."""

    examples: int
    correct: Sequence[bool]


def parts(groups: Sequence[str], seed: int, *, every: bool) -> list[Part]:
    """Eighths, quarters and halves of the rows by whole groups, the smallest first; empty ones are left out.

    Those of one size share no row, so that they tell how much a subset's choice matters. Without `every`, which is
    for students that cost little, two eighths, one quarter and one half.
    """
    sizes = Counter(groups)
    names = sorted(sizes)
    random.Random(f"{seed} subsets").shuffle(names)
    cells: list[set[str]] = [set() for _ in range(CELLS)]
    held = [0] * CELLS
    for name in names:
        at = held.index(min(held))
        cells[at].add(name)
        held[at] += sizes[name]
    found = []
    for of in (8, 4, 2):
        wide = CELLS // of
        for number in range(of if every else 2 if of == CELLS else 1):
            chosen = set().union(*cells[number * wide : (number + 1) * wide])
            rows = tuple(i for i, group in enumerate(groups) if group in chosen)
            if rows:
                found.append(Part(of, number, rows))
    return found


def trainings(*, every: bool) -> float:
    """Work of all parts' students in trainings on all rows."""
    eighths = [*map(str, range(CELLS))]
    return sum(1 / part.of for part in parts(eighths, 0, every=every))


class Judge:
    """Which human answers a student in a folder gives too. `tune` has those that the student can read."""

    def __init__(self, recipe: Recipe, tune: Sequence[Example], *, linear: bool) -> None:
        if not tune:
            raise DataError("There are no human answers in tune to judge by.", "Give data.split.tune a weight.")
        self.recipe, self.tune, self.linear = recipe, list(tune), linear
        self.too_long = 0

    def __call__(self, student: Path) -> list[bool]:
        precision = "auto" if self.linear else self.recipe.export.precision
        engine = load("linear" if self.linear else "torch", student, precision=precision)
        try:
            candidate = Candidate(self.recipe, engine, linear=self.linear)
            kept = [example for example in self.tune if candidate.fits(example)]
            self.too_long += len(self.tune) - len(kept)
            self.tune = kept
            given = [candidate.answer(kept[i : i + BATCH]) for i in range(0, len(kept), BATCH)]
        finally:
            engine.close()
        probabilities = [row for part in given for row in part.probabilities]
        texts = [text for part in given for text in part.texts]
        said = {"probabilities": {"student": probabilities}} if probabilities else {"texts": {"student": texts}}
        ids = [example.id for example in kept]
        return Answers.of(candidate.task, kept, {"ids": ids, **said}).correct("student")

    def chance(self) -> list[bool]:
        """Is the commonest human answer right, for each of `tune`?"""
        gold = [str(example.answer) for example in self.tune]
        commonest = Counter(gold).most_common(1)[0][0]
        return [answer == commonest for answer in gold]


def build(
    labels: Sequence[Label],
    groups: Sequence[str],
    whole: Path,
    make: Callable[[Sequence[Label], Path], object],
    judge: Judge,
    folder: Path,
    progress: Progress,
    seed: int,
) -> dict[str, Any]:
    """Train and judge the students of all parts, and judge the finished one in `whole`, which learned from all labels.

    groups: of the labelled rows, one a label; make(labels, folder): leaves a student there. Parts that cannot be
    learned from (their answers are all the same, say) count as failed.
    """
    chosen = parts(groups, seed, every=judge.linear)
    trials = [Trial(len(labels), judge(whole))]
    failed: Counter[str] = Counter()
    with progress.steps("students of small parts", sum(len(part.rows) for part in chosen)) as step:
        for part in chosen:
            kept, student = folder / f"{part.name}.json", folder / part.name
            there = kept.exists()
            try:
                if not there:
                    make([labels[i] for i in part.rows], student)
                    write_atomically(kept, json.dumps(judge(student)))
                correct = json.loads(kept.read_text(encoding="utf-8"))
                trials.append(Trial(round(len(labels) / part.of), correct))
            except DataError as error:
                failed[error.message] += 1
            shutil.rmtree(student, ignore_errors=True)
            step.advance(len(part.rows), resumed=there)
    body = {
        "groups": [e.group for e in judge.tune],
        "chance": judge.chance(),
        "trials": [[t.examples, list(map(int, t.correct))] for t in trials],
    }
    write_atomically(folder / TRIALS, json.dumps(body))
    for path in folder.glob("*-of-*.json"):
        path.unlink()
    return {
        "labels": len(labels),
        "linear": judge.linear,
        "conservation": {
            "plan, human answers": Conservation(
                len(judge.tune) + judge.too_long,
                len(judge.tune),
                failed={"longer than the student's context": judge.too_long},
            ),
            "plan, students": Conservation(len(chosen) + 1, len(trials), failed=dict(failed)),
        },
    }


def read(made: Artefact) -> tuple[list[Trial], list[bool], list[str]]:
    """(trials, is the commonest answer right, groups of the human answers) of a finished stage."""
    body = json.loads((made.path / TRIALS).read_text(encoding="utf-8"))
    trials = [Trial(examples, tuple(map(bool, correct))) for examples, correct in body["trials"]]
    return trials, body["chance"], body["groups"]
