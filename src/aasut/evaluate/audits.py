"""What audits in use should find: how often the student may differ from the upstream where it answers by itself.

An audit asks the upstream for what the student has answered already, and compares. For a certificate that is
selective and against the teacher, the share that differs is what it promises. For one against human answers, or
of the kind `system`, it is not: where the two differ either may be right. There the share is bounded from `test`,
whose answers are known: an upper bound for the accepted inputs (Clopper & Pearson 1934, Biometrika 26, 404-413)
at half of the certificate's level, which leaves the other half to the monitor. While inputs are as they were in
`test` and the upstream answers as the teacher did there, an alarm then comes with a chance of at most the level.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aasut.evaluate.certify import Floats, Target, one_a_group
from aasut.evaluate.verdict import Answers

BOUND_SHARE = 0.5  # of the level


def expected(
    answers: Answers, scores: Floats, threshold: float, target: Target, against: str, seed: int
) -> dict[str, Any] | None:
    """{"risk", "confidence"} of the monitor, with the counts on `test` that they come from, one row of each group.

    scores [n]: of the student's answers to `answers.examples`. None where no accepted row can be compared, or all
    of them differ: then nothing can be watched. Texts that are no answers to the task are left out, as in audits.
    """
    if target.kind == "selective" and against == "teacher":
        return {"risk": target.risk, "confidence": target.confidence}
    student, teacher = answers.predicted["student"], answers.predicted["teacher"]
    chosen = one_a_group([e.id for e in answers.examples], answers.groups, seed)
    rows = [i for i in chosen if scores[i] >= threshold and student[i] and teacher[i]]
    same = answers.task.correct([student[i] for i in rows], [teacher[i] for i in rows])
    differed = len(rows) - int(np.sum(same))
    if differed == len(rows):
        return None
    level = target.level * BOUND_SHARE
    bound = upper_bound(differed, len(rows), 1 - level)
    return {"risk": bound, "confidence": 1 - (target.level - level), "accepted": len(rows), "differed": differed}


def upper_bound(count: int, n: int, confidence: float) -> float:
    """The one-sided upper bound of a share of which `count` of `n` independent draws, fewer than all, were seen."""
    from scipy.stats import beta

    return float(beta.ppf(confidence, count + 1, n - count))
