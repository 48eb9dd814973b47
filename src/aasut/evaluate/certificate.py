"""Stage `certify`: which of the student's answers may go out unseen. `calibrate` is opened here alone.

How a score is made, the thresholds and where the walk over them starts are fixed from `tune` and from the
scores of `test`'s inputs before `calibrate` is opened. Writes certificate.json.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from aasut.data.ask import ask
from aasut.data.panel import Panel
from aasut.errors import DataError
from aasut.evaluate import audits, certify, confidence, metrics
from aasut.evaluate.candidates import Answered, Candidate
from aasut.evaluate.certified import sentence, test_features
from aasut.evaluate.certify import Bools, Floats, Target, Walk
from aasut.evaluate.verdict import Answers
from aasut.progress import Progress
from aasut.recipe import Recipe
from aasut.store import write_atomically
from aasut.teacher.ledger import Ledger
from aasut.types import Conservation, Example

VERSION = 2
FILE = "certificate.json"
BATCH = 256

Against = Literal["human", "teacher"]


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be certified, and against whose answers."""

    target: Target
    against: Against

    @property
    def asks_teacher(self) -> bool:
        """Are the teacher's answers to `tune` and `calibrate` wanted?"""
        return self.against == "teacher" or self.target.kind == "system"


@dataclass(frozen=True)
class Subject:
    """What a certificate is of: the exported student on its engine, and the splits.

    `predicted` is predictions.json of the stage `evaluate`; `hashes` names the splits, the file and the
    template; `open_calibrate` records that `calibrate` is looked at, and says how often it has been.
    """

    student: Candidate
    tune: Sequence[Example]
    test: Sequence[Example]
    predicted: Mapping[str, Any]
    hashes: Mapping[str, str]
    open_calibrate: Callable[[], tuple[list[Example], int]]


@dataclass(frozen=True)
class Scored:
    """Rows that the student answered: scores and whether each is bad in the target's sense and simply wrong, [n]."""

    examples: list[Example]
    scores: Floats
    bad: Bools
    wrong: Bools

    def only(self, places: Sequence[int]) -> Scored:
        return Scored([self.examples[i] for i in places], self.scores[places], self.bad[places], self.wrong[places])


