"""Watching a certificate in use: an alarm when audited answers show that the promise no longer holds.

A test martingale (e-process): while the true risk is at most `risk`, wealth W is a supermartingale, and by
Ville's inequality it ever reaches 1/level with a chance of at most `level`, however long and however often
one looks (Waudby-Smith & Ramdas 2024, JRSS B 86, 1-27). A bet on a risk of q multiplies its stake by q/risk
at an error and by (1 - q)/(1 - risk) at a right answer; W is a mixture of such bets, so that it stays one:
on twice the risk, four times, and so on; and begun afresh every few audits, each time with a smaller part of
the stake, as what was lost in a good time would have to be won back before a bad one is seen.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from aasut.errors import DataError

EVERY = 10  # audits after which bets are begun afresh
MOST = 1e300  # wealth beyond this is not counted

What = Literal["wrong", "differed"]


@dataclass(frozen=True, slots=True)
class Monitor:
    """The state after `audits` audited answers, `errors` of them wrong; `highest` is the greatest W so far.

    `stakes`: the wealth of the bets on each of `bets`, risks. `what` an error is: a wrong answer, or one that
    differed from another's. Audits must be drawn at random from the answers that the certificate is about.
    """

    risk: float
    level: float
    what: What
    bets: tuple[float, ...]
    stakes: tuple[float, ...]
    audits: int = 0
    errors: int = 0
    highest: float = 1.0

    @classmethod
    def begin(cls, risk: float, confidence: float, what: What = "wrong") -> Monitor:
        """A monitor of `risk` that gives a false alarm with a chance of at most 1 - confidence."""
        if not 0 < risk < 1 or not 0 < confidence < 1:
            raise DataError(
                f"A risk of {risk:g} cannot be watched with confidence {confidence:g}.", "Both lie between 0 and 1."
            )
        doublings = math.ceil(math.log2(1 / risk)) - 1
        bets = tuple(risk * 2**n for n in range(1, doublings + 1)) or ((1 + risk) / 2,)
        return cls(risk, 1 - confidence, what, bets, (0.0,) * len(bets))

    def saw(self, errors: Iterable[bool]) -> Monitor:
        """The state after further audits, each: was the answer wrong?"""
        audits, wrong, stakes, highest = self.audits, self.errors, list(self.stakes), self.highest
        won = [bet / self.risk for bet in self.bets]
        lost = [(1 - bet) / (1 - self.risk) for bet in self.bets]
        for error in errors:
            if audits % EVERY == 0:
                begun = (_left(audits) - _left(audits + 1)) / len(stakes)
                stakes = [stake + begun for stake in stakes]
            stakes = [min(stake * by, MOST) for stake, by in zip(stakes, won if error else lost, strict=True)]
            audits, wrong = audits + 1, wrong + bool(error)
            highest = max(highest, sum(stakes) + _left(audits))
        return replace(self, stakes=tuple(stakes), audits=audits, errors=wrong, highest=highest)

    @property
    def wealth(self) -> float:
        """W: the stakes, and what is not staked yet."""
        return sum(self.stakes) + _left(self.audits)

    @property
    def alarm(self) -> bool:
        """Did W ever reach 1/level? An alarm stays."""
        return self.highest >= 1 / self.level

    def as_dict(self) -> dict[str, Any]:
        """The state as plain data; `wealth` is W, and `alarm_at` what it must reach."""
        return {
            "risk": self.risk,
            "confidence": 1 - self.level,
            "what": self.what,
            "audits": self.audits,
            "errors": self.errors,
            "wealth": self.wealth,
            "highest": self.highest,
            "alarm_at": 1 / self.level,
            "alarm": self.alarm,
            "sentence": self.sentence(),
        }

    def sentence(self) -> str:
        """The state in words."""
        risk = f"{self.risk * 100:.3g} %"
        seen = f"{self.errors:,} of {self.audits:,} audited answers " + (
            f"were wrong; {risk} is promised"
            if self.what == "wrong"
            else f"differed from the upstream's; at most {risk} is expected"
        )
        evidence = f"evidence {min(self.highest, 1e9):,.1f} at its highest, {1 / self.level:,.0f} is an alarm"
        if self.alarm:
            return f"Alarm: {seen} ({evidence}). Defer all, and certify again on new human answers."
        return f"No alarm: {seen} ({evidence})."


def _left(audits: int) -> float:
    """The part of the stake that no bet has after so many audits: the j-th beginning takes 1/(j (j + 1)) of it."""
    return 1 / (math.ceil(audits / EVERY) + 1)


def beside(certificate: Mapping[str, Any]) -> Monitor:
    """The monitor of a certificate where the upstream is asked beside the student, and the two are compared.

    For one that is selective and against the teacher this is its promise. Otherwise an answer that differs need
    not be wrong, and the share that differs is watched, up to the bound that `test` gave for it (certificate.py):
    an alarm says that the upstream's answers are no longer what they were beside the student's, so that what was
    promised cannot be counted on. Raises DataError where the certificate says nothing of that.
    """
    found = certificate.get("audit")
    if not found:
        raise DataError(
            "The certificate does not say how often student and teacher may differ, so no audit can bear it out.",
            "Certify again: aasut certify RUN. If it lacks that again, `test` has too few answers that are accepted.",
        )
    return Monitor.begin(found["risk"], found["confidence"], "differed")


def over(certificate: Path, audits: Path) -> Monitor:
    """The monitor of a certificate.json after the audits in a file, JSON lines {"wrong": true | false}, in their order.

    Raises DataError where there is no certificate to watch, it is of the kind `system`, or a line cannot be read.
    """
    try:
        found = json.loads(certificate.read_text(encoding="utf-8"))
        certified, kind, risk, confidence = (found[name] for name in ("certified", "kind", "risk", "confidence"))
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"There is no certificate {certificate}.", "Make one with aasut certify RUN.") from None
    if not certified or kind != "selective":
        what = "certifies nothing" if not certified else "is of the kind system, which counts all requests"
        raise DataError(f"{certificate} {what}: audits of the student's own answers cannot bear it out.")
    return Monitor.begin(risk, confidence).saw(_audited(audits))


def _audited(path: Path) -> Iterator[bool]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}.", "Give a file of JSON lines.") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            wrong = json.loads(line)["wrong"]
        except (ValueError, KeyError, TypeError):
            wrong = None
        if not isinstance(wrong, bool):
            raise DataError(f"{path}, line {number}: there is no audit.", 'Write {"wrong": true} or {"wrong": false}.')
        yield wrong
