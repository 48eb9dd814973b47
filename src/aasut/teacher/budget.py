"""A hard spending cap: calls in flight count at their worst case, so the cap is never passed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aasut.errors import TeacherError


class Reservation:
    """The money set aside for one call; `settle` replaces the worst case by the true price."""

    def __init__(self) -> None:
        self.usd = 0.0

    def settle(self, usd: float) -> None:
        self.usd = usd


class Budget:
    """Prices of tokens and an optional cap, in dollars."""

    def __init__(self, max_usd: float | None, usd_per_million_input: float, usd_per_million_output: float) -> None:
        self.max_usd = max_usd
        self.input, self.output = usd_per_million_input, usd_per_million_output
        self.spent = self.in_flight = 0.0

    def price(self, input_tokens: int, output_tokens: int) -> float:
        return (input_tokens * self.input + output_tokens * self.output) / 1e6

    @contextmanager
    def reserve(self, worst: float) -> Iterator[Reservation]:
        """Set `worst` dollars aside for a call. Raises TeacherError where that could pass the cap."""
        if self.max_usd is not None and self.spent + self.in_flight + worst > self.max_usd:
            raise TeacherError(
                f"The next call could pass the cap of ${self.max_usd:.4f} (spent so far: ${self.spent:.4f}).",
                "Raise teacher.max_usd, or take fewer inputs with data.limit; the answers so far are kept.",
            )
        reservation = Reservation()
        self.in_flight += worst
        try:
            yield reservation
        finally:
            self.in_flight -= worst
            self.spent += reservation.usd
