"""What several devices are worth in ideal ones: S(N) = N (1 + u) / (1 + u N^delta), so that S(1) = 1.

One device loses nothing; u is how soon a share of the work is lost to what devices tell each other, delta how fast that
share grows. A published remark gives two conditions: ten cards have the value of 9.5, and 'going from 100 thousand to a
million gives the value of only 300 thousand'. It can be read in two ways, and both are solved for here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from aasut.errors import DataError

FEW, FEW_WORTH = 10.0, 9.5
MANY, MOST, MOST_WORTH = 1e5, 1e6, 3e5
USED = "literal"  # what the words say; the other one is shown beside it
SHOWN = (1, 2, 4, 8, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
MARK = "* extrapolated."
DELTA = (0.0, 1.0)  # above 1 more devices would do less


@dataclass(frozen=True, slots=True)
class Efficiency:
    """A curve, and the numbers of devices `known`, which it was made from: beyond them it is extrapolated."""

    u: float
    delta: float
    known: tuple[float, ...] = (1,)

    def worth(self, devices: float) -> float:
        """Ideal devices that so many are worth."""
        return float(devices * (1 + self.u) / (1 + self.u * devices**self.delta))

    def extrapolated(self, devices: float) -> bool:
        """Is that neither one of the known numbers nor between the first ones, up to ten?"""
        near = [n for n in self.known if n <= FEW]
        return devices > max(near) and devices not in self.known

    def as_dict(self) -> dict[str, Any]:
        points = [{"devices": n, "worth": self.worth(n), "extrapolated": self.extrapolated(n)} for n in SHOWN]
        return {"u": self.u, "delta": self.delta, "known": list(self.known), "points": points}


def as_facts(tokens_per_s: Mapping[int, float]) -> dict[str, Any]:
    """Both published readings and, where speeds were measured, the curve through these; and which one is used."""
    curves = published()
    said = "a million devices are worth 300 thousand; in the other reading, three times a hundred thousand"
    if not tokens_per_s:
        sentence = f"Used: the published remark taken literally: {said}. --processes measures this machine."
        return {"used": USED, "measured": {}, "curves": _plain(curves), "sentence": f"{sentence} {MARK}"}
    here = fit(tokens_per_s)
    speeds = ", ".join(f"{n}: {speed:,.0f} tokens/s" for n, speed in sorted(tokens_per_s.items()))
    sentence = f"Used: what was measured here ({speeds}), with the published delta: {said}."
    return {
        "used": "measured",
        "measured": {str(n): speed for n, speed in tokens_per_s.items()},
        "curves": _plain({"measured": here} | curves),
        "sentence": f"{sentence} {MARK}",
    }


def _plain(curves: Mapping[str, Efficiency]) -> dict[str, Any]:
    return {name: curve.as_dict() for name, curve in curves.items()}


def published() -> dict[str, Efficiency]:
    """Both readings of the remark. `literal`: S(10) = 9.5 and S(10^6) = 3 * 10^5, a million is worth 300 thousand.

    `last_decade`: S(10) = 9.5 and S(10^6) = 3 S(10^5), ten times as many devices do three times the work.
    """
    literal = _solved(lambda curve: curve.worth(MOST) / MOST_WORTH)
    last_decade = _solved(lambda curve: curve.worth(MOST) / curve.worth(MANY) / (MOST_WORTH / MANY))
    return {
        "literal": replace(literal, known=(1, FEW, MOST)),
        "last_decade": replace(last_decade, known=(1, FEW)),
    }


def _solved(ratio: Any) -> Efficiency:
    """The curve through S(10) = 9.5 for which `ratio` is 1."""
    from scipy.optimize import brentq

    least = math.log(FEW / FEW_WORTH) / math.log(FEW)  # at and below it no u gives so little at ten
    delta = brentq(lambda d: math.log(ratio(through(FEW, FEW_WORTH, d))), least + 1e-6, 1.0, xtol=1e-15)
    return through(FEW, FEW_WORTH, float(delta))


def through(devices: float, worth: float, delta: float) -> Efficiency:
    """The curve of that delta for which so many devices have that worth; u is 0 where nothing is lost.

    From S (1 + u N^delta) = N (1 + u). Raises DataError where no u above 0 loses as much.
    """
    lost, room = devices - worth, worth * devices**delta - devices
    if lost <= 0:
        return Efficiency(0.0, delta)
    if room <= 0:
        raise DataError(
            f"{devices:g} devices worth {worth:.3g} lose more than any curve with delta {delta:.3g} allows.",
            "Measure again on an otherwise idle machine; devices that slow each other down are of no use.",
        )
    return Efficiency(lost / room, delta)


def fit(tokens_per_s: Mapping[int, float]) -> Efficiency:
    """The curve for measured speeds by number of devices, one device's among them.

    One number beside 1 gives u, with the published delta in use (see USED); two or more give both, by least
    squares of log S. Raises DataError without a speed of one device and of several.
    """
    if tokens_per_s.get(1, 0.0) <= 0 or len(tokens_per_s) < 2:
        raise DataError("A device curve needs the speed of one device and of several.", "Measure 1 and 2 processes.")
    worth = {n: speed / tokens_per_s[1] for n, speed in sorted(tokens_per_s.items()) if n > 1}
    most = max(worth)
    if len(worth) == 1:
        found = _nearest(most, worth[most], published()[USED].delta)
        return replace(found, known=(1, most))
    from scipy.optimize import least_squares

    def apart(x: Any) -> list[float]:
        curve = Efficiency(math.exp(x[0]), float(x[1]))
        return [math.log(curve.worth(n) / seen) for n, seen in worth.items()]

    best = min(
        (least_squares(apart, [math.log(u), d], bounds=([-20.0, DELTA[0]], [20.0, DELTA[1]])) for u in (0.01, 0.1, 1.0)
         for d in (0.2, 0.5, 0.8)),
        key=lambda one: float(one.cost),
    )  # fmt: skip
    return Efficiency(math.exp(float(best.x[0])), float(best.x[1]), (1, *worth))


def _nearest(devices: int, worth: float, delta: float) -> Efficiency:
    """As `through`; where so much is lost that this delta cannot, the least delta that can, and a bit."""
    if worth > devices ** (1 - delta):
        return through(devices, worth, delta)
    return through(devices, worth, min(DELTA[1], 1 - math.log(worth) / math.log(devices) + 0.05))
