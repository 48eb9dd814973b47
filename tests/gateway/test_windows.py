from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest

from aasut.gateway.windows import MINUTE, Sliding, day_start, month_end, month_start


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("now", "day", "month", "end"),
    [
        ("2026-02-28T23:59:59", "2026-02-28", "2026-02-01", "2026-03-01"),
        ("2026-03-01T00:00:00", "2026-03-01", "2026-03-01", "2026-04-01"),
        ("2028-02-29T12:00:00", "2028-02-29", "2028-02-01", "2028-03-01"),
        ("2026-12-31T23:59:59", "2026-12-31", "2026-12-01", "2027-01-01"),
        ("2026-01-31T01:00:00", "2026-01-31", "2026-01-01", "2026-02-01"),
    ],
)
def test_days_and_months_are_of_utc(now: str, day: str, month: str, end: str) -> None:
    assert day_start(at(now)) == at(day)
    assert month_start(at(now)) == at(month)
    assert month_end(at(now)) == at(end)


def test_no_sixty_seconds_hold_more_than_the_limit() -> None:
    draw, window, now, let_in = random.Random(1), Sliding(), 0.0, []
    for _ in range(5000):
        now += draw.expovariate(3)
        amount = draw.randrange(1, 9)
        if window.room(100, now) >= amount:
            window.add(amount, now)
            let_in.append((now, amount))
    assert len(let_in) > 500
    for start, _ in let_in:
        assert sum(amount for when, amount in let_in if start <= when < start + MINUTE) <= 100


def test_the_wait_is_as_long_as_it_must_be_and_no_longer() -> None:
    window = Sliding()
    for when, amount in ((0.0, 30), (10.0, 30), (20.0, 40)):
        window.add(amount, when)
    assert window.room(100, 25.0) == 0
    for amount, wait in ((1, 35.0), (30, 35.0), (31, 45.0), (60, 45.0), (61, 55.0), (100, 55.0)):
        assert window.wait(amount, 100, 25.0) == wait
        assert window.wait(amount, 110, 25.0) <= wait
    assert window.wait(50, 150, 25.0) == 0.0
    assert window.reset(25.0) == 55.0
    assert window.room(100, 60.0) == 30


def test_a_correction_counts_while_its_minute_lasts() -> None:
    window = Sliding()
    first, second = window.add(50, 0.0), window.add(20, 30.0)
    window.correct(first, 50, 10)
    assert window.room(100, 59.0) == 70
    assert window.room(100, 60.0) == 80
    window.correct(first, 10, 99)
    assert window.room(100, 60.0) == 80
    window.correct(second, 20, 0)
    assert window.room(100, 60.0) == 100
    assert window.room(100, 1000.0) == 100
    assert window.total == 0


def test_a_busy_minute_is_few_entries_and_lets_in_no_more() -> None:
    window = Sliding()
    entries = [window.add(1, number / 1000) for number in range(60_000)]
    assert len({id(entry) for entry in entries}) <= 600
    assert window.room(60_000, 59.999) == 0
    assert window.room(60_000, 60.0) == 0  # an entry counts until the last of it is a minute old
    assert 0 < window.room(60_000, 60.1) <= 101
    window.correct(entries[30_500], 1, 5)
    assert window.room(60_000, 119.0) == 60_000 - window.total
    assert window.room(60_000, 200.0) == 60_000
