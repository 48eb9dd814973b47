"""What every dollar put into a student gives back, with what is not known of accuracy and speed carried along.

Put in: labels, training, fixed cost and the student's machines over the months. Given back: what the
teacher need not be paid for the requests that the student answers, and the worth of its answers where
more, or fewer, of them are right. Uncertain inputs are drawn and the result's quantiles taken: the
propagation of distributions by Monte Carlo (JCGM 101:2008, supplement 1 to the GUM), on Latin
hypercube samples (McKay, Beckman & Conover 1979, Technometrics 21, 239-245).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from aasut.economics.breakeven import Alternative, Number, Owning, gain_per_request
from aasut.economics.case import Case, gives_back
from aasut.economics.cost import usd
from aasut.errors import DataError
from aasut.evaluate.paired import points

DRAWS = 40_000
SEED = 20081
FURTHEST = 50.0  # of the logarithm of a speed: beyond, only overflow is to be had

Floats = NDArray[np.float64]
Result = Literal["pays", "undecided", "does_not_pay", "never_pays"]


@dataclass(frozen=True, slots=True)
class Difference:
    """Accuracy of the student minus that of the teacher, -1 to 1, with its two-sided interval."""

    value: float
    lower: float
    upper: float
    confidence: float

    def draws(self, uniform: Floats) -> Floats:
        """The confidence distribution (Xie & Singh 2013, International Statistical Review 81, 3-39) at `uniform`.

        A normal one on each side of the estimate, each as wide as its side of the interval, so that
        the interval's ends are its quantiles.
        """
        from scipy.special import ndtri

        z, edge = ndtri(uniform), float(ndtri((1 + self.confidence) / 2))
        return np.asarray(self.value + z / edge * np.where(z < 0, self.value - self.lower, self.upper - self.value))


@dataclass(frozen=True, slots=True)
class Noise:
    """How repetitions of a timing scatter: standard error of the logarithm of a speed, and degrees of freedom."""

    error: float
    freedom: int

    @classmethod
    def of(cls, repetitions: Sequence[Sequence[float]]) -> Noise | None:
        """From the repeated speeds of several models, in requests/s; None where none was repeated.

        Models are timed in turns on one machine, so the variances of their logarithms are pooled.
        """
        logs = [np.log(np.asarray(speeds, np.float64)) for speeds in repetitions if len(speeds) > 1]
        if not logs:
            return None
        freedom = sum(len(log) - 1 for log in logs)
        variance = sum(float(((log - log.mean()) ** 2).sum()) for log in logs) / freedom
        return cls(math.sqrt(variance / min(len(log) for log in logs)), freedom)

    def factors(self, uniform: Floats) -> Floats:
        """What a measured speed is multiplied by in each draw: the exponential of Student's t."""
        from scipy.special import stdtrit

        return np.asarray(np.exp(np.clip(self.error * stdtrit(self.freedom, uniform), -FURTHEST, FURTHEST)))

    def interval(self, confidence: float) -> tuple[float, float]:
        """What a speed may be off by, as two factors."""
        low, high = self.factors(np.array([(1 - confidence) / 2, (1 + confidence) / 2]))
        return float(low), float(high)


@dataclass(frozen=True, slots=True)
class Returns:
    """USD given back for each put in over the months, with its interval at `difference.confidence`.

    gives_back is None where nothing is put in. net: gained a month, USD. flips_at: the difference in
    accuracy at which a dollar gives back a dollar; None where right answers are worth nothing.
    """

    case: Case
    difference: Difference
    gives_back: float | None
    interval: tuple[float, float] | None
    net: float
    net_interval: tuple[float, float]
    flips_at: float | None
    payback_months: float | None
    speeds_vary: bool

    @property
    def result(self) -> Result:
        """Read off the interval: all of it above nothing gained, some, or none; `never_pays` at no volume."""
        low, high = self.net_interval
        if low > 0:
            return "pays"
        if high > 0:
            return "undecided"
        worth = self.case.usd_per_correct_answer * (1 - self.case.deferred_share) * self.difference.upper
        if worth > 0 and self.case.teacher_capacity is not None:
            return "does_not_pay"  # where both have a machine that is not full, a better one may pay
        gain = gain_per_request(self.case.owning(), self.case.teacher()) + worth
        return "never_pays" if gain <= 0 else "does_not_pay"

    def as_dict(self) -> dict[str, Any]:
        """roi is net: (given back - put in) / put in."""
        interval = self.interval
        return {
            "usd_per_correct_answer": self.case.usd_per_correct_answer,
            "requests_per_month": self.case.requests_per_month,
            "months": self.case.months,
            "result": self.result,
            "roi": None if self.gives_back is None else self.gives_back - 1,
            "ci": None if interval is None else [interval[0] - 1, interval[1] - 1],
            "gives_back": self.gives_back,
            "gives_back_ci": None if interval is None else list(interval),
            "confidence": self.difference.confidence,
            "net_usd_per_month": self.net,
            "net_ci": list(self.net_interval),
            "payback_months": self.payback_months,
            "difference": self.difference.value,
            "difference_ci": [self.difference.lower, self.difference.upper],
            "flips_at_difference": self.flips_at,
            "uncertain": ["accuracy difference", *(["speeds"] if self.speeds_vary else [])],
            "sentence": returns_sentence(self),
        }


