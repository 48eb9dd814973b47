"""From which volume on owning a student is cheaper than paying for every request elsewhere.

Machines are paid in one of two ways. Shared: the hours used are paid, at the declared utilisation,
so that cost grows with volume alone. Dedicated: whole machines are paid by the month, and cost steps
up wherever one more is needed; owning may then be cheaper, and dearer again just after a step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from aasut.economics.cost import MILLION, usd
from aasut.errors import DataError

CURVE_POINTS = 33
CURVE_DECADES = 2.0  # on each side of the break-even volume
CURVE_STEPS = 24  # machines whose step is drawn; later ones lie too close to be seen
NEVER_CENTRE = 1e6  # requests a month in the middle of the curve where there is no break-even
MOST_STEPS = 2_000_000  # looked at; more are met only where owning gains under a millionth of its cost
ROUNDING = 1e-12
EQUAL = 1e-9  # of a machine's month: costs that near are the same

Number = Any  # a float, or an array of draws


@dataclass(frozen=True, slots=True)
class Owning:
    """What owning a student costs; every amount may be an array of draws.

    usd_per_million_requests: marginal cost, a machine's price over its requests at its utilisation.
    fixed_usd_per_month: whatever the volume. one_off_usd: labels and training, spread over `months`.
    deferred_share: share of requests that go on to the alternative, at its price. machine_requests_per_month:
    capacity of one machine at its utilisation. dedicated: are whole machines paid?
    """

    usd_per_million_requests: Number
    fixed_usd_per_month: Number
    one_off_usd: Number
    months: Number
    machine_requests_per_month: Number
    deferred_share: Number = 0.0
    dedicated: bool = False

    @property
    def standing_usd_per_month(self) -> Number:
        return self.fixed_usd_per_month + self.one_off_usd / self.months

    @property
    def machine_usd_per_month(self) -> Number:
        """What one machine costs a month where it is paid whole."""
        return self.usd_per_million_requests * self.machine_requests_per_month / MILLION

    def machines(self, requests: Number) -> Number:
        """Machines that a month of that many requests needs: at least one, then a step at each capacity."""
        return np.maximum(1.0, np.ceil(requests / self.machine_requests_per_month))

    def usd_per_month(self, requests: Number) -> Number:
        """Cost of a month with that many requests, all of which the student sees; without the deferred ones' price."""
        if self.dedicated:
            return self.standing_usd_per_month + self.machines(requests) * self.machine_usd_per_month
        return self.standing_usd_per_month + requests * self.usd_per_million_requests / MILLION


@dataclass(frozen=True, slots=True)
class Alternative:
    """What the same requests cost elsewhere; amounts may be arrays of draws.

    machine_requests_per_month: capacity of one of its machines, where those are paid whole; None where
    it is paid by the request.
    """

    name: str
    usd_per_million_requests: Number
    machine_requests_per_month: Number | None = None

    @property
    def machine_usd_per_month(self) -> Number | None:
        if self.machine_requests_per_month is None:
            return None
        return self.usd_per_million_requests * self.machine_requests_per_month / MILLION

    def usd_per_month(self, requests: Number) -> Number:
        if self.machine_requests_per_month is None:
            return requests * self.usd_per_million_requests / MILLION
        return np.ceil(requests / self.machine_requests_per_month) * self.machine_usd_per_month


