"""What ranking a student's own answers will ask and cost at most, and the training that follows it.

What the student will answer is not known: its answers are taken to be as long as the teacher's, all of them different,
and each pair to have a preference.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from aasut.comparison import both_orders, shown_task
from aasut.data import aside, preference, split
from aasut.data import label as labelling
from aasut.engine.common import begin
from aasut.forecast.rehearse import Rehearsal
from aasut.forecast.stand_in import tokenizer_of
from aasut.store import Artefact
from aasut.student import train
from aasut.types import Example, Request

if TYPE_CHECKING:
    from aasut.forecast.work import Work


def rehearse(rehearsal: Rehearsal, done: dict[str, Artefact]) -> None:
    """Put the questions of the stage `rank` to the stand-in."""
    if "rank" in done and not done["rank"].reused:
        with rehearsal.rehearsing("rank"):
            rehearsal.ledger.complete(_requests(rehearsal, done))


def count(rehearsal: Rehearsal, done: dict[str, Artefact], work: Work) -> None:
    """Add what the student writes for `rank`, and what it learns in `prefer`."""
    if "rank" not in done:
        return
    recipe = rehearsal.recipe
    wanted = preference.settings_of(recipe)
    inputs = preference.inputs(recipe, _pool(rehearsal, done))
    tokenizer = tokenizer_of(rehearsal.folder_of(recipe.student.model))
    prompt = _mean([len(begin(tokenizer, text)) for text in train.prompts_of(recipe, inputs)])
    answer = _mean([len(tokenizer.encode(text)) for text in _answers(done)])
    rank, prefer = work["rank"], work["prefer"]
    if not rank.reused:
        rank.units["served.load"] += 1
        rank.units["served.tokens"] += prompt * len(inputs) * wanted.samples
        rank.units["served.written"] += len(inputs) * wanted.samples
        if rehearsal.teacher_kind == "model":
            rank.units["teacher.read"] += rank.tokens_in
    if not prefer.reused:
        pairs, checks = len(inputs) * _pairs(wanted.samples, wanted.pairs), recipe.student.checks
        each, held = 2 * (prompt + answer), recipe.student.validation
        prefer.units.update({"student.load": 3, "train.first": 1, "train.checks": checks, "write.student_gb": 1})
        prefer.units["train.positions"] += wanted.epochs * (1 - held) * pairs * each
        prefer.units["train.forward"] += (1 + (1 + checks) * held) * pairs * each


def _requests(rehearsal: Rehearsal, done: dict[str, Artefact]) -> list[Request]:
    """Every pair of every input in both orders, with answers that are told apart by numbers."""
    recipe, wanted = rehearsal.recipe, preference.settings_of(rehearsal.recipe)
    task, answers = recipe.task.build(), _answers(done)
    found: list[Request] = []
    for place, example in enumerate(preference.inputs(recipe, _pool(rehearsal, done))):
        texts = [f"{answers[(place + i) % len(answers)]} {i}" for i in range(wanted.samples)]
        for one, other in list(combinations(texts, 2))[: wanted.pairs]:
            found += both_orders(wanted.rubric, shown_task(task, example), one, other)
    return found


def _pool(rehearsal: Rehearsal, done: dict[str, Artefact]) -> list[Example]:
    return aside.part(rehearsal.recipe, split.load(done["data"].path, "pool"))[0]


def _answers(done: dict[str, Artefact]) -> list[str]:
    return [text for label in labelling.load(done["label"].path) for text in label.texts] or ["answer"]


def _pairs(samples: int, most: int) -> int:
    return min(most, samples * (samples - 1) // 2)


def _mean(values: Sequence[int]) -> float:
    return sum(values) / max(len(values), 1)