def build(
    recipe: Recipe,
    wish: Wish,
    subject: Subject,
    panel: Panel,
    teacher: Callable[[], Ledger],
    folder: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Write certificate.json and give its content as facts. `teacher` is loaded only where its answers are wanted.

    Raises DataError where `calibrate` has under two groups, and what the teacher raises.
    """
    judge = _Judge(recipe, wish, subject.student, panel, teacher, progress)
    tune_rows = judge.answer(subject.tune, "tune")[:2]
    scorer = confidence.Scorer("label")
    if not recipe.task.build().answers:
        scorer = confidence.fit(tune_rows[1].features, ~judge.wrong(*tune_rows))
    tune = judge.scored(*tune_rows, scorer)
    unlabelled = scorer.scores(test_features(subject.predicted))
    thresholds = certify.ladder(unlabelled)
    calibrate, opened = subject.open_calibrate()
    examples, answered, failed = judge.answer(calibrate, "calibrate")
    chosen = certify.one_a_group([e.id for e in examples], [e.group for e in examples], recipe.seed)
    if len(chosen) < 2:
        raise DataError(
            f"`calibrate` has human answers of {len(chosen)} groups: nothing can be certified.",
            "Give data.split.calibrate a larger weight, or more human answers (aasut gold).",
        )
    begin = certify.start(thresholds, unlabelled, tune.scores, tune.bad, wish.target, len(chosen))
    rows = judge.scored(examples, answered, scorer).only(chosen)
    walked = certify.walk(rows.scores, rows.bad, thresholds[begin:], wish.target)
    seen_scores, seen_bad = np.concatenate([rows.scores, tune.scores]), np.concatenate([rows.bad, tune.bad])
    more = None
    if walked.passed is None:
        more = certify.more_gold(seen_scores, seen_bad, thresholds, wish.target, len(chosen))
    found = _plain(wish, walked, more, rows, opened) | {
        "scorer": scorer.as_dict(),
        "coverage": _coverage(subject.test, subject.predicted, unlabelled, walked),
        "audit": _audit(recipe, wish, subject, unlabelled, walked),
        "hashes": dict(subject.hashes) | {"engine": subject.student.engine.name},
    }
    found["sentence"] = sentence(found, len(examples))
    write_atomically(folder / FILE, json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    dropped = {"another row of its group was drawn": len(examples) - len(chosen)}
    rows_in = Conservation(len(calibrate), len(chosen), {k: v for k, v in dropped.items() if v}, failed)
    return found | {"conservation": {"certify": rows_in}}


class _Judge:
    """The student's answers to a split, and which of them are wrong."""

    def __init__(
        self, recipe: Recipe, wish: Wish, student: Candidate, panel: Panel, teacher: Callable[[], Ledger],
        progress: Progress,
    ) -> None:  # fmt: skip
        self.recipe, self.wish, self.student, self.progress = recipe, wish, student, progress
        self.task = recipe.task.build()
        self.panel = panel if self.task.answers else panel.first()
        self.teacher = teacher
        self.teachers: dict[str, str] = {}  # answers by id

    def answer(self, split: Sequence[Example], name: str) -> tuple[list[Example], Answered, dict[str, int]]:
        """(rows that can be used, the student's answers to them, how many cannot be, by reason)."""
        failed: Counter[str] = Counter()
        usable = []
        for example in split:
            if self.student.fits(example):
                usable.append(example)
            else:
                failed["longer than the student's context"] += 1
        answered = Answered()
        with self.progress.steps(f"student answers {name}", len(usable)) as step:
            for begin in range(0, len(usable), BATCH):
                part = usable[begin : begin + BATCH]
                answered.add(self.student.answer(part, features=True))
                step.advance(len(part))
        if not self.wish.asks_teacher:
            return usable, answered, dict(failed)
        kept = []
        given = ask(self.recipe, self.panel, usable, self.teacher(), self.progress, f"teacher answers {name}")
        for place, (example, completions) in enumerate(zip(usable, given, strict=True)):
            failure = next((c.failure for c in completions if c.failure), "")
            if self.task.answers and not failure:
                row, failure = self.panel.combine(self.task, completions)
                text = "" if row is None else self.task.answers[int(np.argmax(row))]
            else:
                text = next(iter(self.panel.texts(self.task, completions)[0]), "") if not failure else ""
            if failure:
                failed[failure] += 1
            else:
                kept.append(place)
                self.teachers[example.id] = text
        return [usable[i] for i in kept], answered.only(kept), dict(failed)

    def wrong(self, examples: Sequence[Example], answered: Answered) -> Bools:
        """Which answers differ from the human one, or from the teacher's where the wish is against that."""
        truth = [str(e.answer) for e in examples]
        if self.wish.against == "teacher":
            truth = [self.teachers[e.id] for e in examples]
        return ~np.array(self.task.correct(answered.given(self.task), truth), dtype=bool)

    def scored(self, examples: list[Example], answered: Answered, scorer: confidence.Scorer) -> Scored:
        wrong = self.wrong(examples, answered)
        bad = wrong
        if self.wish.target.kind == "system" and self.wish.against == "human":
            teacher = [self.teachers[e.id] for e in examples]
            bad = wrong & np.array(self.task.correct(teacher, [str(e.answer) for e in examples]), dtype=bool)
        features = answered.features if len(examples) else np.zeros((0, 1))
        return Scored(examples, scorer.scores(features), bad, wrong)


def _coverage(
    test: Sequence[Example], predicted: Mapping[str, Any], scores: NDArray[np.float64], walked: Walk
) -> dict[str, float] | None:
    """Share of `test`'s inputs that are accepted, with a two-sided interval that counts groups; needs no answers."""
    if walked.passed is None:
        return None
    group = {example.id: example.group for example in test}
    accepted = (scores >= walked.passed.threshold).tolist()
    share = metrics.accuracy(accepted, [group[name] for name in predicted["ids"]], walked.target.confidence)
    return {"value": share.value, "lower": share.lower, "upper": share.upper}


def _audit(recipe: Recipe, wish: Wish, subject: Subject, scores: Floats, walked: Walk) -> dict[str, Any] | None:
    """What audits in use should find, see audits.py; None where nothing is certified or can be watched."""
    if walked.passed is None:
        return None
    answers = Answers.of(recipe.task.build(), subject.test, dict(subject.predicted))
    return audits.expected(answers, scores, walked.passed.threshold, wish.target, wish.against, recipe.seed)


def _plain(wish: Wish, walked: Walk, more: int | None, rows: Scored, opened: int) -> dict[str, Any]:
    last = walked.passed
    accepted = rows.scores >= last.threshold if last else np.zeros(len(rows.scores), bool)
    return {
        "kind": wish.target.kind,
        "against": wish.against,
        "risk": wish.target.risk,
        "confidence": wish.target.confidence,
        "certified": last is not None,
        "threshold": last and last.threshold,
        "accepted": last.accepted if last else 0,
        "wrong": int((accepted & rows.wrong).sum()),
        "bad": last.wrong if last else 0,
        "n": len(rows.scores),
        "p_value": last and last.p_value,
        "more_gold": more,
        "calibrate_opened": opened,
        "steps": [asdict(step) for step in walked.steps],
    }