@dataclass(frozen=True, slots=True)
class BreakEven:
    """Volumes at which owning is cheaper than `other`, in requests a month; None where it never is.

    requests_per_month: the smallest from which it stays cheaper; first: the smallest at which it is
    cheaper at all, lower where a step makes it dearer again for a while.
    """

    owning: Owning
    other: Alternative
    requests_per_month: int | None
    first: int | None

    @property
    def machines(self) -> int | None:
        return None if self.requests_per_month is None else int(self.owning.machines(self.requests_per_month))

    def owning_usd(self, requests: Number) -> Number:
        """A month's whole cost of owning, with what is deferred."""
        return self.owning.usd_per_month(requests) + self.other.usd_per_month(requests * self.owning.deferred_share)

    def as_dict(self) -> dict[str, Any]:
        volume = self.requests_per_month
        return {
            "against": self.other.name,
            "usd_per_million_requests": self.other.usd_per_million_requests,
            "requests_per_month": volume,
            "first_requests_per_month": self.first,
            "usd_per_month": None if volume is None else float(self.other.usd_per_month(volume)),
            "machines": self.machines,
            "standing_usd_per_month": self.owning.standing_usd_per_month,
            "deferred_share": self.owning.deferred_share,
            "why_never": why_never(self) if volume is None else None,
            "sentence": break_even_sentence(self),
            "curve": curve(self),
        }


def break_even(
    against: str, usd_per_million_requests: float, owning: Owning, machine_requests_per_month: float | None = None
) -> BreakEven:
    """The volumes from which owning is cheaper than `against`.

    Shared machines: V = (F + K/M) / (p (1 - q) - c) requests a month, rounded up. F fixed USD a month,
    K one-off USD over M months, p the alternative's price and c the student's marginal cost, both per
    request, q the share deferred. Dedicated machines: the smallest whole numbers of requests, exactly;
    `machine_requests_per_month` is the capacity of the alternative's machines, where it runs on whole
    ones of the same price. In both ways owning never pays where p (1 - q) <= c: machines rounded up
    one by one are no fewer than together. Raises DataError on a share, a number of months, a capacity
    or a price of machines that cannot be.
    """
    if not 0 <= owning.deferred_share < 1 or owning.months <= 0 or owning.machine_requests_per_month <= 0:
        raise DataError(
            f"No break-even can be had: deferred share {owning.deferred_share:g}, {owning.months:g} months, "
            f"{owning.machine_requests_per_month:g} requests a month and machine.",
            "The share must be from 0 to under 1; months and capacity above 0.",
        )
    other = Alternative(against, usd_per_million_requests, machine_requests_per_month if owning.dedicated else None)
    if not math.isclose(other.machine_usd_per_month or owning.machine_usd_per_month, owning.machine_usd_per_month):
        raise DataError(
            f"A machine of {against} costs {usd(other.machine_usd_per_month or 0)} a month, one of the student's "
            f"{usd(owning.machine_usd_per_month)}.",
            "Give the capacity of a machine of the same price.",
        )
    gain = gain_per_request(owning, other)
    if gain <= 0:
        return BreakEven(owning, other, None, None)
    if owning.dedicated and owning.usd_per_million_requests > 0:
        return BreakEven(owning, other, *_over_steps(owning, other, gain))
    volume = int(_up(owning.standing_usd_per_month / gain))
    return BreakEven(owning, other, volume, volume)


def gain_per_request(owning: Owning, other: Alternative) -> float:
    """p (1 - q) - c: what a request saves in USD, in the long run where machines are paid whole."""
    price = other.usd_per_million_requests * (1 - owning.deferred_share)
    return float(price - owning.usd_per_million_requests) / MILLION


