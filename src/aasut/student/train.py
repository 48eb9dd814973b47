"""Stages `initialise` and `train`: from the teacher's answers to a student's weights."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aasut.errors import DataError
from aasut.progress import Progress
from aasut.recipe import Recipe, Student
from aasut.tasks import answer_text
from aasut.types import Conservation, Example, Label

if TYPE_CHECKING:
    from aasut.engine.tree import TokenTree
    from aasut.formats.tokenizer import Tokenizer
    from aasut.student.lessons import Lessons
    from aasut.student.objective import Objective, Row
    from aasut.student.rollouts import Rollouts
    from aasut.student.trainer import Report
    from aasut.student.vocabulary import Use

VERSION = 1
START_VERSION = 2  # of the stage `initialise`
TOO_LONG = "longer than the student's context"


def prompts_of(recipe: Recipe, examples: Sequence[Example]) -> list[str]:
    """The student's plain prompts."""
    template = recipe.student_template()
    return ["".join(m.content for m in template.render(example.slots)) for example in examples]


def answer_texts(recipe: Recipe) -> list[str]:
    """The labels as they continue the student's prompt: the same for every input, whatever its slots end with.

    None where answers are free text.
    """
    prompt = recipe.student_template().messages[-1].content
    return [answer_text(prompt, answer) for answer in recipe.task.build().answers]


def validation_rows(groups: Sequence[str], share: float, seed: int) -> list[int]:
    """Rows kept out of training: whole groups, about `share` of the rows, at least one group each side.

    Raises DataError where there is one group only.
    """
    names = sorted(set(groups))
    if len(names) < 2:
        raise DataError(
            "All of the teacher's answers belong to one group, so none can be kept for validation.",
            "Give data.tables[].group a column with several values, or leave it out.",
        )
    random.Random(seed).shuffle(names)
    held: set[str] = set()
    for name in names[:-1]:
        if sum(group in held for group in groups) >= share * len(groups):
            break
        held.add(name)
    return [i for i, group in enumerate(groups) if group in held]


