"""Stage `choose`: which sets of worked examples the teacher is asked with, decided on `tune` alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from aasut.data.ask import completions, in_batches
from aasut.data.panel import Panel, Shot, best_temperature, draw_shots, negative_log_likelihood, prior_bias, softmax
from aasut.errors import DataError
from aasut.progress import Progress
from aasut.recipe import Recipe
from aasut.store import write_atomically
from aasut.tasks import Task
from aasut.teacher.ledger import Ledger
from aasut.types import Completion, Example, Request

VERSION = 1


def build(recipe: Recipe, tune: Sequence[Example], teacher: Ledger, folder: Path, progress: Progress) -> dict[str, Any]:
    """Write panel.json, uncalibrated: the `committee` best of `candidates` sets of shots.

    A set is judged by the likelihood of the other human answers in `tune`, after a shift to the
    labels' shares there and the best temperature; teachers that give text only, by their accuracy; free
    text, by its similarity.
    """
    wanted = recipe.teacher
    if wanted.shots == 0:
        panel = _panel(recipe, [()])
        write_atomically(folder / "panel.json", panel.to_json())
        return {"candidates": []}
    used = {shot_key(shot.slots) for c in range(wanted.candidates) for shot in _shots(recipe, tune, c)}
    judges = [e for e in tune if shot_key(e.slots) not in used]
    if len(judges) < 10 and wanted.candidates > 1:
        raise DataError(
            f"`tune` has {len(tune)} human answers; {wanted.candidates} sets of {wanted.shots} shots leave "
            f"{len(judges)} to judge them by.",
            "Give `tune` a larger share in data.split, or lower teacher.candidates or teacher.shots.",
        )
    losses = _losses(recipe, tune, judges, teacher, progress) if wanted.candidates > 1 else []
    order = sorted(range(len(losses)), key=lambda c: (losses[c], c))[: wanted.committee] or [0]
    panel = _panel(recipe, [_shots(recipe, tune, candidate) for candidate in order])
    write_atomically(folder / "panel.json", panel.to_json())
    return {
        "candidates": [
            {"seed": c, "loss_on_tune": round(loss, 5), "chosen": c in order} for c, loss in enumerate(losses)
        ],
        "judged_on": len(judges),
    }


def _losses(
    recipe: Recipe, tune: Sequence[Example], judges: Sequence[Example], teacher: Ledger, progress: Progress
) -> list[float]:
    """How badly the teacher answers the judges' questions with each candidate's shots."""
    task, template = recipe.task.build(), recipe.teacher_template()
    candidates = range(recipe.teacher.candidates)
    panels = [_panel(recipe, [_shots(recipe, tune, candidate)]).first() for candidate in candidates]

    def request(candidate: int, i: int) -> Request:
        return panels[candidate].request(template, task, judges[i].slots, 0)

    turns = [[(candidate, i) for i in batch] for candidate in candidates for batch in in_batches(range(len(judges)))]
    answers: list[list[Completion]] = [[] for _ in candidates]
    with progress.steps("choosing shots on tune", len(candidates) * len(judges)) as step:

        def told(answered: Sequence[Completion], resumed: bool) -> None:
            step.advance(len(answered), resumed=resumed)

        for (candidate, _), completion in completions(teacher, turns, request, told):
            answers[candidate].append(completion)
    return [_loss(task, judges, answered) for answered in answers]


def _panel(recipe: Recipe, members: Sequence[tuple[Shot, ...]]) -> Panel:
    """An uncalibrated panel; where answers are free text, its one member answers `samples` times."""
    panel = Panel.plain(list(members) * recipe.teacher.samples, len(recipe.task.build().answers))
    return replace(panel, sampling=recipe.teacher.temperature)


def shot_key(slots: Any) -> tuple[tuple[str, str], ...]:
    """What tells inputs apart."""
    return tuple(sorted(slots.items()))


def _shots(recipe: Recipe, tune: Sequence[Example], candidate: int) -> tuple[Shot, ...]:
    return draw_shots(tune, recipe.task.build().answers, recipe.teacher.shots, recipe.seed * 1000 + candidate)


def _loss(task: Task, judges: Sequence[Example], completions: Sequence[Completion]) -> float:
    usable = [(e, c) for e, c in zip(judges, completions, strict=True) if not c.failure]
    if not usable:
        return float("inf")
    if not task.answers:
        return 1.0 - float(np.mean([task.similarity(task.parse(c.text) or "", str(e.answer)) for e, c in usable]))
    gold = np.array([task.answers.index(str(e.answer)) for e, _ in usable])
    if any(c.choice_logprobs is None for _, c in usable):
        return 1.0 - float(np.mean([task.parse(c.text) == e.answer for e, c in usable]))
    scores = np.array([c.choice_logprobs for _, c in usable], np.float64)
    scores = scores + prior_bias(scores, shares(gold, len(task.answers)))
    return negative_log_likelihood(softmax(scores / best_temperature(scores, gold)), gold)


def shares(gold: np.ndarray[Any, np.dtype[np.int64]], answers: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Share of each answer, with one added to each count, so that none is zero."""
    counts = np.bincount(gold, minlength=answers) + 1.0
    result: np.ndarray[Any, np.dtype[np.float64]] = counts / counts.sum()
    return result
