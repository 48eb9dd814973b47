"""What judges' verdicts come to: whose answers they prefer, how often they err, and the share that is really right.

Judges of one family have one vote. From three families on, Dawid & Skene's model weighs the votes
(data/dawid_skene.py); with fewer, the first judge stands for itself. Verdicts of correctness are used twice: put
right by the errors seen on `test` (rates.py), and as a help to the human answers there (ppi.py). What
cannot be had is null, and `warnings` say why: judging is paid for by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aasut.data.dawid_skene import consensus, one_vote_a_family
from aasut.errors import DataError
from aasut.evaluate import ppi, rates
from aasut.evaluate.metrics import Floats
from aasut.evaluate.paired import compare
from aasut.evaluate.verdict import Answers
from aasut.recipe import Recipe, families

if TYPE_CHECKING:
    from aasut.evaluate.judges import Aside, Judgements

Plain = dict[str, Any]


def facts(recipe: Recipe, answers: Answers, aside: Aside, found: Sequence[Judgements]) -> Plain:
    """The key `judged` of report.json."""
    known = [families.family(judge.source, judge.family) for judge in recipe.judges]
    names = [_named(recipe, number) for number in range(len(found))]
    votes = families.apart(known)
    notes = _warnings(recipe, names, known, answers, aside)
    confidence = recipe.evaluate.confidence
    said, who = _combined(found, votes, names)
    n = len(answers.examples)
    return {
        "judges": [
            {"name": name, "family": families.shown(own), "unlabelled": sum(v is not None for v in one.right_aside)}
            for name, own, one in zip(names, known, found, strict=True)
        ],
        "preference": preference(answers, found, votes, confidence, notes),
        "correctness": correctness(answers, aside, said[:n], said[n:], who, confidence, notes),
        "ppi": powered(answers, aside, said[:n], said[n:], recipe.evaluate.strata, confidence, notes),
        "warnings": notes,
    }


def preference(
    answers: Answers, found: Sequence[Judgements], votes: Sequence[str], confidence: float, notes: list[str]
) -> Plain | None:
    """Shares of the test examples where the student's answer is preferred, neither, the teacher's; Tango's interval.

    An example's verdict is the sign of the families' sum. `inconsistent` is the share of the examples asked about
    on which the orders disagree, over all judges; such verdicts are ties.
    """
    given = np.array([[np.nan if v is None else v for v in one.preferred] for one in found], np.float64).T
    by_family = one_vote_a_family(given[:, :, None], votes)[0][:, :, 0]
    mean = np.nansum(by_family, axis=1)
    kept = [i for i, row in enumerate(by_family) if not np.isnan(row).all()]
    asked = sum(len(one.preferred) - one.same - sum(v is None for v in one.preferred) for one in found)
    try:
        pair = compare(
            [bool(mean[i] > 0) for i in kept],
            [bool(mean[i] < 0) for i in kept],
            [answers.groups[i] for i in kept],
            confidence,
        )
    except DataError as error:
        notes.append(f"No preference: {error}")
        return None
    return {
        "student_wins": pair.only_a / pair.n,
        "ties": 1 - pair.discordance,
        "teacher_wins": pair.only_b / pair.n,
        "difference": pair.difference,
        "ci": [pair.lower, pair.upper],
        "n": pair.n,
        "groups": pair.groups,
        "inconsistent": sum(one.inconsistent for one in found) / asked if asked else 0.0,
        "same": found[0].same / len(answers.examples),
    }


def correctness(
    answers: Answers, aside: Aside, said: Floats, said_aside: Floats, who: str, confidence: float, notes: list[str]
) -> Plain | None:
    """Sensitivity and specificity on `test`; and the share right on the inputs kept aside, put right by them."""
    right, groups = answers.correct("student"), answers.groups
    kept, kept_aside = (np.flatnonzero(~np.isnan(values)).tolist() for values in (said, said_aside))
    try:
        sensitivity, specificity = rates.errors(
            [right[i] for i in kept], [bool(said[i] > 0.5) for i in kept], [groups[i] for i in kept], confidence
        )
    except DataError as error:
        notes.append(f"No error rates of the judge: {error}")
        return None
    found: Plain = {
        "judge": who,
        "sensitivity": sensitivity.as_list(),
        "specificity": specificity.as_list(),
        "raw": float(np.mean(said[kept] > 0.5)),
        "corrected": None,
        "n": len(kept),
        "unlabelled": len(kept_aside),
    }
    if not len(kept_aside):
        return found
    try:
        of_groups = [aside.examples[i].group for i in kept_aside]
        raw = rates.rate([bool(said_aside[i] > 0.5) for i in kept_aside], of_groups, confidence)
        return found | rates.correct(raw, sensitivity, specificity, confidence).as_dict()
    except DataError as error:
        notes.append(f"No corrected share: {error}")
        return found


def powered(
    answers: Answers,
    aside: Aside,
    said: Floats,
    said_aside: Floats,
    strata: str | None,
    confidence: float,
    notes: list[str],
) -> Plain | None:
    """The share of the student's answers that is right, by humans on `test` and helped by verdicts on all inputs.

    Where a stratum has too few answers, without strata.
    """
    kept, kept_aside = (np.flatnonzero(~np.isnan(values)).tolist() for values in (said, said_aside))
    if not len(kept_aside):
        return None
    right = answers.correct("student")
    rows, rows_aside = [answers.examples[i] for i in kept], [aside.examples[i] for i in kept_aside]
    given = [float(right[i]) for i in kept], said[kept].tolist(), said_aside[kept_aside].tolist()
    groups = [e.group for e in rows], [e.group for e in rows_aside]
    for slot in dict.fromkeys((strata, None)):
        parts = None if slot is None else ([e.slots[slot] for e in rows], [e.slots[slot] for e in rows_aside])
        try:
            found = ppi.estimate(*given, confidence=confidence, strata=parts, groups=groups)
            return found.as_dict() | {"strata": slot}
        except DataError as error:
            notes.append(f"No estimate helped by the judge{'' if slot is None else ', by strata'}: {error}")
    return None


def _combined(found: Sequence[Judgements], votes: Sequence[str], names: Sequence[str]) -> tuple[Floats, str]:
    """(probability that each answer is right, of `test` and then of the rest, NaN where nobody says; whose it is)."""
    each = np.array([[np.nan if v is None else v for v in one.right + one.right_aside] for one in found], np.float64)
    if len(set(votes)) < families.FEWEST:
        return each[0], names[0]
    hard = np.where(np.isnan(each), np.nan, each > 0.5).T  # a judge's own probabilities may be flat (dev/LOG.md)
    said = consensus(np.stack([hard, 1 - hard], axis=2), votes)
    posterior: Floats = np.where(np.isnan(each).all(axis=0), np.nan, said.posteriors[:, 0])
    return posterior, f"{len(names)} judges of {len(set(votes))} families, weighed by Dawid & Skene's model"


def _named(recipe: Recipe, number: int) -> str:
    """The judge's name, with its number where another has the same."""
    sources = [judge.source for judge in recipe.judges]
    name = sources[number].split("#")[0].split(",")[0].split(":", 1)[-1]
    return name if sources.count(sources[number]) == 1 else f"{name} ({number + 1})"


def _warnings(
    recipe: Recipe, names: Sequence[str], known: Sequence[frozenset[str]], answers: Answers, aside: Aside
) -> list[str]:
    teacher = families.family(recipe.teacher.source)
    student = families.family(recipe.student.model.address) if recipe.student.model else frozenset[str]()
    found = [note for name, own in zip(names, known, strict=True)
             for note in families.warnings(name, own, teacher, student)]  # fmt: skip
    tables = [{example.id.split(":", 1)[0] for example in part} for part in (answers.examples, aside.examples)]
    if tables[1] and tables[0] != tables[1]:
        found.append(
            "The unlabelled inputs are of other tables than the human answers: what judges say of them counts as far "
            "as the two are alike."
        )
    return found
