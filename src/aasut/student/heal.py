"""Stage `heal`: a start that was cut out of a model learns general text from that model's own distribution.

What is learned at each place of a text is KL(p ‖ q), p the whole model and q the start, over the full vocabulary. The
task is not looked at, so that one healing serves every recipe of the same model, shape and texts.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aasut.errors import RecipeError
from aasut.formats.tokenizer import Tokenizer
from aasut.progress import Progress
from aasut.recipe import Student

if TYPE_CHECKING:
    from aasut.student.corpus import Passage
    from aasut.student.general import General
    from aasut.student.objective import Objective, Row
    from aasut.student.teaching import Live

VERSION = 1
STEP_TOKENS = 4096  # of a step, about
CHECKS, WARMUP = 6, 0.05


def training(wanted: Student) -> Student:
    """How the student's start is healed. All layers are trained.

    The embeddings are where they are random or their channels were cut, and else where the student's are.
    """
    assert wanted.heal is not None
    cut = wanted.shape is not None and wanted.shape.channels is not None
    return Student(
        initialise=wanted.initialise, model=wanted.model, shape=wanted.shape, heal=wanted.heal, epochs=1,
        learning_rate=wanted.heal.learning_rate, warmup=WARMUP, checks=CHECKS,
        frozen_embeddings=wanted.frozen_embeddings and not cut, micro_tokens=wanted.micro_tokens,
        activation_checkpointing=wanted.activation_checkpointing, most_spikes=wanted.most_spikes,
        precision=wanted.precision, checkpoint_s=wanted.checkpoint_s,
    )  # fmt: skip


def identity(wanted: Student) -> list[Any]:
    """What of the student a healed start's weights hang on, beside model and texts, which are known by their content.

    Nothing of the task and of its training, so that recipes share it.
    """
    from aasut.student.train import START_VERSION

    used = training(wanted)
    how = [
        START_VERSION,
        used.initialise,
        used.shape,
        used.frozen_embeddings,
        used.micro_tokens,
        used.activation_checkpointing,
    ]
    return [*how, used.precision, used.heal and used.heal.model_dump(exclude={"texts"})]


def build(
    wanted: Student, seed: int, texts: Sequence[Passage], source: Path, folder: Path, progress: Progress
) -> dict[str, Any]:
    """Make the start out of the model of `source` and heal it; leave a model folder in `folder`, in bfloat16.

    Raises RecipeError where the start cannot be made or read so many tokens, DataError where there is too little
    text. Where healing brings the start no nearer to the model, as a learning rate too high does, it stays as it was.
    Goes on in `folder` where a kill left it.
    """
    from aasut.student import general, initialize
    from aasut.student.fit import Fit

    assert wanted.heal is not None
    _check_context(wanted.heal.context, source)
    given = general.build(texts, wanted.heal, Tokenizer.load(source), seed)
    progress.say(f"student starts as: {wanted.initialise}, healed on {given.tokens.kept:,} tokens")
    start, settings = folder / "start", _steps(training(wanted), given.rows)
    shutil.rmtree(start, ignore_errors=True)
    begun = initialize.get(wanted.initialise)(settings, source, given.calibration, start, seed)
    teacher = _teacher(source, settings, given.held)
    losses = {"source": _right(teacher.model, settings, given), "start": _losses(start, settings, given, teacher)}
    fit = Fit(start, settings, seed, _objective("forward_kl", teacher), given.rows, given.held)
    report = fit.run(folder, progress)
    initialize.copy_model(start, folder, weights=False)
    losses["healed"] = _losses(folder, settings, given, teacher)
    worse = losses["healed"]["divergence"] >= losses["start"]["divergence"]
    if worse:
        progress.say("healing brought the start no nearer to the whole model: it stays as it was")
        initialize.copy_model(start, folder)
        losses["healed"] = losses["start"]
    shutil.rmtree(start)
    return {
        **asdict(report),
        "start": begun,
        "kept": "start" if worse else "healed",
        "context": wanted.heal.context,
        "batch_rows": settings.batch_examples,
        "embeddings_trained": not settings.frozen_embeddings,
        "tokens_learned": report.targets,
        "validation_tokens": sum(row.answer for row in given.held),
        "loss": losses,
        "conservation": {"heal (tokens)": given.tokens},
    }


def taken(healed: Path, facts: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The student's start, where it was healed: a copy of the model folder `healed`, and what is told of it."""
    from aasut.student import initialize

    initialize.copy_model(healed, folder)
    return {**facts["start"], "healed": {"tokens": facts["tokens_learned"], "loss": facts["loss"]}}


def _check_context(wanted: int, source: Path) -> None:
    from aasut.student.train import context

    if wanted > context(source):
        raise RecipeError(
            f"student.heal.context is {wanted}, and the model reads {context(source)} tokens at most.",
            "Lower student.heal.context.",
        )


def _steps(settings: Student, rows: Sequence[Row]) -> Student:
    """With as many rows a step as make STEP_TOKENS of them: general text may stand in pages or in single sentences."""
    mean = sum(row.answer for row in rows) / len(rows)
    return settings.model_copy(update={"batch_examples": max(1, round(STEP_TOKENS / mean))})


def _teacher(source: Path, settings: Student, held: Sequence[Row]) -> Live:
    from aasut.student.teaching import Live

    teacher = Live(_model(source, settings), settings.micro_tokens)
    teacher.foresee(held)
    return teacher


def _model(folder: Path, settings: Student) -> Any:
    import torch

    from aasut.engine.torch import choose_precision, load_model

    model = load_model(folder, choose_precision(settings.precision))
    return model.to("cuda") if torch.cuda.is_available() else model


def _objective(loss: str, teacher: Live | None = None) -> Objective:
    """The next token at each place: as the teacher says, or the right one."""
    from aasut.student import losses
    from aasut.student.objective import Text
    from aasut.student.teaching import Right

    return Text(losses.get(loss), teacher or Right())


def _losses(folder: Path, settings: Student, given: General, teacher: Live) -> dict[str, float]:
    """Of the model of a folder: see `_right`; and `divergence` from the teacher, in nats a token."""
    model = _model(folder, settings)
    return _right(model, settings, given) | {
        "divergence": _mean(_objective("forward_kl", teacher), model, settings, given)
    }


def _right(model: Any, settings: Student, given: General) -> dict[str, float]:
    """What the text that is looked at costs under a model: `nats_per_token` and `bits_per_byte`."""
    nats = _mean(_objective("cross_entropy"), model, settings, given)
    tokens = sum(row.answer for row in given.held)
    return {"nats_per_token": nats, "bits_per_byte": nats * tokens / math.log(2) / given.bytes}


def _mean(objective: Objective, model: Any, settings: Student, given: General) -> float:
    """Loss a token of the text that is looked at."""
    import torch

    with torch.no_grad():
        batches = objective.batches(given.held, settings.micro_tokens)
        total = sum(float(objective.loss(model, given.held, batch)) for batch in batches)
    return total / objective.targets(given.held)
