"""What a learning curve says to someone who decides: what more answers are worth, and how many a target takes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from aasut.economics import learning_curve
from aasut.economics.cost import usd
from aasut.economics.learning_curve import LearningCurve, Range
from aasut.evaluate import subsets
from aasut.store import Artefact

Plain = dict[str, Any]

AHEAD = 4.0  # times the answers at hand, to which the curve is drawn
CURVE_POINTS = 33
FAR = 1000.0  # times the answers at hand: beyond it a target counts as out of reach
STEPS = (1, 2, 5, 10)  # a round number of further answers is one of these times a power of ten


def curve_of(made: Artefact, confidence: float = 0.95) -> LearningCurve:
    """The curve of a finished stage `plan`."""
    return learning_curve.fit(*subsets.read(made), confidence)


def facts_of(made: Artefact, confidence: float = 0.95) -> Plain:
    """The key `learning_curve` of report.json, from a finished stage `plan`.

    `measured_up_to`: the curve is extrapolated beyond so many answers. Its band is for one student of so many
    answers, on all inputs like the human-answered ones.
    """
    return as_facts(curve_of(made, confidence), made.facts)


def as_facts(curve: LearningCurve, facts: Plain) -> Plain:
    """See `facts_of`; `facts`: those of the stage."""
    drawn = [round(n) for n in np.geomspace(min(curve.sizes), AHEAD * curve.largest, CURVE_POINTS)]
    ranges = [_clipped(curve.accuracy(n)) for n in drawn]
    items = facts["conservation"]["plan, human answers"]["kept"]
    return {
        "points": [{"examples": n, "accuracy": p.value, "low": p.low, "high": p.high} for n, p in curve.sizes.items()],
        "curve": {
            "examples": drawn,
            "accuracy": [r.value for r in ranges],
            "low": [r.low for r in ranges],
            "high": [r.high for r in ranges],
        },
        "measured_up_to": curve.largest,
        "confidence": curve.confidence,
        "exponent": float(curve.best.exponent[0]),
        "limit": 1 - float(curve.best.limit[0]),
        "student": "linear" if facts["linear"] else "the recipe's",
        "sentence": worth_sentence(curve, step(curve.largest)),
        "measured_on": f"{items:,} human answers in tune",
    }


def step(examples: int) -> int:
    """A round number of further answers: about a quarter of those at hand."""
    wanted = max(examples / 4, 1.0)
    power = 10.0 ** math.floor(math.log10(wanted))
    return int(min((m * power for m in STEPS), key=lambda n: abs(math.log(n / wanted))))


def worth_sentence(curve: LearningCurve, more: int) -> str:
    """ "500 more answers: +0.8 ± 0.5 points"; the interval, which need not be even, lies within ±."""
    gain = curve.gain(more)
    return f"{more:,} more answers: {100 * gain.value:+.1f} ± {100 * half_width(gain):.1f} points"


def half_width(found: Range) -> float:
    """The larger distance from the value to an end of its interval."""
    return max(found.high - found.value, found.value - found.low)


def gains(curve: LearningCurve, usd_per_answer: float) -> list[Plain]:
    """What a quarter more, twice and four times the answers at hand bring, and cost."""
    found = []
    for more in (step(curve.largest), curve.largest, 3 * curve.largest):
        gain = curve.gain(more)
        found.append(
            {
                "more_answers": more,
                "points": 100 * gain.value,
                "ci_points": [100 * gain.low, 100 * gain.high],
                "usd": more * usd_per_answer,
                "sentence": worth_sentence(curve, more),
            }
        )
    return found


def target(curve: LearningCurve, accuracy: float, usd_per_answer: float) -> Plain:
    """How many answers take this student to an accuracy, what they cost, and how sure that is."""
    needed, have = curve.needed(accuracy), curve.largest
    share = float(np.mean(curve.drawn.examples(accuracy) <= AHEAD * have))
    reached = needed.value <= FAR * have
    more = max(0, math.ceil(needed.value) - have) if reached else None
    said = f"{100 * accuracy:g} % right"
    if more is None:
        limit = 1 - float(curve.best.limit[0])
        sentence = (
            f"{said}: no number of answers is expected to be enough; this student's curve ends at {100 * limit:.1f} %."
        )
    elif more == 0:
        sentence = f"{said}: about {_round(needed.value)} answers are expected to be enough, and {have:,} are at hand."
    else:
        far = ", which is far beyond what was measured" if needed.value > AHEAD * have else ""
        price = usd(more * usd_per_answer)
        sentence = f"{said}: about {_round(more)} more answers are expected to be enough, for {price}{far}."
    sentence += f" The chance that {AHEAD:g} times the answers at hand are enough is {100 * share:.0f} %."
    return {
        "accuracy": accuracy,
        "answers": None if more is None else have + more,
        "ci": [n if math.isfinite(n) else None for n in (needed.low, needed.high)],
        "more_answers": more,
        "usd": None if more is None else more * usd_per_answer,
        "chance_within_4_times": share,
        "sentence": sentence,
    }


def _round(number: float) -> str:
    return f"{int(float(f'{number:.2g}')):,}"


def _clipped(found: Range) -> Range:
    return Range(*(min(1.0, max(0.0, value)) for value in (found.value, found.low, found.high)))