def _over_steps(owning: Owning, other: Alternative, gain: float) -> tuple[int | None, int | None]:
    """(smallest volume from which owning stays cheaper, smallest at which it is cheaper), whole requests.

    As x <= ceil(x) < x + 1, owning is dearer below (standing cost - a machine of the other's) / gain
    and cheaper above (standing cost + a machine on each side) / gain. Between these, cost differs by
    a straight line from one step to the next, and each piece is solved.
    """
    standing, own_machine = owning.standing_usd_per_month, owning.machine_usd_per_month
    sizes, up, down = [owning.machine_requests_per_month], 0.0, own_machine
    slope = other.usd_per_million_requests * (1 - owning.deferred_share) / MILLION
    if (capacity := other.machine_requests_per_month) is not None:
        slope, up = 0.0, own_machine
        sizes.append(capacity)
        if owning.deferred_share:
            sizes.append(capacity / owning.deferred_share)
            down += up
    low = max(1, math.floor((standing - up) / gain))
    high = math.ceil((standing + down) / gain) + 1
    if sum((high - low) / size for size in sizes) > MOST_STEPS:
        return None, None
    starts = [np.floor(np.arange(low // size, high // size + 1) * size) + 1 for size in sizes]
    start = np.unique(np.concatenate([[float(low)], *starts]))
    start = start[(start >= low) & (start <= high)]
    end = np.append(start[1:] - 1, high)
    ahead = other.usd_per_month(start) - other.usd_per_month(start * owning.deferred_share)
    ahead = ahead - owning.usd_per_month(start)
    if slope:
        turn = start + _up(np.maximum(0.0, -ahead) / slope)
    else:
        turn = np.where(ahead > EQUAL * own_machine, start, np.inf)
    first = turn[turn <= end][0]
    late = np.flatnonzero(turn > start)
    stays = start[0]
    if late.size:
        last = late[-1]
        stays = turn[last] if turn[last] <= end[last] else start[last + 1]
    return int(stays), int(first)


def _up(requests: Number) -> Number:
    """The next whole number; what lies above one by a rounding error is that one."""
    return np.ceil(requests * (1 - ROUNDING))


def curve(found: BreakEven) -> dict[str, list[float]]:
    """Monthly cost of both ways over four decades of volume around the break-even, both sides of each early step."""
    centre = math.log10(found.requests_per_month or NEVER_CENTRE)
    low, high = centre - CURVE_DECADES, centre + CURVE_DECADES
    volumes = {float(f"{v:.6g}") for v in np.logspace(low, high, CURVE_POINTS)}
    sizes = [found.owning.machine_requests_per_month] if found.owning.dedicated else []
    if found.other.machine_requests_per_month is not None:
        sizes.append(found.other.machine_requests_per_month)
    for size in sizes:
        ends = [float(math.floor(size * number)) for number in range(1, CURVE_STEPS + 1)]
        volumes |= {v for end in ends for v in (end, end + 1) if 10**low <= v <= 10**high}
    points = sorted(volumes)
    return {
        "requests_per_month": points,
        "owning_usd": [float(found.owning_usd(v)) for v in points],
        "other_usd": [float(found.other.usd_per_month(v)) for v in points],
    }


def why_never(found: BreakEven) -> str:
    """Why no volume pays, in words."""
    price, own = found.other.usd_per_million_requests, found.owning.usd_per_million_requests
    share = found.owning.deferred_share
    if not price:
        return "it costs nothing per request."
    if price <= own:
        return f"it costs {usd(price)} per million requests, the student {usd(own)} before anything fixed."
    if share:
        return (
            f"it costs {usd(price)} per million requests, of which the student saves {usd(price * (1 - share))}, as "
            f"{share * 100:.3g} % of the requests still go there, and costs {usd(own)} itself."
        )
    return f"at {usd(price)} per million requests against {usd(own)} it gains less than can be counted."


def break_even_sentence(found: BreakEven) -> str:
    """The break-even in words."""
    name, price = found.other.name, usd(found.other.usd_per_million_requests)
    if found.requests_per_month is None or found.first is None:
        return f"Owning never pays against {name}: {why_never(found)}"
    if found.requests_per_month <= 1:
        own = usd(found.owning.usd_per_million_requests)
        return f"Owning pays against {name} from the first request: nothing stands against {price} but {own}."
    count = "one machine" if found.machines == 1 else f"{found.machines:,} machines"
    text = (
        f"Owning pays against {name} ({price} per million requests) from "
        f"about {_about(found.requests_per_month)} requests a month, which take {count}"
    )
    if found.first < found.requests_per_month:
        text += f"; in stretches from about {_about(found.first)} on, as one more machine makes it dearer for a while"
    return text + "."


def _about(requests: int) -> str:
    """Three digits of a count."""
    return f"{int(float(f'{requests:.3g}')):,}"
