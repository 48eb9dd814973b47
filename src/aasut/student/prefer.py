"""Stage `prefer`: a trained student learns which of its own answers the teacher prefers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aasut.data.preference import Pair, settings_of
from aasut.errors import DataError
from aasut.progress import Progress
from aasut.recipe import Recipe, Student
from aasut.tasks import answer_text
from aasut.types import Conservation, Example

if TYPE_CHECKING:
    from aasut.formats.tokenizer import Tokenizer
    from aasut.student.objective import Row

VERSION = 1
TOO_LONG = "an answer longer than task.max_tokens"


def build(
    recipe: Recipe, start: Path, pool: Sequence[Example], pairs: Sequence[Pair], folder: Path, progress: Progress
) -> dict[str, Any]:
    """Train the student of the folder `start` on pairs of its answers; leave a model folder in `folder`.

    Where no checkpoint has a lower loss on the validation share than the start itself, the student stays as it was.
    Goes on in `folder` where a kill left it. Raises DataError where no pair can be learned from.
    """
    from aasut.engine.torch import choose_precision
    from aasut.formats.tokenizer import Tokenizer
    from aasut.student import launch
    from aasut.student.fit import Fit
    from aasut.student.initialize import copy_model
    from aasut.student.preference import Preferences
    from aasut.student.train import validation_rows

    wanted, settings = settings_of(recipe), settings_for(recipe)
    rows, failed = rows_of(recipe, Tokenizer.load(start), pool, pairs)
    kept = [i for i, row in enumerate(rows) if row is not None]
    if not kept:
        raise DataError(
            f"None of the {len(pairs)} pairs of answers can be learned from: {TOO_LONG}.", "Raise task.max_tokens."
        )
    held = set(validation_rows([pairs[i].group for i in kept], settings.validation, recipe.seed))
    learned = [row for place, i in enumerate(kept) if place not in held and (row := rows[i])]
    validation = [row for place, i in enumerate(kept) if place in held and (row := rows[i])]
    of_learned, was = _measured(start, settings, (learned, validation), progress)
    before = [*of_learned.tolist(), *was.tolist()]
    reference = {row.key: (one[0], one[1]) for row, one in zip([*learned, *validation], before, strict=True)}
    objective = Preferences(wanted.beta, reference)
    fit = Fit(start, settings, recipe.seed, objective, learned, validation)
    report = fit.run(folder, progress) if settings.processes == 1 else launch.run(fit, folder, progress)
    copy_model(start, folder, weights=False)
    (now,) = _measured(folder, settings, (validation,), progress)
    found = {"before": measures(wanted.beta, was, was), "after": measures(wanted.beta, was, now)}
    stayed = found["after"]["loss"] >= found["before"]["loss"]
    if stayed:
        copy_model(start, folder)
        progress.say("No checkpoint prefers more of what the teacher prefers: the student stays as it was.")
    return {
        **asdict(report),
        "padding_share": report.padding_share,
        "shared_share": report.shared_share,
        "epochs": settings.epochs,
        "pairs": len(kept),
        "validation_pairs": len(validation),
        "validation": found,
        "stayed": stayed,
        "precision": str(choose_precision(settings.precision)).removeprefix("torch."),
        "conservation": {"prefer, pairs": Conservation(len(pairs), len(kept), failed=dict(failed))},
    }


def settings_for(recipe: Recipe) -> Student:
    """The student's settings, with the learning rate and the passes of its preferences."""
    wanted = settings_of(recipe)
    return recipe.student.model_copy(update={"learning_rate": wanted.learning_rate, "epochs": wanted.epochs})


def rows_of(
    recipe: Recipe, tokenizer: Tokenizer, pool: Sequence[Example], pairs: Sequence[Pair]
) -> tuple[list[Row | None], Counter[str]]:
    """(the row of each pair, None where it cannot be learned from; these by reason). Answers end with the end token."""
    from aasut.engine.common import begin
    from aasut.student.preference import pair_row
    from aasut.student.train import prompts_of

    by_id = {example.id: example for example in pool}
    prompts = prompts_of(recipe, [by_id[pair.id] for pair in pairs])
    before, most = recipe.student_template().messages[-1].content, recipe.task.build().max_tokens
    end = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
    failed: Counter[str] = Counter()
    rows: list[Row | None] = []
    for number, (pair, prompt) in enumerate(zip(pairs, prompts, strict=True)):
        chosen, rejected = (tokenizer.encode(answer_text(before, text)) for text in (pair.chosen, pair.rejected))
        fits = len(chosen) <= most and len(rejected) <= most
        failed[TOO_LONG] += not fits
        row = pair_row(f"{pair.id}#{number}", begin(tokenizer, prompt), [*chosen, *end], [*rejected, *end])
        rows.append(row if fits else None)
    return rows, +failed


def measures(beta: float, before: NDArray[np.float64], now: NDArray[np.float64]) -> dict[str, float]:
    """What the log-probabilities [pairs, 2] of preferred and other answers come to.

    loss: of DPO · margin: mean reward of the preferred answer less the other's · accuracy: share of pairs in which it
    is higher, a half where both are the same · likelier: share in which the preferred answer is the likelier one ·
    chosen, rejected: mean log-ratios to the student as it was, which say how far it moved.
    """
    ratios = now - before
    margins = beta * (ratios[:, 0] - ratios[:, 1])
    return {
        "loss": float(np.logaddexp(0, -margins).mean()),
        "margin": float(margins.mean()),
        "accuracy": float(((margins > 0) + 0.5 * (margins == 0)).mean()),
        "likelier": float((now[:, 0] > now[:, 1]).mean()),
        "chosen": float(ratios[:, 0].mean()),
        "rejected": float(ratios[:, 1].mean()),
    }


def _measured(
    model: Path, settings: Student, parts: Sequence[Sequence[Row]], progress: Progress
) -> list[NDArray[np.float64]]:
    """Log-probabilities of both answers of each row, by the model of a folder, of each of the parts.

    A part is read by itself: rows that are read beside others have other rounding, which would count as a change.
    """
    import torch

    from aasut.engine.torch import choose_precision, load_model
    from aasut.student.preference import log_probabilities

    progress.say(f"reading {sum(map(len, parts))} pairs of answers")
    loaded = load_model(model, choose_precision(settings.precision))
    loaded = loaded.to("cuda") if torch.cuda.is_available() else loaded
    return [log_probabilities(loaded, rows, settings.micro_tokens) for rows in parts]
