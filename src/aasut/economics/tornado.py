"""What the answer hangs on: each input moved to a low and a high value with the others where they are.

One-at-a-time sensitivity, drawn widest first (Howard 1988, Decision Analysis: Practice and Promise,
Management Science 34, 679-695, calls the picture a tornado diagram).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from aasut.economics.case import Case
from aasut.economics.cost import usd
from aasut.economics.returns import Difference, Noise
from aasut.evaluate.paired import points

LIKELY_DEFERRED = 0.2  # high value of the share deferred where nothing is known of it
SPEED = 0.2  # a measured speed is moved by this share where no repetition tells how much it varies
FACTORS = (0.5, 2.0)
DECLARED, MEASURED, ASSUMED = "declared", "measured", "half and double"

Ranges = Mapping[str, Sequence[float] | None]


@dataclass(frozen=True, slots=True)
class Bar:
    """Net gain in USD a month with one input at its low and its high value; `basis` says where these come from."""

    what: str
    low_value: str
    high_value: str
    low: float
    high: float
    basis: str

    def width(self, base: float) -> float:
        return max(self.low, self.high, base) - min(self.low, self.high, base)

    def as_dict(self, base: float) -> dict[str, Any]:
        """With `flips`: does the sign change at one of the two values?"""
        return {
            "what": self.what,
            "low_value": self.low_value,
            "high_value": self.high_value,
            "low": self.low,
            "high": self.high,
            "basis": self.basis,
            "flips": (self.low > 0) != (base > 0) or (self.high > 0) != (base > 0),
        }


def tornado(
    case: Case, difference: Difference, ranges: Ranges | None = None, noise: Noise | None = None
) -> dict[str, Any]:
    """{"tornado_of": {"what", "base"}, "tornado": bars, widest first} of the net gain over the teacher, USD a month.

    ranges: declared [low, high] by name, as in the recipe's `economics.ranges`. What is not declared goes
    to half and to double; the difference in accuracy, and the speed where it was repeated, to the ends of their
    intervals. Inputs that change nothing are left out.
    """
    case = replace(case, difference=difference.value)
    base = case.net_usd_per_month()
    bars = [bar for bar in _bars(case, difference, ranges or {}, noise) if bar.width(base) > 0]
    bars.sort(key=lambda bar: -bar.width(base))
    return {
        "tornado_of": {"what": "net gain over the teacher, USD a month", "base": base},
        "tornado": [bar.as_dict(base) for bar in bars],
    }


def tornado_sentence(found: Mapping[str, Any]) -> str:
    """What the answer hangs on most, and which inputs would turn it, in words; "" where nothing was moved."""
    bars = found["tornado"]
    if not bars:
        return ""
    base = found["tornado_of"]["base"]
    now = f"gains {usd(base)}" if base > 0 else f"loses {usd(-base)}"
    turning = [bar["what"] for bar in bars if bar["flips"]]
    text = f"Owning {now} a month; most hangs on the {bars[0]['what']}"
    if not turning:
        return f"{text}, and none of the inputs alone would turn it within its range."
    listed = turning[0] if len(turning) == 1 else f"{', '.join(turning[:-1])} or {turning[-1]}"
    return f"{text}. Alone within its range, the {listed} would turn it."


def _bars(case: Case, difference: Difference, ranges: Ranges, noise: Noise | None) -> Iterator[Bar]:
    def moved(name: str, now: float, most: float = math.inf) -> tuple[float, float, str]:
        if (pair := ranges.get(name)) is not None:
            return pair[0], pair[1], DECLARED
        return now * FACTORS[0], min(now * FACTORS[1], most), ASSUMED

    low, high, basis = moved("requests_per_month", case.requests_per_month)
    yield _bar("volume", _at(case, "requests_per_month", low, high), f"{low:,.0f}", f"{high:,.0f} a month", basis)
    low, high, basis = moved("teacher_usd_per_million_requests", case.teacher_price)
    cases = (_teacher_at(case, low), _teacher_at(case, high))
    yield _bar("price of the teacher", cases, usd(low), f"{usd(high)} a million", basis)
    low, high, basis = moved("utilisation", case.utilisation, 1.0)
    yield _bar("utilisation", _at(case, "utilisation", low, high), _percent(low), _percent(high), basis)
    low, high, basis = moved("usd_per_machine_hour", case.usd_per_machine_hour)
    yield _bar("machine price", _at(case, "usd_per_machine_hour", low, high), usd(low), f"{usd(high)} an hour", basis)
    low, high, basis = _speed(case, ranges, noise)
    cases = _at(case, "student_requests_per_s", low, high)
    yield _bar("speed of the student", cases, f"{low:.3g}", f"{high:.3g} requests/s", basis)
    low, high, basis = _deferred(case, ranges)
    yield _bar("share deferred", _at(case, "deferred_share", low, high), _percent(low), _percent(high), basis)
    low, high, basis = moved("labelling_usd", case.labelling_usd)
    yield _bar("labelling cost", (_labels_at(case, low), _labels_at(case, high)), usd(low), usd(high), basis)
    low, high, basis = moved("months", case.months)
    yield _bar("months of use", _at(case, "months", low, high), f"{low:g}", f"{high:g}", basis)
    low, high = difference.lower, difference.upper
    worse, better = points(low, signed=True).removesuffix(" points"), points(high, signed=True)
    yield _bar("difference in accuracy", _at(case, "difference", low, high), worse, better, MEASURED)
    low, high = (case.usd_per_correct_answer * factor for factor in FACTORS)
    cases = _at(case, "usd_per_correct_answer", low, high)
    worth = f"{usd(1000 * high)} a thousand"
    yield _bar("worth of right answers", cases, usd(1000 * low), worth, ASSUMED)


def _bar(what: str, cases: tuple[Case, Case], low_value: str, high_value: str, basis: str) -> Bar:
    low, high = (moved.net_usd_per_month() for moved in cases)
    return Bar(what, low_value, high_value, low, high, basis)


def _at(case: Case, field: str, low: float, high: float) -> tuple[Case, Case]:
    first, second = ({field: value} for value in (low, high))
    return replace(case, **first), replace(case, **second)  # type: ignore[arg-type]


def _teacher_at(case: Case, price: float) -> Case:
    """With a teacher of that price; one that runs on a machine of the same price is as much slower."""
    if case.teacher_requests_per_s is None or not case.teacher_price:
        return replace(case, teacher_usd_per_million_requests=price)
    return replace(case, teacher_requests_per_s=case.teacher_requests_per_s * case.teacher_price / price)


def _labels_at(case: Case, cost: float) -> Case:
    """With labels of that cost in all, in money and machine hours alike."""
    if not case.labelling_usd:
        return replace(case, labels_usd=cost, labelling_hours=0.0)
    factor = cost / case.labelling_usd
    return replace(case, labels_usd=case.labels_usd * factor, labelling_hours=case.labelling_hours * factor)


def _speed(case: Case, ranges: Ranges, noise: Noise | None) -> tuple[float, float, str]:
    """Low and high speed of the student, requests/s."""
    now = case.student_requests_per_s
    if (pair := ranges.get("requests_per_s")) is not None:
        return pair[0], pair[1], DECLARED
    if noise is None or noise.error == 0:
        return now * (1 - SPEED), now * (1 + SPEED), f"{SPEED * 100:.0f} % less and more"
    low, high = noise.interval(0.95)
    return now * low, now * high, MEASURED


def _deferred(case: Case, ranges: Ranges) -> tuple[float, float, str]:
    """Low and high share deferred; from none on where none was declared or certified."""
    now = case.deferred_share
    if (pair := ranges.get("deferred_share")) is not None:
        return pair[0], pair[1], DECLARED
    if not now:
        return 0.0, LIKELY_DEFERRED, "none, and a guess"
    return now * FACTORS[0], min(now * FACTORS[1], (1 + now) / 2), ASSUMED


def _percent(share: float) -> str:
    return f"{share * 100:.3g}\N{NO-BREAK SPACE}%"