def returns(case: Case, difference: Difference, noise: Noise | None = None) -> Returns:
    """Return of a case over its months; `difference` takes the place of the case's own.

    x = V (1 - q) (p + v d) / (F + K/M + V c): V requests a month, p the teacher's price, q the share
    deferred, v the worth of a right answer, d the difference in accuracy, F fixed USD a month, K one-off
    USD over M months, c the student's price (machines rounded up where they are paid whole). x = 1
    at the break-even volume. Where speeds are taken as exact, x rises with d alone and its interval is
    that of d carried over, exactly. Raises DataError on an interval that does not hold its estimate.
    """
    if not difference.lower <= difference.value <= difference.upper:
        raise DataError(
            f"A difference of {difference.value:g} is not within its interval, {difference.lower:g} to "
            f"{difference.upper:g}.",
            "Give an interval that holds the estimate.",
        )
    case = replace(case, difference=difference.value)
    owning, teacher = case.owning(), case.teacher()
    back, put = _sides(case, owning, teacher, difference.value)
    if noise is None or noise.error == 0:
        ends = np.array([difference.lower, difference.upper])
        backs, puts = _sides(case, owning, teacher, ends)
    else:
        backs, puts = _sides(case, *_drawn(case, owning, teacher, difference, noise))
    worth = case.requests_per_month * (1 - case.deferred_share) * case.usd_per_correct_answer
    saving = float(back - put) + owning.one_off_usd / case.months
    return Returns(
        case,
        difference,
        float(back / put) if put > 0 else None,
        _interval(backs / puts, difference.confidence) if put > 0 else None,
        float(back - put),
        _interval(backs - puts, difference.confidence),
        difference.value + float(put - back) / worth if worth else None,
        owning.one_off_usd / saving if saving > 0 else None,
        noise is not None and noise.error > 0,
    )


def _sides(case: Case, owning: Owning, teacher: Alternative, difference: Number) -> tuple[Number, Number]:
    """(given back, put in) a month, USD."""
    requests = case.requests_per_month
    back = gives_back(owning, teacher, requests, case.usd_per_correct_answer * difference)
    put = owning.usd_per_month(requests)
    return back, put + np.zeros_like(back)


def _drawn(
    case: Case, owning: Owning, teacher: Alternative, difference: Difference, noise: Noise
) -> tuple[Owning, Alternative, Floats]:
    """The same with speeds and the difference in accuracy drawn. A faster machine is cheaper by the request."""
    generator = np.random.default_rng(SEED)
    even = (np.arange(DRAWS) + 0.5) / DRAWS
    ours, theirs = (noise.factors(generator.permutation(even)) for _ in range(2))
    owning = replace(
        owning,
        usd_per_million_requests=owning.usd_per_million_requests / ours,
        machine_requests_per_month=owning.machine_requests_per_month * ours,
    )
    if case.teacher_requests_per_s is not None:
        capacity = teacher.machine_requests_per_month
        teacher = replace(
            teacher,
            usd_per_million_requests=teacher.usd_per_million_requests / theirs,
            machine_requests_per_month=None if capacity is None else capacity * theirs,
        )
    return owning, teacher, difference.draws(generator.permutation(even))


def _interval(values: Floats, confidence: float) -> tuple[float, float]:
    """The two ends given, or quantiles of the draws."""
    if len(values) == 2:
        return float(values[0]), float(values[1])
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def returns_sentence(found: Returns) -> str:
    """The return in words, and where it flips."""
    case, span = found.case, f"{found.difference.confidence * 100:g} %"
    months = "1 month" if case.months == 1 else f"{case.months:g} months"
    worth = f"{usd(1000 * case.usd_per_correct_answer)} for a thousand right answers"
    at = f"at {case.requests_per_month:,.0f} requests a month and {worth}"
    net = f"{_usd(found.net)} a month ({span}: {_usd(found.net_interval[0])} to {_usd(found.net_interval[1])})"
    if found.gives_back is None or found.interval is None:
        text = f"Nothing has to be put in; {at} owning gains {net}"
        return f"{text}." if found.result == "pays" else f"{text}. {_why(found)}"
    low, high = (_usd(value) for value in found.interval)
    text = f"very dollar put in gives back {_usd(found.gives_back)} ({span}: {low} to {high}) in {months}, {at}"
    if found.result == "pays":
        return f"E{text}: {net} net."
    heads = {"never_pays": "Owning never pays", "does_not_pay": "Owning does not pay", "undecided": "Not decided"}
    return f"{heads[found.result]}: e{text}. {_why(found)}"


def _why(found: Returns) -> str:
    """What the answer turns on where it is not that owning pays."""
    case, seen = found.case, found.difference
    if found.flips_at is None or abs(found.flips_at) > 1:
        return "Speeds decide it." if found.result == "undecided" else "No difference in accuracy would change that."
    turn = f"It pays from a difference in accuracy of {points(found.flips_at, signed=True)} on"
    measured = f"what is seen is {points(seen.value, signed=True)} ({seen.confidence * 100:g} %: {_range(seen)})"
    if found.result == "undecided" and seen.lower < found.flips_at < seen.upper:
        return f"{turn}, and {measured}: the interval holds both answers."
    gain = gain_per_request(case.owning(), case.teacher())
    gain += case.usd_per_correct_answer * (1 - case.deferred_share) * seen.value
    if found.result == "does_not_pay" and gain > 0 and not case.dedicated:
        volume = float(f"{case.owning().standing_usd_per_month / gain:.3g}")
        return f"{turn}, and {measured}; as it is, from about {volume:,.0f} requests a month."
    return f"{turn}, and {measured}."


def _range(seen: Difference) -> str:
    low, high = (points(value, signed=True).removesuffix(" points") for value in (seen.lower, seen.upper))
    return f"{low} to {high}"


def _usd(value: float) -> str:
    return f"\N{MINUS SIGN}{usd(-value)}" if value < 0 else usd(value)
