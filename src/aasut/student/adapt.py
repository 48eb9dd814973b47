"""Stage `adapt`: continued pre-training of a student on a field's documents and on what was generated of them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aasut.errors import RecipeError
from aasut.formats.same_tokens import difference
from aasut.formats.tokenizer import Tokenizer
from aasut.progress import Progress
from aasut.recipe import FieldRecipe, Student
from aasut.recipe.field import Adapt

if TYPE_CHECKING:
    from aasut.student.corpus import Corpus, Passage
    from aasut.student.teaching import Live

VERSION = 1
CALIBRATION_CHARACTERS = 2000  # of a document, where layers are dropped by what they do to it


def build(
    recipe: FieldRecipe,
    documents: Sequence[Passage],
    generated: Sequence[Passage],
    general: Sequence[Passage],
    source: Path,
    teacher: Path | None,
    folder: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Train the model of `source` on these texts; leave a model folder in `folder`, in bfloat16.

    `general` is what may be replayed. `teacher` is the folder of the recipe's teacher where that is a local model:
    general text is learned from its distribution where its tokens are the student's, else from that of `source`.
    Raises RecipeError where the student cannot be built or read so many tokens, or general text is too little;
    DataError where documents are. Goes on in `folder` where a kill left it.
    """
    from aasut.engine.common import opening
    from aasut.student import corpus
    from aasut.student.fit import Fit
    from aasut.student.initialize import copy_model
    from aasut.student.replay import Replay

    settings, adapt = _settings(recipe)
    tokenizer = Tokenizer.load(source)
    _check_context(adapt, source)
    anchor, whose, why = (None, "", "") if not adapt.distil else choose_anchor(tokenizer, source, teacher)
    texts = corpus.build(
        documents, generated if adapt.generated else [], general, tokenizer, adapt, settings.validation, recipe.seed,
        None if anchor is None else opening(Tokenizer.load(anchor)),
    )  # fmt: skip
    start, begun = _start(settings, recipe.seed, source, documents, folder, progress)
    live = None if anchor is None else _live(anchor, settings, texts)
    fit = Fit(start, settings, recipe.seed, Replay(adapt.distil, live), texts.rows, texts.validation)
    report = fit.run(folder, progress)
    copy_model(start, folder, weights=False)
    shutil.rmtree(start)
    learned = {name: account.kept for name, account in texts.tokens.items()}
    return {
        **asdict(report),
        "start": begun,
        "anchor": {"model": whose, "reason": why},
        "tokens_learned": learned,
        "replay_share": learned["general"] / sum(learned.values()),
        "rows": len(texts.rows),
        "validation_rows": len(texts.validation),
        "conservation": {f"adapt {name} (tokens)": account for name, account in texts.tokens.items()},
    }


def choose_anchor(tokenizer: Tokenizer, source: Path, teacher: Path | None) -> tuple[Path, str, str]:
    """(folder of the model whose distribution general text is learned from, `teacher` or `start`, and why)."""
    if teacher is None:
        return source, "start", "the teacher is no local model"
    if reason := difference(Tokenizer.load(teacher), tokenizer):
        return source, "start", f"the teacher has other tokens: {reason}"
    return teacher, "teacher", "the teacher has the student's tokens"


def _settings(recipe: FieldRecipe) -> tuple[Student, Adapt]:
    if recipe.student is None or recipe.adapt is None:
        raise RecipeError(f"{recipe.name} has no student to adapt.", "Give the sections student and adapt.")
    return recipe.student, recipe.adapt


def _check_context(adapt: Adapt, source: Path) -> None:
    from aasut.student.train import context

    most = context(source)
    if adapt.context > most:
        raise RecipeError(
            f"adapt.context is {adapt.context}, and the student reads {most} tokens at most.", "Lower adapt.context."
        )


def _start(
    settings: Student, seed: int, source: Path, documents: Sequence[Passage], folder: Path, progress: Progress
) -> tuple[Path, dict[str, Any]]:
    """(folder of the model where training starts, what was done to make it)."""
    from aasut.student import initialize

    progress.say(f"student starts as: {settings.initialise}")
    start = folder / "start"
    shutil.rmtree(start, ignore_errors=True)
    texts = [passage.text[:CALIBRATION_CHARACTERS] for passage in documents]
    facts = initialize.get(settings.initialise)(settings, source, texts, start, seed)
    return start, facts | initialize.divided(settings, start, seed, progress)


def _live(anchor: Path, settings: Student, texts: Corpus) -> Live:
    import torch

    from aasut.engine.torch import choose_precision, load_model
    from aasut.student.teaching import Live

    model = load_model(anchor, choose_precision(settings.precision))
    live = Live(model.to("cuda") if torch.cuda.is_available() else model, settings.micro_tokens)
    live.foresee([row for row in (*texts.rows, *texts.validation) if row.asked])
    return live
