"""Stage `judge`: models with a rubric judge the student's answers; judged.py holds what they say against humans.

A judge is asked which of two answers is better, the student's or the teacher's, in both orders (see
comparison.py). And it is asked whether the student's answer is right, on `test`, where humans know, and on
inputs kept out of the pool (data/aside.py), where nobody does. It sees the task, the input and the answers
without their formatting, and never a human answer.

Writes judgements.json: every verdict, by judge.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from aasut.comparison import both_orders, shown_task, sides, verdict
from aasut.data.ask import Tally, completions, in_batches
from aasut.errors import TeacherError
from aasut.evaluate.candidates import Models, candidates
from aasut.evaluate.verdict import Answers
from aasut.plain_form import plain
from aasut.progress import Progress
from aasut.recipe import Judge, Recipe
from aasut.store import write_atomically
from aasut.student.train import TOO_LONG
from aasut.tasks import Task
from aasut.teacher.ledger import Ledger
from aasut.types import Completion, Conservation, Example, Message, Request

VERSION = 1
BATCH = 256
RIGHT = ("right", "wrong")

CORRECTNESS = """{rubric}

The task, with its input:
{task}

The answer:
{answer}

Is the answer right by the rubric? Say right or wrong, and nothing else."""


@dataclass
class Judgements:
    """One judge's verdicts.

    `preferred`: of each test example, 1 the student's answer, -1 the teacher's, 0 neither, None unusable.
    `same`: examples where the two answers are the same, which are ties unasked; `inconsistent`: those where
    the orders disagree. `right`, `right_aside`: probability that the student's answer is right, of each test
    example and of each input kept aside; None unusable, or not asked. `failed`: unusable verdicts, by reason.
    """

    preferred: list[int | None] = field(default_factory=list)
    same: int = 0
    inconsistent: int = 0
    right: list[float | None] = field(default_factory=list)
    right_aside: list[float | None] = field(default_factory=list)
    failed: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Aside:
    """Inputs kept aside, and the student's answer to each."""

    examples: list[Example]
    predicted: list[str]


def answer_aside(recipe: Recipe, student: Path, wanted: Sequence[Example], progress: Progress) -> Aside:
    """The exported student's answers to the inputs that fit its context."""
    if not wanted:
        return Aside([], [])
    models = Models(student=student, linear=None, untrained=None, student_q8_0=None)
    candidate = candidates(recipe, models)["student"]
    kept = [example for example in wanted if candidate.fits(example)]
    predicted: list[str] = []
    with progress.steps("student answers unlabelled inputs", len(kept)) as step:
        for start in range(0, len(kept), BATCH):
            part = kept[start : start + BATCH]
            given = candidate.answer(part)
            answers = recipe.task.build().answers
            predicted += given.texts or [answers[int(np.argmax(row))] for row in given.probabilities]
            step.advance(len(part))
    candidate.engine.close()
    return Aside(kept, predicted)


def build(
    recipe: Recipe,
    open_judge: Callable[[int], Ledger],
    answers: Answers,
    wanted: Sequence[Example],
    aside: Aside,
    folder: Path,
    progress: Progress,
) -> dict[str, Any]:
    """All judges' verdicts, and what they come to under `judged`.

    answers: to `test`; wanted: all inputs kept aside, of which `aside` has those that the student can read.
    Raises TeacherError where more than a judge's max_failed of its verdicts are unusable.
    """
    from aasut.evaluate import judged

    found: list[Judgements] = []
    conservation: dict[str, Conservation] = {}
    calls = {"calls_made": 0, "calls_reused": 0, "usd_spent": 0.0, "usd_reused": 0.0}
    for number, judge in enumerate(recipe.judges):
        own = {example.id for example in wanted[: judge.unlabelled]}
        ledger = open_judge(number)
        try:
            one = ask(recipe.task.build(), judge, number, ledger, answers, aside, own, progress)
            calls = {name: total + getattr(ledger, name) for name, total in calls.items()}
        finally:
            ledger.close()
        found.append(one)
        too_long = len(own) - sum(example.id in own for example in aside.examples)
        conservation |= _conserved(number, one, answers, own, too_long)
    write_atomically(folder / "judgements.json", _written(found, answers, aside))
    return {"judged": judged.facts(recipe, answers, aside, found), "conservation": conservation, "calls": calls}


