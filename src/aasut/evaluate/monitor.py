"""Watching a certificate in use: an alarm when audited answers show that the promise no longer holds.

A test martingale (e-process): W_t = product over audits of 1 + eta (error - risk). While the true risk is at
most `risk`, W is a supermartingale, and by Ville's inequality it ever reaches 1/level with a chance of at
most `level`, however long and however often one looks (Waudby-Smith & Ramdas 2024, JRSS B 86, 1-27).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aasut.errors import DataError


@dataclass(frozen=True, slots=True)
class Monitor:
    """The state after `audits` audited answers, `errors` of them wrong; `log_wealth` is ln W, `highest` its greatest.

    Audits must be drawn at random from the answers that the certificate is about: a few per cent.
    """

    risk: float
    level: float
    eta: float
    audits: int = 0
    errors: int = 0
    log_wealth: float = 0.0
    highest: float = 0.0

    @classmethod
    def begin(cls, risk: float, confidence: float, eta: float | None = None) -> Monitor:
        """A monitor of `risk` that gives a false alarm with a chance of at most 1 - confidence.

        eta, above 0 and at most 1/risk, is the bet: 1/(1 - risk) unless given, under which W grows fastest
        where the true risk is twice `risk` (Kelly 1956: the best bet on a risk q is (q - risk) / (risk (1 - risk))).
        """
        if not 0 < risk < 1 or not 0 < confidence < 1:
            raise DataError(
                f"A risk of {risk:g} cannot be watched with confidence {confidence:g}.", "Both lie between 0 and 1."
            )
        bet = min(1 / (1 - risk), 1 / risk) if eta is None else eta
        if not 0 < bet <= 1 / risk:
            raise DataError(f"A bet of {bet:g} cannot be made on a risk of {risk:g}.", "It lies above 0, up to 1/risk.")
        return cls(risk, 1 - confidence, bet)

    def saw(self, errors: Iterable[bool]) -> Monitor:
        """The state after further audits, each: was the answer wrong?"""
        audits, wrong, wealth, highest = self.audits, self.errors, self.log_wealth, self.highest
        for error in errors:
            factor = 1 + self.eta * (error - self.risk)
            wealth = wealth + math.log(factor) if factor > 0 else -math.inf
            highest = max(highest, wealth)
            audits, wrong = audits + 1, wrong + bool(error)
        return Monitor(self.risk, self.level, self.eta, audits, wrong, wealth, highest)

    @property
    def alarm(self) -> bool:
        """Did W ever reach 1/level? An alarm stays."""
        return self.highest >= -math.log(self.level)

    def as_dict(self) -> dict[str, Any]:
        """The state as plain data; `wealth` is W, and `alarm_at` what it must reach."""
        return {
            "risk": self.risk,
            "confidence": 1 - self.level,
            "eta": self.eta,
            "audits": self.audits,
            "errors": self.errors,
            "wealth": math.exp(min(self.log_wealth, 700.0)),
            "highest": math.exp(min(self.highest, 700.0)),
            "alarm_at": 1 / self.level,
            "alarm": self.alarm,
            "sentence": self.sentence(),
        }

    def sentence(self) -> str:
        """The state in words."""
        seen = f"{self.errors:,} of {self.audits:,} audited answers were wrong; {self.risk * 100:g} % is promised"
        evidence = (
            f"evidence {math.exp(min(self.highest, 700.0)):,.1f} at its highest, {1 / self.level:,.0f} is an alarm"
        )
        if self.alarm:
            return f"Alarm: {seen} ({evidence}). Defer all, and certify again on new human answers."
        return f"No alarm: {seen} ({evidence})."


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