def initialise(
    recipe: Recipe, source: Path, pool: Sequence[Example], folder: Path, progress: Progress,
    labels: Sequence[Label] = (), held: Sequence[Example] = (), *, healed: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Leave the student's start in `folder`: a model folder.

    Where `student.vocabulary` is set, `labels` are the answers that will be learned, and `held` examples to measure on.
    `healed`: what is told of the start in `source`, where that is a healed one.
    """
    from aasut.student import heal, initialize

    if healed is not None:
        facts = heal.taken(source, healed, folder)
    else:
        progress.say(f"student starts as: {recipe.student.initialise}")
        start = initialize.get(recipe.student.initialise)
        facts = start(recipe.student, source, prompts_of(recipe, pool), folder, recipe.seed)
    if recipe.student.vocabulary is not None:
        from aasut.student import vocabulary

        found = vocabulary.trim(folder, recipe.student, use_of(recipe, pool, labels, held))
        progress.say("tokens: {:,} of {:,} stay".format(*reversed(found["tokens"])))
        facts |= {"parameters": found["parameters"][1], "vocabulary": found}
    return facts | initialize.divided(recipe.student, folder, recipe.seed, progress)


def use_of(recipe: Recipe, pool: Sequence[Example], labels: Sequence[Label], held: Sequence[Example]) -> Use:
    """What the student's tokens are for."""
    from aasut.student.vocabulary import Use

    template = recipe.student_template()
    before = template.messages[-1].content
    answers = answer_texts(recipe) or [answer_text(before, text) for label in labels for text in label.texts]
    empty = template.render(dict.fromkeys(template.slots, ""))
    return Use(prompts_of(recipe, pool), answers, "".join(m.content for m in empty), prompts_of(recipe, held))


def linear(recipe: Recipe, pool: Sequence[Example], labels: Sequence[Label], folder: Path) -> dict[str, Any]:
    """Fit the linear student, which sees the slots alone."""
    from aasut.student import linear as model

    by_id = {label.id: label.probabilities for label in labels}
    rows = [example for example in pool if example.id in by_id]
    texts = [linear_prompt(recipe, example) for example in rows]
    held = validation_rows([e.group for e in rows], 0.1, recipe.seed)
    report = model.fit(
        texts, np.array([by_id[e.id] for e in rows], np.float64), held, recipe.task.build().answers, folder
    )
    return {**report, "conservation": {"train linear": Conservation(len(labels), len(rows))}}


def linear_prompt(recipe: Recipe, example: Example) -> str:
    """What a linear student reads: the slots of the task's prompt, in its order, as a server fills them."""
    return "\n".join(example.slots[name] for name in recipe.task.build().prompt.slots)


def train(
    recipe: Recipe, start: Path, pool: Sequence[Example], labels: Sequence[Label], folder: Path, progress: Progress,
    lessons: Lessons | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Train the student that begins in `start`; leave its weights in `folder` as a model folder, in bfloat16.

    `lessons` give a text's targets; without them the texts themselves are learned. Raises DataError where
    nothing fits the student's context.
    """
    from aasut.engine.torch import choose_precision
    from aasut.formats.tokenizer import Tokenizer
    from aasut.student import launch
    from aasut.student.fit import Fit
    from aasut.student.initialize import copy_model

    settings = recipe.student
    by_id = {label.id: label for label in labels}
    examples = [example for example in pool if example.id in by_id]
    tokenizer = Tokenizer.load(start)
    tree, rows, failed = rows_of(recipe, context(start), tokenizer, examples, by_id)
    if lessons is not None:
        rows = [lessons.rows(example, given) for example, given in zip(examples, rows, strict=True)]
    objective = objective_of(tree, settings, lessons)
    kept = [i for i, found in enumerate(rows) if found]
    if not kept:
        reasons = ", ".join(f"{count} × {reason}" for reason, count in failed.items())
        raise DataError(
            f"None of the {len(examples)} inputs can be learned from ({reasons}).",
            "Take a student with a longer context, or shorten the inputs, the prompt or the answers.",
        )
    held = set(validation_rows([examples[i].group for i in kept], settings.validation, recipe.seed))
    validation = [row for place, i in enumerate(kept) if place in held for row in rows[i]]
    if lessons is not None:
        lessons.teaching.foresee([row for i in kept for row in rows[i]])
    learned = [row for place, i in enumerate(kept) if place not in held for row in rows[i]]
    own = _rollouts(recipe, examples, tokenizer, lessons, folder, progress)
    fit = Fit(start, settings, recipe.seed, objective, learned, validation, own)
    report: Report = fit.run(folder, progress) if settings.processes == 1 else launch.run(fit, folder, progress)
    texts = [len(by_id[examples[i].id].texts) for i in kept]  # zero each where answers are labels
    copy_model(start, folder, weights=False)
    wrote, accounts = ({}, {}) if own is None else own.finish(report)
    return {
        **asdict(report),
        **wrote,
        "padding_share": report.padding_share,
        "shared_share": report.shared_share,
        "epochs": settings.epochs,
        "validation_examples": len(held),
        "texts_too_long": sum(max(given - len(rows[i]), 0) for given, i in zip(texts, kept, strict=True)),
        "precision": str(choose_precision(settings.precision)).removeprefix("torch."),
        "conservation": {"train": Conservation(len(labels), len(kept), failed=dict(failed)), **accounts},
    }


def _rollouts(
    recipe: Recipe, examples: Sequence[Example], tokenizer: Tokenizer, lessons: Lessons | None, folder: Path,
    progress: Progress,
) -> Rollouts | None:  # fmt: skip
    """The student's own answers to these examples, where the recipe wants them."""
    from aasut.student.rollouts import Asking, Rollouts

    if recipe.student.on_policy is None or lessons is None:
        return None
    task, prompts = recipe.task.build(), prompts_of(recipe, examples)
    texts = {example.id: prompt for example, prompt in zip(examples, prompts, strict=True)}
    asking = Asking(texts, task.max_tokens, task.schema, bool(task.tools), lessons.stop, lessons.ends)
    return Rollouts(recipe.student.on_policy, asking, tokenizer, recipe.seed, folder, progress, lessons.teaching)


def context(model: Path) -> int:
    """Most tokens that the model of a folder reads."""
    import transformers

    return int(transformers.AutoConfig.from_pretrained(model, local_files_only=True).max_position_embeddings)


def rows_of(
    recipe: Recipe, context: int, tokenizer: Tokenizer, examples: Sequence[Example], by_id: Mapping[str, Label]
) -> tuple[TokenTree | None, list[list[Row]], Counter[str]]:
    """(the labels' tree, None for text; rows of each example, none where it cannot be learned from; these by reason).

    `context` is the most tokens that the student reads.
    """
    from aasut.engine.common import begin
    from aasut.engine.tree import build as build_tree
    from aasut.student.objective import Row

    task = recipe.task.build()
    failed: Counter[str] = Counter()
    rows: list[list[Row]] = []
    prompts = [begin(tokenizer, prompt) for prompt in prompts_of(recipe, examples)]
    if task.answers:
        tree = build_tree([tokenizer.encode(text) for text in answer_texts(recipe)], tokenizer.eos_id)
        for example, ids in zip(examples, prompts, strict=True):
            fits = len(ids) + len(tree.nodes) <= context
            given = by_id[example.id].probabilities
            likeliest = task.answers[int(np.argmax(given))]
            rows.append([Row(ids, given, group=likeliest)] if fits else [])
            failed[TOO_LONG] += not fits
        return tree, rows, +failed
    before = recipe.student_template().messages[-1].content
    end = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
    for example, ids in zip(examples, prompts, strict=True):
        texts = [tokenizer.encode(answer_text(before, text)) for text in by_id[example.id].texts]
        fits = len(ids) + task.max_tokens <= context
        rows.append([
            Row([*ids, *text, *end], answer=len(text + end), key=f"{example.id}#{number}", own=len(end))
            for number, text in enumerate(texts) if fits and len(text) <= task.max_tokens
        ])  # fmt: skip
        if not rows[-1]:
            failed["answer longer than task.max_tokens" if fits else TOO_LONG] += 1
    return None, rows, failed


def objective_of(tree: TokenTree | None, settings: Student | None = None, lessons: Lessons | None = None) -> Objective:
    """What a student learns: a decision between labels, or text, as right answers or by a teacher's lessons."""
    from aasut.student import losses
    from aasut.student.objective import Labels, Text
    from aasut.student.teaching import Right

    if tree is not None:
        return Labels(tree, losses.get("cross_entropy"))
    if settings is None or lessons is None:
        return Text(losses.get("cross_entropy"), Right())
    return Text(losses.get(settings.loss, beta=settings.beta, alpha=settings.alpha), lessons.teaching)
