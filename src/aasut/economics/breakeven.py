"""From which volume on owning a student is cheaper than paying for every request elsewhere."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from aasut.economics.cost import MILLION, usd
from aasut.errors import DataError

CURVE_POINTS = 33
CURVE_DECADES = 2.0  # on each side of the break-even volume
NEVER_CENTRE = 1e6  # requests a month in the middle of the curve where there is no break-even


@dataclass(frozen=True, slots=True)
class Owning:
    """What owning a student costs.

    usd_per_million_requests: marginal cost. fixed_usd_per_month: whatever the volume. one_off_usd:
    labels and training, spread over `months`. deferred_share: share of requests that still go to the
    alternative, at its price. machine_requests_per_month: capacity of one machine at its utilisation.
    """

    usd_per_million_requests: float
    fixed_usd_per_month: float
    one_off_usd: float
    months: float
    machine_requests_per_month: float
    deferred_share: float = 0.0

    @property
    def standing_usd_per_month(self) -> float:
        return self.fixed_usd_per_month + self.one_off_usd / self.months

    def usd_per_month(self, requests: float, alternative_usd_per_million: float) -> float:
        """Whole cost of a month with that many requests."""
        each = self.usd_per_million_requests + self.deferred_share * alternative_usd_per_million
        return self.standing_usd_per_month + requests * each / MILLION

    def machines(self, requests: float) -> int:
        """Machines that a month of that many requests needs: at least one, then a step at each capacity."""
        return max(1, math.ceil(requests / self.machine_requests_per_month))


@dataclass(frozen=True, slots=True)
class BreakEven:
    """Volume from which owning is cheaper than `against`; None where it never is."""

    against: str
    usd_per_million_requests: float
    requests_per_month: int | None
    machines: int | None
    owning: Owning

    def as_dict(self) -> dict[str, Any]:
        return {
            "against": self.against,
            "usd_per_million_requests": self.usd_per_million_requests,
            "requests_per_month": self.requests_per_month,
            "machines": self.machines,
            "standing_usd_per_month": self.owning.standing_usd_per_month,
            "sentence": break_even_sentence(self),
            "curve": curve(self),
        }


def break_even(against: str, usd_per_million_requests: float, owning: Owning) -> BreakEven:
    """V = (F + K/M) / (p (1 - q) - c) requests a month, rounded up.

    F fixed USD a month, K one-off USD over M months, p the alternative's price and c the student's
    marginal cost, both per request, q the share deferred. None where p (1 - q) <= c: owning never
    pays. Raises DataError on a share, a number of months or a capacity that cannot be.
    """
    if not 0 <= owning.deferred_share < 1 or owning.months <= 0 or owning.machine_requests_per_month <= 0:
        raise DataError(
            f"No break-even can be had: deferred share {owning.deferred_share:g}, {owning.months:g} months, "
            f"{owning.machine_requests_per_month:g} requests a month and machine.",
            "The share must be from 0 to under 1; months and capacity above 0.",
        )
    gain = usd_per_million_requests * (1 - owning.deferred_share) - owning.usd_per_million_requests
    if gain <= 0:
        return BreakEven(against, usd_per_million_requests, None, None, owning)
    volume = math.ceil(owning.standing_usd_per_month * MILLION / gain)
    return BreakEven(against, usd_per_million_requests, volume, owning.machines(volume), owning)


def curve(found: BreakEven) -> dict[str, list[float]]:
    """Monthly cost of both ways over four decades of volume around the break-even."""
    centre = math.log10(found.requests_per_month or NEVER_CENTRE)
    step = 2 * CURVE_DECADES / (CURVE_POINTS - 1)
    volumes = [float(f"{10 ** (centre - CURVE_DECADES + i * step):.6g}") for i in range(CURVE_POINTS)]
    price = found.usd_per_million_requests
    return {
        "requests_per_month": volumes,
        "owning_usd": [found.owning.usd_per_month(v, price) for v in volumes],
        "other_usd": [v * price / MILLION for v in volumes],
    }


def break_even_sentence(found: BreakEven) -> str:
    """The break-even in words."""
    price, own = usd(found.usd_per_million_requests), usd(found.owning.usd_per_million_requests)
    if found.requests_per_month is None:
        return (
            f"Owning never pays against {found.against}: it costs {price} per million requests, the student {own} "
            "before anything fixed."
        )
    if found.requests_per_month <= 1:
        return f"Owning pays against {found.against} from the first request: nothing stands against {price} but {own}."
    count = "one machine" if found.machines == 1 else f"{found.machines:,} machines"
    return (
        f"Owning pays against {found.against} ({price} per million requests) from "
        f"about {int(float(f'{found.requests_per_month:.3g}')):,} requests a month, which take {count}."
    )
