"""Learning curves against what then happened: accuracy with 4 times the answers. The last line is one JSON object.

Three sets of texts with human answers (reviews, tweets, newspaper editorials), three starting sizes, several
draws of each. In each draw linear students of 1/8, 1/4, 1/2 and all of the starting answers are judged on some
300 human answers, as `aasut plan` does it; the curve then says what a student of 4 times as many will score on
1,000 answers that it has not seen, and by how much it will be better; that student is trained.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aasut import recipe as recipes
from aasut.economics import learning_curve
from aasut.engine.linear import load
from aasut.errors import DataError
from aasut.evaluate.subsets import Trial, parts
from aasut.progress import Progress
from aasut.sources import tables
from aasut.student import linear
from aasut.student.train import validation_rows
from aasut.types import Example

RECIPE = Path(__file__).parents[1] / "examples" / "reviews" / "recipe.yaml"
SETS = {"reviews": "amazonReviewSnippets", "tweets": "tweets", "editorials": "nytEditorialSnippets"}
STARTS = (240, 480)
TIMES = 4
TUNE, TEST = 300, 700
DRAWS, FULL = 6, 20


@dataclass(frozen=True)
class Study:
    """One draw: what the curve was fitted to, and what 4 times the answers then gave."""

    name: str
    start: int
    trials: list[Trial]
    chance: list[bool]
    groups: list[str]
    tune_later: list[bool]
    test_now: list[bool]
    test_later: list[bool]
    test_groups: list[str]


def examples(name: str) -> tuple[list[Example], Sequence[str]]:
    """All texts of a set that have a human answer, and the answers there are."""
    loaded = recipes.load(RECIPE)
    task, table = loaded.task.build(), loaded.data.tables[0]
    changed: dict[str, Any] = {"source": table.source.replace(SETS["reviews"], SETS[name])}
    if name == "tweets":
        changed["group"] = None
    found = tables.read(table.model_copy(update=changed), task=task, base=RECIPE.parent, progress=Progress(quiet=True))
    return [one for one in found.examples if one.answer is not None], task.answers


def right(train: Sequence[Example], asked: Sequence[Example], answers: Sequence[str], seed: int) -> list[bool]:
    """Is a linear student of `train` right, for each of `asked`?"""
    human = np.zeros((len(train), len(answers)))
    human[np.arange(len(train)), [answers.index(str(one.answer)) for one in train]] = 1.0
    with tempfile.TemporaryDirectory() as folder:
        held = validation_rows([one.group for one in train], 0.1, seed)
        linear.fit([one.slots["text"] for one in train], human, held, answers, Path(folder))
        scores = load(Path(folder)).score([one.slots["text"] for one in asked], answers).logprobs
    return [answers[int(best)] == one.answer for best, one in zip(scores.argmax(axis=1), asked, strict=True)]


def by_groups(rows: Sequence[Example], wanted: Sequence[int], seed: str) -> list[list[Example]]:
    """Disjoint parts of about so many rows, whole groups each; the last takes what is left."""
    groups: dict[str, list[Example]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    names = sorted(groups)
    random.Random(seed).shuffle(names)
    found: list[list[Example]] = [[] for _ in range(len(wanted) + 1)]
    at = 0
    for name in names:
        if at < len(wanted) and len(found[at]) >= wanted[at]:
            at += 1
        found[at] += groups[name]
    return found


def study(name: str, rows: Sequence[Example], answers: Sequence[str], start: int, draw: int) -> Study:
    tune, test, pool = by_groups(rows, [TUNE, TEST], f"{name} {start} {draw}")
    now, more, _ = by_groups(pool, [start, (TIMES - 1) * start], f"{draw}")
    trials = []
    for part in parts([one.group for one in now], draw, every=True):
        taken = [now[i] for i in part.rows]
        try:
            trials.append(Trial(round(len(now) / part.of), right(taken, tune, answers, draw)))
        except DataError:  # all of one group, or with one answer
            continue
    commonest = Counter(one.answer for one in tune).most_common(1)[0][0]
    chance = [one.answer == commonest for one in tune]
    both = right(now, [*tune, *test], answers, draw)
    later = right([*now, *more], [*tune, *test], answers, draw)
    return Study(
        name, len(now), [*trials, Trial(len(now), both[: len(tune)])], chance, [one.group for one in tune],
        later[: len(tune)], both[len(tune) :], later[len(tune) :], [one.group for one in test],
    )  # fmt: skip


def summary(studies: Sequence[Study]) -> dict[str, Any]:
    """Errors in points and shares of intervals that held what then happened."""
    said: dict[str, list[float]] = {
        name: [] for name in ("error", "held", "width", "same", "gain", "gain_held", "none")
    }
    gains: dict[tuple[str, int], list[float]] = {}
    asked = [(s, learning_curve.fit(s.trials, s.chance, s.groups, seed=i)) for i, s in enumerate(studies)]
    for s, _ in asked:
        gains.setdefault((s.name, s.start // 50), []).append(float(np.mean(s.test_later)) - float(np.mean(s.test_now)))
    for s, curve in asked:
        later = TIMES * curve.largest
        effect = learning_curve.accuracy(s.test_later, s.test_groups).design_effect
        fresh = curve.measured(later, len(s.test_later) / effect * curve.effect)
        seen, gained = float(np.mean(s.test_later)), gains[s.name, s.start // 50]
        gain = curve.gain(later - curve.largest)
        said["error"].append(abs(fresh.value - seen))
        said["held"].append(fresh.low <= seen <= fresh.high)
        said["width"].append((fresh.high - fresh.low) / 2)
        said["same"].append(abs(fresh.value - float(np.mean(s.tune_later))))
        said["gain"].append(abs(gain.value - float(np.mean(gained))))
        said["gain_held"].append(gain.low <= float(np.mean(gained)) <= gain.high)
        said["none"].append(abs(float(np.mean(gained))))
    mean = {name: float(np.mean(values)) for name, values in said.items()}
    return {
        "predictions": len(studies),
        "mean_abs_error_points": round(100 * mean["error"], 2),
        "interval_coverage": round(mean["held"], 3),
        "interval_half_width_points": round(100 * mean["width"], 2),
        "same_items_error_points": round(100 * mean["same"], 2),
        "gain_error_points": round(100 * mean["gain"], 2),
        "gain_error_points_of_no_curve": round(100 * mean["none"], 2),
        "gain_interval_coverage": round(mean["gain_held"], 3),
    }


def main() -> None:
    draws = FULL if "--full" in sys.argv else DRAWS
    studies = []
    for name in SETS:
        rows, answers = examples(name)
        for start in STARTS:
            some = [study(name, rows, answers, start, draw) for draw in range(draws)]
            print(name, start, json.dumps(summary(some)), flush=True)
            studies += some
    print(json.dumps(summary(studies)))


if __name__ == "__main__":
    main()
