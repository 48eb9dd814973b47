"""The bill by hand, and that machine price and utilisation reach the teacher's price where it runs on a machine."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cases import case

from aasut.economics.case import gives_back


def test_the_bill_by_hand() -> None:
    own = case().owning()
    assert own.usd_per_million_requests == pytest.approx(1.0)
    assert (case().labelling_usd, case().training_usd) == (pytest.approx(22.2), pytest.approx(1.8))
    assert own.usd_per_month(1_000_000) == pytest.approx(1 + 24 / 12 + 1)
    assert case().net_usd_per_month() == pytest.approx(0.0)
    assert case().break_even().requests_per_month == 1_000_000


def test_right_answers_are_worth_something() -> None:
    """A point less at $0.0001 a right answer: 1,000,000 * .01 * .0001 = $1 a month."""
    worse = case(usd_per_correct_answer=0.0001, difference=-0.01)
    assert worse.net_usd_per_month() == pytest.approx(-1.0)


def test_deferred_requests_save_nothing() -> None:
    deferring = case(deferred_share=0.25)
    assert gives_back(deferring.owning(), deferring.teacher(), 1_000_000, 0.0) == pytest.approx(3.0)
    assert deferring.net_usd_per_month() == pytest.approx(-1.0)


def test_a_teacher_on_a_machine_follows_price_and_utilisation() -> None:
    """25 requests/s cost four times what 100 cost."""
    local = case(teacher_requests_per_s=25.0, teacher_usd_per_million_requests=99.0)
    assert local.teacher_price == pytest.approx(4.0)
    assert replace(local, utilisation=0.25).teacher_price == pytest.approx(8.0)
    assert replace(local, usd_per_machine_hour=0.36).teacher_price == pytest.approx(8.0)
    assert replace(case(), utilisation=0.25).teacher_price == 4.0


def test_whole_machines_on_both_sides() -> None:
    """0.18 * 730 = $131.40 a machine: one each, so that the standing $3 are lost until the teacher needs two."""
    whole = case(teacher_requests_per_s=25.0, dedicated=True)
    assert whole.net_usd_per_month() == pytest.approx(-3.0)
    capacity = 25 * 0.5 * 3600 * 730
    assert whole.teacher_capacity == pytest.approx(capacity)
    assert replace(whole, requests_per_month=capacity + 1).net_usd_per_month() == pytest.approx(131.4 - 3)
    assert whole.break_even().first == int(capacity) + 1
    assert case(dedicated=True).teacher_capacity is None
