"""Stage `label`: the teacher answers the pool, and the panel is calibrated."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from aasut.data import teachers
from aasut.data.ask import ask
from aasut.data.asked import Weights
from aasut.data.choose import shares, shot_key
from aasut.data.panel import Floats, Panel, best_temperature, prior_bias
from aasut.errors import DataError, TeacherError
from aasut.progress import Progress
from aasut.recipe import Recipe
from aasut.store import write_atomically
from aasut.tasks import Task
from aasut.teacher.ledger import Ledger
from aasut.types import Completion, Conservation, Example, Label

VERSION = 1
TAUGHT_UNFIT = "the answer in its table does not fit the task"


def build(
    recipe: Recipe,
    panel: Panel,
    pool: Sequence[Example],
    tune: Sequence[Example],
    teacher: Ledger,
    folder: Path,
    progress: Progress,
    kept_aside: int = 0,
    weights: Weights | None = None,
    open_other: Callable[[int], Ledger] | None = None,
) -> dict[str, Any]:
    """Write labels.jsonl (ids with probabilities, or with texts) and panel.json (calibrated).

    `kept_aside`: how many rows of the pool are not in `pool`, as they are kept for judges (see aside.py).
    `weights`: what each row counts for, where the pool is no fair sample of the inputs.
    `open_other`: one of `teacher.others` by number, behind a ledger; where the recipe has some (see teachers.py).
    Rows with an answer of the teacher's in their table keep it, and are not asked.
    Raises TeacherError where more than `max_failed` of the answers are unusable, or all are one and the same.
    """
    task = recipe.task.build()
    completions = _answers(recipe, panel, pool, teacher, progress)
    taught = sum(example.taught is not None for example in pool)
    failed = Counter(failure for answers in completions if (failure := _failure(panel, task, answers)))
    _check_failed(failed, len(pool), recipe.teacher.max_failed)
    mass = None if weights is None else np.array([weights.rows[example.id] for example in pool])
    panel = calibrate(recipe, panel, completions, tune, teacher, progress, mass)
    found = [_label(panel, task, example.id, answers) for example, answers in zip(pool, completions, strict=True)]
    more: dict[str, Any] = {}
    conservation: dict[str, Conservation] = {}
    if open_other is not None and recipe.teacher.others:
        agreed = teachers.agree(recipe, panel, pool, found, dict(failed), open_other, progress)
        found, failed, conservation = agreed.labels, Counter(agreed.failed), agreed.conservation
        more = {"teachers": agreed.teachers, "calls": agreed.calls}
    labels = [label for label in found if label is not None]
    given = _given(task, labels)
    if len(given) == 1:
        raise TeacherError(
            f"The teacher gave the same answer, {next(iter(given))!r}, to all {len(labels)} inputs: "
            "nothing can be learned.",
            "Mend the prompt, or add inputs that have other answers.",
        )
    lines = [json.dumps({"id": label.id} | _plain(label)) for label in labels]
    write_atomically(folder / "labels.jsonl", "\n".join(lines) + "\n")
    write_atomically(folder / "panel.json", panel.to_json())
    aside = {"kept aside for judges": kept_aside} if kept_aside else {}
    facts: dict[str, Any] = {
        "conservation": {"label": Conservation(len(pool) + kept_aside, len(labels), aside, dict(failed))}
        | conservation,
        "temperature": panel.temperature,
    } | more
    if task.answers:
        likeliest = Counter(task.answers[int(np.argmax(label.probabilities))] for label in labels)
        facts["answers"] = {answer: likeliest[answer] for answer in task.answers}
        facts["mean_confidence"] = float(np.mean([label.confidence for label in labels]))
        if weights is not None:
            facts["whole_pool"] = _whole_pool(task, labels, weights)
    else:
        facts["texts"] = sum(len(label.texts) for label in labels)
        drawn = sum(len(answers) for answers, label in zip(completions, found, strict=True) if label is not None)
        facts["texts_unusable"] = drawn - facts["texts"]  # of rows that have another
        facts["commonest"] = given.most_common(1)[0][0]
    return facts | ({"taught": taught} if taught else {})


def _answers(
    recipe: Recipe, panel: Panel, pool: Sequence[Example], teacher: Ledger, progress: Progress
) -> list[list[Completion]]:
    """One completion a draw for each row of the pool, and the one that it has where it was taught."""
    task = recipe.task.build()
    open_rows = [example for example in pool if example.taught is None]
    asked = iter(ask(recipe, panel, open_rows, teacher, progress, "teacher labels the pool"))
    return [next(asked) if one.taught is None else [_taught(task, one.taught)] for one in pool]


def _taught(task: Task, answer: str) -> Completion:
    fits = task.canonical(answer)
    return Completion("", failure=TAUGHT_UNFIT) if fits is None else Completion(fits)


def _check_failed(failed: Counter[str], rows: int, most: float) -> None:
    if sum(failed.values()) > most * rows:
        reasons = ", ".join(f"{count} × {reason}" for reason, count in failed.most_common())
        raise TeacherError(
            f"{sum(failed.values())} of {rows} answers are unusable ({reasons}).",
            "Mend the prompt, or raise teacher.max_failed; the usable answers are kept.",
        )


def _failure(panel: Panel, task: Task, answers: Sequence[Completion]) -> str:
    return panel.combine(task, answers)[1] if task.answers else panel.texts(task, answers)[1]


def _label(panel: Panel, task: Task, name: str, answers: Sequence[Completion]) -> Label | None:
    if not task.answers:
        texts = panel.texts(task, answers)[0]
        return Label(name, texts=texts) if texts else None
    probabilities = panel.combine(task, answers)[0]
    return None if probabilities is None else Label(name, tuple(float(p) for p in probabilities))


def _given(task: Task, labels: Sequence[Label]) -> Counter[str]:
    """How often each answer has any mass."""
    if not task.answers:
        return Counter(text for label in labels for text in label.texts)
    mass = (np.array([label.probabilities for label in labels]) > 1e-6).sum(axis=0)
    return Counter({answer: int(times) for answer, times in zip(task.answers, mass, strict=True) if times})


def _whole_pool(task: Task, labels: Sequence[Label], weights: Weights) -> dict[str, Any]:
    """Estimated shares of the likeliest answers over the whole pool, with Wilson's intervals at 95 % (1927)."""
    mass = np.array([weights.rows[label.id] for label in labels])
    likeliest = [int(np.argmax(label.probabilities)) for label in labels]
    shares = np.bincount(likeliest, mass, len(task.answers)) / mass.sum()
    v = 1.959964**2 * weights.variance
    middle = (shares + v / 2) / (1 + v)
    reach = np.sqrt(shares * (1 - shares) * v + v**2 / 4) / (1 + v)
    found = np.stack([shares, middle - reach, middle + reach], axis=1)
    keys = ("share", "low", "high")
    return {
        "rows": round(sum(weights.rows.values())),
        "shares": {
            answer: dict(zip(keys, map(float, row), strict=True))
            for answer, row in zip(task.answers, found, strict=True)
        },
    }


