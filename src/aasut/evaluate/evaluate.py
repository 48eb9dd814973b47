"""Stage `evaluate`: teacher, student and baselines answer `test`; speeds are measured. `test` is opened here alone.

Writes predictions.json (every model's answer to every test example) and timings.json.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from aasut.data.ask import ask
from aasut.data.panel import Panel
from aasut.errors import TeacherError
from aasut.evaluate.candidates import Answered, Candidate, Models, candidates
from aasut.evaluate.timing import Ask, Speed, fewer, measure
from aasut.progress import Progress
from aasut.recipe import Recipe
from aasut.store import TIMINGS, write_atomically
from aasut.tasks import Task
from aasut.teacher.ledger import Ledger
from aasut.teacher.local import LocalTeacher
from aasut.types import Completion, Conservation, Example, Usage

VERSION = 3
BATCH = 256


def build(
    recipe: Recipe,
    panel: Panel,
    teacher: Ledger,
    models: Models,
    test: Sequence[Example],
    labelled: dict[str, Any],
    folder: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Answers and speeds of every model. `labelled`: facts of the stage `label`.

    Raises TeacherError where more than `max_failed` of the examples cannot be used.
    """
    task = recipe.task.build()
    panel = panel if task.answers else panel.first()
    completions = ask(recipe, panel, test, teacher, progress, "teacher answers test")
    tested = candidates(recipe, models)
    answered, answers, failed = _by_teacher(task, panel, test, completions, tested)
    if not answered or sum(failed.values()) > recipe.teacher.max_failed * len(test):
        reasons = ", ".join(f"{count} × {reason}" for reason, count in failed.items())
        raise TeacherError(
            f"{sum(failed.values())} of {len(test)} examples in `test` cannot be used ({reasons}).",
            "Mend the prompt, or raise teacher.max_failed; the usable answers are kept.",
        )
    found = {"teacher": answers}
    with progress.steps("student answers test", len(answered) * len(tested)) as step:
        for name, candidate in tested.items():
            found[name] = Answered()
            for start in range(0, len(answered), BATCH):
                part = answered[start : start + BATCH]
                found[name].add(candidate.answer(part, features=name == "student"))
                step.advance(len(part))
    found["majority"] = _commonest(task, labelled, len(answered))
    write_atomically(folder / "predictions.json", _predictions(task, answered, found))
    speeds = _speeds(recipe, panel, teacher, tested, answered, progress)
    write_atomically(folder / TIMINGS, json.dumps(speeds, indent=1))
    sizes = {name: candidate.engine.parameters for name, candidate in tested.items()}
    names = {name: candidate.engine.name for name, candidate in tested.items()}
    inner = teacher.teacher
    if isinstance(inner, LocalTeacher):
        sizes["teacher"], names["teacher"] = inner.engine.parameters, inner.engine.name
    rendered = ["\n".join(m.content for m in task.prompt.render(e.slots)) for e in answered]
    task_tokens = float(np.mean([tested["student"].engine.count_tokens(text) for text in rendered]))
    for candidate in tested.values():
        candidate.engine.close()
    return {
        "conservation": {"evaluate": Conservation(len(test), len(answered), failed=dict(failed))},
        "parameters": sizes,
        "engines": names,
        "teacher_tokens": _mean_usage(completions),
        "task_prompt_tokens": task_tokens,
    }


def _by_teacher(
    task: Task,
    panel: Panel,
    test: Sequence[Example],
    completions: Sequence[Sequence[Completion]],
    tested: dict[str, Candidate],
) -> tuple[list[Example], Answered, Counter[str]]:
    """(examples that can be compared, the teacher's answers to them, how many cannot be by reason).

    A text of the teacher's that is no answer to the task is wrong, and no reason to leave an example out.
    """
    failed: Counter[str] = Counter()
    kept: list[Example] = []
    answers = Answered()
    for example, given in zip(test, completions, strict=True):
        broken = next((completion.failure for completion in given if completion.failure), "")
        row, failure = panel.combine(task, given) if task.answers and not broken else (None, broken)
        if not all(candidate.fits(example) for candidate in tested.values()):
            failure = "longer than the student's context"
        if failure:
            failed[failure] += 1
            continue
        kept.append(example)
        if row is None:
            answers.texts.append(next(iter(panel.texts(task, given)[0]), ""))
        else:
            answers.probabilities.append([float(p) for p in row])
    return kept, answers, failed


def _commonest(task: Task, labelled: dict[str, Any], rows: int) -> Answered:
    """The baseline that gives every input the teacher's commonest answer."""
    if not task.answers:
        return Answered(texts=[str(labelled["commonest"])] * rows)
    given = labelled["answers"]
    total = max(sum(given.values()), 1)
    return Answered([[given[answer] / total for answer in task.answers]] * rows)


def _predictions(task: Task, examples: Sequence[Example], found: dict[str, Answered]) -> str:
    if task.answers:
        body: dict[str, Any] = {"probabilities": {name: answered.probabilities for name, answered in found.items()}}
    else:
        sure = {name: answered.quantiles for name, answered in found.items() if answered.quantiles}
        body = {"texts": {name: answered.texts for name, answered in found.items()}, "logprob_quantiles": sure}
    return json.dumps({"ids": [example.id for example in examples]} | body, ensure_ascii=False)


def _mean_usage(completions: Sequence[Sequence[Completion]]) -> dict[str, float]:
    """Tokens that the teacher took for one request, all members together."""
    usages = [completion.usage for answers in completions for completion in answers]
    return {
        "prompt": sum(u.prompt_tokens for u in usages) / len(completions),
        "completion": sum(u.completion_tokens for u in usages) / len(completions),
    }


def _speeds(
    recipe: Recipe,
    panel: Panel,
    teacher: Ledger,
    tested: dict[str, Candidate],
    examples: Sequence[Example],
    progress: Progress,
) -> dict[str, dict[str, dict[str, float]]]:
    """{"cached" | "uncached": {model: Speed}}. A teacher behind an API has a price instead of a speed."""
    task, template = recipe.task.build(), recipe.teacher_template()
    inner = teacher.teacher

    def ask_teacher(numbers: Sequence[int]) -> Usage:
        total = Usage()
        for member in range(len(panel.members)):
            asked = [panel.request(template, task, examples[i].slots, member) for i in numbers]
            for completion in inner.complete(asked):
                total = total + completion.usage
        return total

    def ask_candidate(candidate: Candidate) -> Ask:
        return lambda numbers: candidate.answer([examples[i] for i in numbers]).usage

    timed: dict[str, Ask] = {name: ask_candidate(c) for name, c in tested.items() if name != "untrained"}
    if isinstance(inner, LocalTeacher):
        timed["teacher"] = ask_teacher
    local = [candidate.engine for candidate in tested.values()]
    local += [inner.engine] if isinstance(inner, LocalTeacher) else []
    requests = min(recipe.evaluate.timing_requests, len(examples))
    progress.say(f"measuring speed on {requests} requests, with the prefix cache and without")
    speeds: dict[str, dict[str, Speed]] = {"cached": measure(timed, requests)}
    for engine in local:
        engine.prefix_cache = False
    speeds["uncached"] = measure(timed, fewer(requests), repetitions=1)
    for engine in local:
        engine.prefix_cache = True
    return {kind: {name: asdict(speed) for name, speed in found.items()} for kind, found in speeds.items()}
