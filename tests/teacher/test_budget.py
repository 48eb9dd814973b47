from __future__ import annotations

import pytest

from aasut.errors import TeacherError
from aasut.teacher.budget import Budget


def test_prices_are_per_million_tokens() -> None:
    assert Budget(None, 0.5, 2.0).price(1_000_000, 500_000) == 1.5
    assert Budget(None, 0.5, 2.0).price(0, 1) == 2e-6


def test_calls_in_flight_count_at_their_worst() -> None:
    budget = Budget(1.0, 1, 1)
    with budget.reserve(0.5) as first, budget.reserve(0.5) as second:
        with pytest.raises(TeacherError, match=r"could pass the cap of \$1\.0000 \(spent so far: \$0\.0000\)"):
            budget.reserve(0.01).__enter__()
        assert budget.in_flight == 1.0
        first.settle(0.2)
        second.settle(0.1)
    assert (budget.in_flight, budget.spent) == (0.0, pytest.approx(0.3))
    with budget.reserve(0.7) as third:
        third.settle(0.7)
    with pytest.raises(TeacherError, match=r"spent so far: \$1\.0000"), budget.reserve(0.01):
        pass
    assert (budget.in_flight, budget.spent) == (0.0, pytest.approx(1.0))


def test_a_call_that_never_was_costs_nothing() -> None:
    budget = Budget(1.0, 1, 1)
    with pytest.raises(RuntimeError), budget.reserve(0.9):
        raise RuntimeError
    assert (budget.in_flight, budget.spent) == (0.0, 0.0)


def test_a_cap_of_nothing_lets_free_calls_through_only() -> None:
    budget = Budget(0.0, 1, 1)
    with budget.reserve(0.0):
        pass
    with pytest.raises(TeacherError), budget.reserve(1e-9):
        pass


def test_without_a_cap_nothing_stops() -> None:
    budget = Budget(None, 1, 1)
    with budget.reserve(1e9) as call:
        call.settle(1e9)
    assert budget.spent == 1e9