def _plain(label: Label) -> dict[str, Any]:
    return {"texts": label.texts} if label.texts else {"probabilities": label.probabilities}


def load(folder: Path) -> list[Label]:
    """The labels of a finished stage."""
    with (folder / "labels.jsonl").open(encoding="utf-8") as file:
        plain = [json.loads(line) for line in file]
    return [Label(row["id"], tuple(row.get("probabilities", ())), tuple(row.get("texts", ()))) for row in plain]


def calibrate(
    recipe: Recipe,
    panel: Panel,
    pool: Sequence[Sequence[Completion]],
    tune: Sequence[Example],
    teacher: Ledger,
    progress: Progress,
    mass: Floats | None = None,
) -> Panel:
    """The panel with its bias, reference and temperature; as it is where the recipe wants none.

    mass: what each row of the pool counts for. `prior`: shares of likeliest answers over the pool become the
    labels' shares in `tune`. `contextual`: divide by the answer to an empty input (Zhao et al. 2021). Both:
    one temperature by likelihood on `tune`.
    """
    method = recipe.teacher.calibration
    if method == "none":
        return panel
    task = recipe.task.build()
    bare = sum(any(c.choice_logprobs is None and not c.failure for c in answers) for answers in pool)
    if bare > recipe.teacher.max_failed * len(pool):
        raise TeacherError(
            f"calibration: {method} needs probabilities, and {bare} of {len(pool)} answers have none.",
            "Set teacher.calibration: none, or an endpoint with logprobs.",
        )
    if method == "prior" and not tune:
        raise DataError(
            "calibration: prior needs the labels' shares in `tune`, and `tune` has no human answers.",
            "Give data.split.tune a weight, or set teacher.calibration: none.",
        )
    if method == "contextual":
        empty = Example("empty", dict.fromkeys(task.prompt.slots, "N/A"), "")
        answers = ask(recipe, panel, [empty], teacher, progress, "teacher answers an empty input")[0]
        if any(c.choice_logprobs is None for c in answers):
            raise TeacherError(
                f"The teacher gives no probabilities for an empty input {answers[0].failure}".strip() + ".",
                "Set teacher.calibration: none or prior.",
            )
        panel = replace(panel, reference=tuple(tuple(c.choice_logprobs or ()) for c in answers))
    shots = {shot_key(shot.slots) for member in panel.members for shot in member}
    judges = [e for e in tune if shot_key(e.slots) not in shots]
    judged = ask(recipe, panel, judges, teacher, progress, "teacher answers tune")
    if method == "prior":
        gold = np.array([task.answers.index(str(e.answer)) for e in tune])
        mean = _stack(pool).mean(axis=1)
        counts = None if mass is None else mass[[_whole(answers) for answers in pool]]
        bias = prior_bias(mean, shares(gold, len(task.answers)), mass=counts)
        panel = replace(panel, bias=tuple(float(b) for b in bias))
    usable = [(e, c) for e, c in zip(judges, judged, strict=True) if _whole(c)]
    gold = np.array([task.answers.index(str(e.answer)) for e, _ in usable])
    if not usable:
        return panel
    return replace(panel, temperature=best_temperature(panel.scores(_stack([c for _, c in usable])), gold))


def _stack(completions: Sequence[Sequence[Completion]]) -> Floats:
    """Log-probabilities [rows, members, answers] of the rows that have them all."""
    return np.array([[c.choice_logprobs for c in row] for row in completions if _whole(row)], np.float64)


def _whole(row: Sequence[Completion]) -> bool:
    return all(c.choice_logprobs is not None and not c.failure for c in row)
