"""A hard spending cap: calls in flight count at their worst case, so the cap is never passed."""

from __future__ import annotations

import asyncio

from aasut.errors import TeacherError


class Budget:
    """Prices of tokens and an optional cap, in dollars. `spent` and `in_flight` never add up to more than the cap."""

    def __init__(self, max_usd: float | None, usd_per_million_input: float, usd_per_million_output: float) -> None:
        self.max_usd = max_usd
        self.input, self.output = usd_per_million_input, usd_per_million_output
        self.spent = self.in_flight = 0.0
        self._calls = 0  # in flight
        self._waiting: list[asyncio.Future[None]] = []

    def price(self, input_tokens: int, output_tokens: int) -> float:
        return (input_tokens * self.input + output_tokens * self.output) / 1e6

    async def reserve(self, worst: float) -> None:
        """Set `worst` dollars aside for a call, once calls in flight leave room for it; `settle` must follow.

        Raises TeacherError where there will never be room.
        """
        while self.max_usd is not None and self.spent + self.in_flight + worst > self.max_usd:
            if self._calls == 0 or self.spent + worst > self.max_usd:
                raise TeacherError(
                    f"The next call could pass the cap of ${self.max_usd:.4f} (spent so far: ${self.spent:.4f}).",
                    "Raise teacher.max_usd, or take fewer inputs with data.limit; the answers so far are kept.",
                )
            settled = asyncio.get_running_loop().create_future()
            self._waiting.append(settled)
            await settled
        self.in_flight += worst
        self._calls += 1

    def settle(self, worst: float, usd: float) -> None:
        """Replace a call's worst case by its true price; 0 for a call that was refused."""
        self._calls -= 1
        self.in_flight = self.in_flight - worst if self._calls else 0.0  # nothing is left of roundings
        self.spent += usd
        waiting, self._waiting = self._waiting, []
        for settled in waiting:
            if not settled.done():
                settled.set_result(None)
