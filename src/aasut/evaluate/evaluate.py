"""Stage `evaluate`: teacher, student and baselines answer `test`; speeds are measured. `test` is opened here alone.

Writes predictions.json (probabilities of every model for every test example) and timings.json.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aasut.data.ask import ask
from aasut.data.panel import Panel
from aasut.engine.base import Engine, load
from aasut.errors import TeacherError
from aasut.evaluate.timing import Ask, Speed, measure
from aasut.progress import Progress
from aasut.recipe import Recipe
from aasut.store import TIMINGS, write_atomically
from aasut.student.train import answer_texts, linear_prompt, prompts_of
from aasut.teacher.ledger import Ledger
from aasut.teacher.local import LocalTeacher
from aasut.types import Completion, Conservation, Example, Usage

VERSION = 1
BATCH = 256
ANSWER_TOKENS = 16  # of one label, at most


@dataclass(frozen=True)
class Models:
    """Folders and files of what is compared with the teacher; None where there is no such model."""

    student: Path
    linear: Path
    untrained: Path | None
    student_q8_0: Path | None


def build(
    recipe: Recipe,
    panel: Panel,
    teacher: Ledger,
    models: Models,
    test: Sequence[Example],
    shares: Sequence[float],
    folder: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Probabilities and speeds of every model. `shares` are the labels' shares in the teacher's answers.

    Raises TeacherError where more than `max_failed` of the examples cannot be used.
    """
    task = recipe.task.build()
    completions = ask(recipe, panel, test, teacher, progress, "teacher answers test")
    engines = _engines(recipe, models)
    failed: dict[str, int] = {}
    answered: list[Example] = []
    probabilities: dict[str, list[list[float]]] = {"teacher": []}
    for example, answers in zip(test, completions, strict=True):
        row, failure = panel.combine(task, answers)
        if _too_long(recipe, engines, example):
            row, failure = None, "longer than the student's context"
        if row is None:
            failed[failure] = failed.get(failure, 0) + 1
        else:
            answered.append(example)
            probabilities["teacher"].append([float(p) for p in row])
    if not answered or sum(failed.values()) > recipe.teacher.max_failed * len(test):
        reasons = ", ".join(f"{count} × {reason}" for reason, count in failed.items())
        raise TeacherError(
            f"{sum(failed.values())} of {len(test)} examples in `test` cannot be used ({reasons}).",
            "Mend the prompt, or raise teacher.max_failed; the usable answers are kept.",
        )
    with progress.steps("student answers test", len(answered) * len(engines)) as step:
        for name, engine in engines.items():
            probabilities[name] = []
            for start in range(0, len(answered), BATCH):
                part = answered[start : start + BATCH]
                probabilities[name] += np.exp(_score(recipe, name, engine, part)[0]).tolist()
                step.advance(len(part))
    probabilities["majority"] = [[float(share) for share in shares]] * len(answered)
    write_atomically(
        folder / "predictions.json",
        json.dumps({"ids": [e.id for e in answered], "probabilities": probabilities}, ensure_ascii=False),
    )
    speeds = _speeds(recipe, panel, teacher, engines, answered, progress)
    write_atomically(folder / TIMINGS, json.dumps(speeds, indent=1))
    sizes = {name: engine.parameters for name, engine in engines.items()}
    names = {name: engine.name for name, engine in engines.items()}
    inner = teacher.teacher
    if isinstance(inner, LocalTeacher):
        sizes["teacher"], names["teacher"] = inner.engine.parameters, inner.engine.name
    rendered = ["\n".join(m.content for m in task.prompt.render(e.slots)) for e in answered]
    task_tokens = float(np.mean([engines["student"].count_tokens(text) for text in rendered]))
    for engine in engines.values():
        engine.close()
    return {
        "conservation": {"evaluate": Conservation(len(test), len(answered), failed=failed)},
        "parameters": sizes,
        "engines": names,
        "teacher_tokens": _mean_usage(completions),
        "task_prompt_tokens": task_tokens,
    }


def _too_long(recipe: Recipe, engines: dict[str, Engine], example: Example) -> bool:
    """Is an example beyond what a model can read, the answer included?"""
    prompt = prompts_of(recipe, [example])[0]
    room = ANSWER_TOKENS * len(recipe.task.labels)
    most = min(engine.context for engine in engines.values()) - room
    if len(prompt.encode("utf-8", "replace")) < most:
        return False  # a token is a byte at least
    return any(engine.count_tokens(prompt) > engine.context - room for engine in engines.values())


def _mean_usage(completions: Sequence[Sequence[Completion]]) -> dict[str, float]:
    """Tokens that the teacher took for one request, all members together."""
    usages = [completion.usage for answers in completions for completion in answers]
    return {
        "prompt": sum(u.prompt_tokens for u in usages) / len(completions),
        "completion": sum(u.completion_tokens for u in usages) / len(completions),
    }


def _engines(recipe: Recipe, models: Models) -> dict[str, Engine]:
    wanted, precision = recipe.export.engine, recipe.export.precision
    linear = recipe.student.initialise == "linear"
    engines = {"student": load("linear" if linear else wanted, models.student, precision=precision)}
    if not linear:
        engines["linear"] = load("linear", models.linear)
    if models.untrained is not None:
        engines["untrained"] = load("torch", models.untrained, precision=precision)
    if models.student_q8_0 is not None:
        engines["student_q8_0"] = load(wanted, models.student_q8_0, precision=precision)
    return engines


def _score(recipe: Recipe, name: str, engine: Engine, examples: Sequence[Example]) -> tuple[Any, Usage]:
    linear = name == "linear" or recipe.student.initialise == "linear"
    prompts = [linear_prompt(recipe, e) for e in examples] if linear else prompts_of(recipe, examples)
    scores = engine.score(prompts, answer_texts(recipe))
    return scores.logprobs, scores.usage


def _speeds(
    recipe: Recipe,
    panel: Panel,
    teacher: Ledger,
    engines: dict[str, Engine],
    examples: Sequence[Example],
    progress: Progress,
) -> dict[str, dict[str, dict[str, float]]]:
    """{"cached" | "uncached": {model: Speed}}. A teacher behind an API has a price instead of a speed."""
    task, template = recipe.task.build(), recipe.teacher_template()
    inner = teacher.teacher

    def ask_teacher(numbers: Sequence[int]) -> Usage:
        total = Usage()
        asked = [panel.requests(template, task, examples[i].slots) for i in numbers]
        for member in range(len(panel.members)):
            for completion in inner.complete([requests[member] for requests in asked]):
                total = total + completion.usage
        return total

    def ask_engine(name: str) -> Ask:
        return lambda numbers: _score(recipe, name, engines[name], [examples[i] for i in numbers])[1]

    timed: dict[str, Ask] = {name: ask_engine(name) for name in engines if name != "untrained"}
    if isinstance(inner, LocalTeacher):
        timed["teacher"] = ask_teacher
    local = [*engines.values(), *([inner.engine] if isinstance(inner, LocalTeacher) else [])]
    requests = min(recipe.evaluate.timing_requests, len(examples))
    progress.say(f"measuring speed on {requests} requests, with the prefix cache and without")
    speeds: dict[str, dict[str, Speed]] = {"cached": measure(timed, requests)}
    for engine in local:
        engine.prefix_cache = False
    speeds["uncached"] = measure(timed, max(requests // 4, 1), repetitions=1)
    for engine in local:
        engine.prefix_cache = True
    return {kind: {name: asdict(speed) for name, speed in found.items()} for kind, found in speeds.items()}
