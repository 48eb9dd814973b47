"""All that the answer to 'does owning pay?' hangs on, in one place, and the two sides of the bill made of it."""

from __future__ import annotations

from dataclasses import dataclass

from aasut.economics.breakeven import Alternative, BreakEven, Number, Owning, break_even
from aasut.economics.cost import monthly_capacity, usd_per_million_requests


@dataclass(frozen=True, slots=True)
class Case:
    """Inputs of the money side of a run.

    Speeds in requests/s at full use, shares 0 to 1, months in months. labels_usd: paid for labels, by
    the teacher and by people. labelling_hours, training_hours: of a machine, at usd_per_machine_hour.
    The teacher runs at teacher_requests_per_s on a machine of the same price, or, where that is None,
    costs teacher_usd_per_million_requests. usd_per_correct_answer: what one more right answer is worth.
    difference: accuracy of the student minus that of the teacher, on the requests that are not deferred.
    """

    requests_per_month: float
    usd_per_machine_hour: float
    utilisation: float
    student_requests_per_s: float
    teacher_requests_per_s: float | None
    teacher_usd_per_million_requests: float
    fixed_usd_per_month: float
    labels_usd: float
    labelling_hours: float
    training_hours: float
    months: float
    deferred_share: float = 0.0
    dedicated: bool = False
    usd_per_correct_answer: float = 0.0
    difference: float = 0.0

    @property
    def labelling_usd(self) -> float:
        """What the labels cost, all told."""
        return self.labels_usd + self.labelling_hours * self.usd_per_machine_hour

    @property
    def training_usd(self) -> float:
        return self.training_hours * self.usd_per_machine_hour

    @property
    def teacher_price(self) -> float:
        """USD for a million requests of the teacher."""
        if self.teacher_requests_per_s is None:
            return self.teacher_usd_per_million_requests
        return usd_per_million_requests(self.usd_per_machine_hour, self.teacher_requests_per_s, self.utilisation)

    @property
    def teacher_capacity(self) -> float | None:
        """Requests a month of one of the teacher's machines, None where no whole ones are paid."""
        if self.teacher_requests_per_s is None or not self.dedicated:
            return None
        return monthly_capacity(self.teacher_requests_per_s, self.utilisation)

    def owning(self) -> Owning:
        return Owning(
            usd_per_million_requests(self.usd_per_machine_hour, self.student_requests_per_s, self.utilisation),
            self.fixed_usd_per_month,
            self.labelling_usd + self.training_usd,
            self.months,
            monthly_capacity(self.student_requests_per_s, self.utilisation),
            self.deferred_share,
            self.dedicated,
        )

    def teacher(self) -> Alternative:
        return Alternative("the teacher", self.teacher_price, self.teacher_capacity)

    def break_even(self) -> BreakEven:
        """Against the teacher."""
        return break_even("the teacher", self.teacher_price, self.owning(), self.teacher_capacity)

    def net_usd_per_month(self) -> float:
        """What owning gains a month over the teacher, the one-off costs spread over the months; under 0, loses."""
        owning, requests = self.owning(), self.requests_per_month
        back = gives_back(owning, self.teacher(), requests, self.usd_per_correct_answer * self.difference)
        return float(back - owning.usd_per_month(requests))


def gives_back(owning: Owning, other: Alternative, requests: float, usd_per_request: Number) -> Number:
    """USD a month that owning is worth: what `other` need not be paid, and what its answers are worth more or less.

    V (1 - q) (p + v d): `usd_per_request` is v d, the value of a right answer times the difference in
    accuracy; deferred requests have the other's answers. Held against `owning.usd_per_month`, what is put in.
    """
    saved = other.usd_per_month(requests) - other.usd_per_month(requests * owning.deferred_share)
    return saved + requests * (1 - owning.deferred_share) * usd_per_request