def ask(
    task: Task,
    judge: Judge,
    number: int,
    ledger: Ledger,
    answers: Answers,
    aside: Aside,
    own: set[str],
    progress: Progress,
) -> Judgements:
    """One judge's verdicts; of the inputs kept aside it judges those whose ids are in `own`."""
    student = [plain(text, task.answers) for text in answers.predicted["student"]]
    teacher = [plain(text, task.answers) for text in answers.predicted["teacher"]]
    tasks = [shown_task(task, example) for example in answers.examples]
    differ = [i for i, (one, other) in enumerate(zip(student, teacher, strict=True)) if one != other]
    later = [i for i, example in enumerate(aside.examples) if example.id in own]
    requests = [r for i in differ for r in both_orders(judge.rubric, tasks[i], student[i], teacher[i])]
    requests += [is_right(judge, text, answer) for text, answer in zip(tasks, student, strict=True)]
    requests += [
        is_right(judge, shown_task(task, aside.examples[i]), plain(aside.predicted[i], task.answers)) for i in later
    ]
    said = _complete(requests, ledger, judge, number, progress)
    pairs, single = said[: 2 * len(differ)], said[2 * len(differ) :]
    found = Judgements(preferred=[0] * len(student), same=len(student) - len(differ))
    failed: dict[str, Counter[str]] = {"preference": Counter(), "correctness": Counter()}
    for place, i in enumerate(differ):
        said_of = sides(*pairs[2 * place : 2 * place + 2])
        if isinstance(said_of, str):
            found.preferred[i] = None
            failed["preference"][said_of] += 1
            continue
        found.inconsistent += said_of[0] != said_of[1]
        found.preferred[i] = said_of[0] if said_of[0] == said_of[1] else 0
    found.right = [None] * len(student)
    found.right_aside = [None] * len(aside.examples)
    for target, i, one in zip(
        ["right"] * len(student) + ["right_aside"] * len(later), [*range(len(student)), *later], single, strict=True
    ):
        read = verdict(one, RIGHT)
        if isinstance(read, str):
            failed["correctness"][read] += 1
        else:
            getattr(found, target)[i] = read[0]
    found.failed = {what: dict(counts) for what, counts in failed.items()}
    total, bad = len(student) + len(single), sum(sum(counts.values()) for counts in found.failed.values())
    if bad > judge.max_failed * total:
        reasons = ", ".join(f"{count} × {why}" for counts in failed.values() for why, count in counts.items())
        raise TeacherError(
            f"{bad} of {total} verdicts of judge {number + 1} ({judge.source}) are unusable ({reasons}).",
            f"Mend its rubric, or raise judges[{number}].max_failed; the usable verdicts are kept.",
        )
    return found


def is_right(judge: Judge, task: str, answer: str) -> Request:
    """Whether the student's answer is right."""
    text = CORRECTNESS.format(rubric=judge.rubric, task=task, answer=answer)
    return Request((Message("user", text),), choices=RIGHT, max_tokens=16)


def _complete(
    requests: Sequence[Request], ledger: Ledger, judge: Judge, number: int, progress: Progress
) -> list[Completion]:
    batches = in_batches([(0, i) for i in range(len(requests))])
    with progress.steps(f"judge {number + 1} of the recipe", len(requests)) as step:
        tally = Tally(step, judge.max_failed * len(requests), f"judges[{number}].max_failed")
        said = [one for _, one in completions(ledger, batches, lambda _, i: requests[i], tally.count)]
    for note, times in ledger.notes():
        progress.say(f"{times:,} {note}")
    return said


def _conserved(number: int, one: Judgements, answers: Answers, own: set[str], too_long: int) -> dict[str, Conservation]:
    """Rows of the two questions: of preference, the test examples; of correctness, the unlabelled inputs too."""
    failed = {"preference": one.failed["preference"], "correctness": dict(one.failed["correctness"])}
    if too_long:
        failed["correctness"][TOO_LONG] = too_long
    rows = {"preference": len(answers.examples), "correctness": len(answers.examples) + len(own)}
    return {
        f"judge {number + 1}, {what}": Conservation(rows[what], rows[what] - sum(lost.values()), failed=lost)
        for what, lost in failed.items()
    }


def _written(found: Sequence[Judgements], answers: Answers, aside: Aside) -> str:
    ids = {"ids": [e.id for e in answers.examples], "ids_aside": [e.id for e in aside.examples]}
    return json.dumps(
        ids | {"student_aside": aside.predicted, "judges": [asdict(one) for one in found]}, ensure_ascii=False
    )
