from __future__ import annotations

import asyncio
import random

import pytest

from aasut.errors import TeacherError
from aasut.teacher.budget import Budget


def test_prices_are_per_million_tokens() -> None:
    assert Budget(None, 0.5, 2.0).price(1_000_000, 500_000) == 1.5
    assert Budget(None, 0.5, 2.0).price(0, 1) == 2e-6


def test_calls_in_flight_count_at_their_worst() -> None:
    async def main() -> None:
        budget = Budget(1.0, 1, 1)
        await budget.reserve(0.5)
        await budget.reserve(0.5)
        third = asyncio.create_task(budget.reserve(0.01))
        await asyncio.sleep(0)
        assert (third.done(), budget.in_flight) == (False, 1.0)  # there may be room later
        budget.settle(0.5, 0.2)
        await third
        budget.settle(0.5, 0.1)
        budget.settle(0.01, 0.0)
        assert (budget.in_flight, budget.spent) == (0.0, pytest.approx(0.3))
        await budget.reserve(0.7)
        budget.settle(0.7, 0.7)
        with pytest.raises(TeacherError, match=r"could pass the cap of \$1\.0000 \(spent so far: \$1\.0000\)"):
            await budget.reserve(0.01)

    asyncio.run(main())


def test_the_cap_is_found_to_be_reached_while_others_wait() -> None:
    """Two wait for room; the call in flight costs so much that there will be none."""

    async def main() -> None:
        budget = Budget(1.0, 1, 1)
        await budget.reserve(0.9)
        waiting = [asyncio.create_task(budget.reserve(0.5)) for _ in range(2)]
        await asyncio.sleep(0)
        budget.settle(0.9, 0.8)
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(error, TeacherError) for error in found)
        assert (budget.in_flight, budget.spent) == (0.0, 0.8)

    asyncio.run(main())


@pytest.mark.parametrize("seed", range(5))
def test_the_cap_is_never_passed_and_used_up(seed: int) -> None:
    """Calls of random worst cases and prices, many at once: what is spent stays below, and comes close."""
    draw = random.Random(seed)
    worsts = [draw.uniform(0.01, 0.1) for _ in range(300)]

    async def main() -> float:
        budget = Budget(2.0, 1, 1)
        most = 0.0

        async def call(worst: float) -> None:
            nonlocal most
            await budget.reserve(worst)
            most = max(most, budget.spent + budget.in_flight)
            await asyncio.sleep(draw.uniform(0, 0.002))
            budget.settle(worst, worst * draw.choice([0, 0.3, 1]))

        await asyncio.gather(*map(call, worsts), return_exceptions=True)
        assert most <= 2.0 + 1e-9
        assert budget.in_flight == 0.0
        return budget.spent

    assert 1.85 < asyncio.run(main()) <= 2.0 + 1e-9


def test_a_cap_of_nothing_lets_free_calls_through_only() -> None:
    async def main() -> None:
        budget = Budget(0.0, 1, 1)
        await budget.reserve(0.0)
        with pytest.raises(TeacherError):
            await budget.reserve(1e-9)

    asyncio.run(main())


def test_without_a_cap_nothing_stops() -> None:
    async def main() -> None:
        budget = Budget(None, 1, 1)
        await budget.reserve(1e9)
        budget.settle(1e9, 1e9)
        assert budget.spent == 1e9

    asyncio.run(main())
