"""Prices by hand."""

from __future__ import annotations

import pytest

from aasut.economics import cost
from aasut.errors import DataError


def test_machine_price_by_hand() -> None:
    # 100 requests/s at half use are 180,000 an hour; at $0.09 an hour a million cost $0.50.
    assert cost.usd_per_million_requests(0.09, 100, 0.5) == pytest.approx(0.5)


def test_a_published_price_at_its_real_utilisation() -> None:
    # The same machine: $3 per million at full use is about $60 at 5 %.
    full = cost.usd_per_million_requests(1.08, 100, 1.0)
    assert full == pytest.approx(3.0)
    assert cost.usd_per_million_requests(1.08, 100, 0.05) == pytest.approx(20 * full)


def test_api_price_by_hand() -> None:
    # 300 tokens in at $0.15 and 2 out at $0.60 per million tokens.
    assert cost.api_usd_per_million_requests(300, 2, 0.15, 0.60) == pytest.approx(46.2)


def test_capacity_by_hand() -> None:
    assert cost.monthly_capacity(10, 0.5) == pytest.approx(5 * 3600 * 730)


@pytest.mark.parametrize(("rate", "use"), [(0, 0.5), (-1, 0.5), (float("nan"), 0.5), (10, 0), (10, 1.5)])
def test_no_price_from_nonsense(rate: float, use: float) -> None:
    with pytest.raises(DataError) as caught:
        cost.usd_per_million_requests(0.1, rate, use)
    assert "utilisation" in caught.value.remedy
    with pytest.raises(DataError):
        cost.monthly_capacity(rate, use)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "$0"), (0.00042, "$0.00042"), (0.0421, "$0.042"), (1.349, "$1.35"), (12400.4, "$12,400"), (3e-6, "$3.0e-06")],
)
def test_usd(value: float, text: str) -> None:
    assert cost.usd(value) == text


def test_sentence() -> None:
    text = cost.cost_sentence(0.2, 1.2, 5.1)
    assert "$0.20 with the student and $1.20 with the teacher: 6.0 times cheaper (5.1 times cheaper without" in text
    assert "2.0 times dearer." in cost.cost_sentence(1.0, 0.5, None)
    assert "free" in cost.cost_sentence(0.0, 0.0, None)
    assert cost.cost_sentence(0.2, 0.0, None).startswith("The teacher costs nothing per request, a million requests of")
