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
from aasut.evaluate import certify, confidence, metrics
from aasut.evaluate.candidates import Answered, Candidate
from aasut.evaluate.certify import Bools, Floats, Target, Walk
from aasut.evaluate.paired import Comparison, compare
from aasut.evaluate.verdict import Answers
from aasut.progress import Progress
from aasut.recipe import Recipe
from aasut.store import Artefact, write_atomically
from aasut.teacher.ledger import Ledger
from aasut.types import Conservation, Example

VERSION = 1
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
    unlabelled = scorer.scores(_test_features(subject.predicted))
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


def shown(answers: Answers, predicted: Mapping[str, Any], made: Artefact | None) -> dict[str, Any]:
    """What the report says: `certificate`, None where there is none, and `risk_coverage` of the student on `test`."""
    wrong = [not right for right in answers.correct("student")]
    found = None if made is None else {k: v for k, v in made.facts.items() if k not in ("calls", "conservation")}
    scorer = confidence.Scorer("label" if "probabilities" in predicted else "least_token")
    if found is not None:
        scorer = _scorer(found)
    scores = scorer.scores(_test_features(predicted))
    curve: dict[str, Any] = confidence.risk_coverage(scores.tolist(), wrong)
    curve["certified"] = None
    if found is not None and found["certified"]:
        accepted = scores >= found["threshold"]
        inside = [bad for bad, yes in zip(wrong, accepted, strict=True) if yes]
        groups = [group for group, yes in zip(answers.groups, accepted, strict=True) if yes]
        found["on_test"] = None
        if len(set(groups)) > 1:
            risk = metrics.accuracy(inside, groups, found["confidence"])
            curve["certified"] = {"coverage": float(accepted.mean()), "risk": risk.value}
            found["on_test"] = curve["certified"] | {"ci": [risk.lower, risk.upper], "accepted": len(inside)}
    return {"certificate": found, "risk_coverage": curve}


def deferring(
    answers: Answers, predicted: Mapping[str, Any], found: Mapping[str, Any] | None
) -> tuple[float, Comparison] | None:
    """(share of requests deferred, student minus teacher on the others), by a certificate as `shown` gives it.

    None where nothing is certified, or the others are of under two groups of `test`.
    """
    if found is None or found.get("on_test") is None:
        return None
    accept = (_scorer(found).scores(_test_features(predicted)) >= found["threshold"]).tolist()

    def kept(values: Sequence[Any]) -> list[Any]:
        return [value for value, yes in zip(values, accept, strict=True) if yes]

    student, teacher = kept(answers.correct("student")), kept(answers.correct("teacher"))
    pair = compare(student, teacher, kept(answers.groups), found["confidence"])
    return 1 - float(found["coverage"]["value"]), pair


def _scorer(found: Mapping[str, Any]) -> confidence.Scorer:
    return confidence.Scorer(**{n: found["scorer"][n] for n in ("kind", "weights", "bias", "centre", "scale")})


def _test_features(predicted: Mapping[str, Any]) -> Floats:
    if "probabilities" in predicted:
        return np.asarray(np.array(predicted["probabilities"]["student"], np.float64).max(axis=1, keepdims=True))
    return np.array(predicted["logprob_quantiles"]["student"], np.float64)


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


def sentence(found: Mapping[str, Any], items: int) -> str:
    """What is guaranteed, or that nothing is, in words. items: usable rows of `calibrate`."""
    risk, human, n = f"{found['risk'] * 100:g} %", found["against"] == "human", found["n"]
    people = "human answers" if human else "answers of the teacher"
    counted = f"{n:,} {people}" + ("" if n == items else f", one of each group of {items:,}")
    if not found["certified"]:
        more = found["more_gold"]
        ask = (
            f"About {more:,} more {people} in `calibrate`, each of a group of its own, would give one."
            if more is not None
            else "More answers cannot be promised to help: the risk seen is nowhere under the target."
        )
        return f"No certificate: {counted} do not show a risk of at most {risk} at any threshold. Defer all. {ask}"
    truth = "the human answer" if human else "the teacher's answer, which need not be right"
    if found["kind"] == "selective":
        what = f"at most {risk} of the answers that the student gives itself differ from {truth}"
    elif human:
        what = f"student and teacher together err on at most {risk} of all requests more than the teacher alone"
    else:
        what = f"at most {risk} of all requests get an answer that differs from {truth}"
    return (
        f"With {found['confidence'] * 100:g} % confidence {what}; it answers {found['coverage']['value'] * 100:.1f} % "
        f"and defers the rest. Shown on {counted}: {found['accepted']:,} accepted, {found['bad']:,} of them bad."
        + _together(found)
    )


def _together(found: Mapping[str, Any]) -> str:
    """A set that was looked at several times proves less: the chances that a promise is broken add up (Bonferroni)."""
    times, left = found["calibrate_opened"], 1 - found["calibrate_opened"] * (1 - found["confidence"])
    if times < 2:
        return ""
    said = f"with {left * 100:.4g} % confidence" if left > 0 else "with none"
    return f" `calibrate` was opened {times:,} times: that many certificates hold together {said}."
