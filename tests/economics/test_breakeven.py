"""Break-even volumes by hand, and that the curve crosses where the volume says."""

from __future__ import annotations

import json

import pytest

from aasut.economics.breakeven import Owning, break_even, curve
from aasut.errors import DataError


def owning(**changes: float) -> Owning:
    settings = {
        "usd_per_million_requests": 10.0,
        "fixed_usd_per_month": 30.0,
        "one_off_usd": 240.0,
        "months": 12.0,
        "machine_requests_per_month": 400_000.0,
    }
    return Owning(**(settings | changes))


def test_volume_by_hand() -> None:
    # (30 + 240/12) / (60 - 10 per million) = 50 / 0.00005 = 1,000,000 requests, on 3 machines of 400,000.
    found = break_even("an API", 60, owning())
    assert (found.requests_per_month, found.machines) == (1_000_000, 3)
    assert "from about 1,000,000 requests a month, which take 3 machines" in found.as_dict()["sentence"]


def test_deferred_requests_are_paid_twice() -> None:
    # q = .5 leaves 60 * .5 - 10 = 20 per million: 50 / 0.00002.
    assert break_even("an API", 60, owning(deferred_share=0.5)).requests_per_month == 2_500_000


def test_both_ways_cost_the_same_at_the_break_even() -> None:
    for share in (0.0, 0.3):
        own = owning(deferred_share=share)
        found = break_even("an API", 60, own)
        assert found.requests_per_month is not None
        assert own.usd_per_month(found.requests_per_month, 60) == pytest.approx(60 * found.requests_per_month / 1e6)


@pytest.mark.parametrize("price", [10.0, 9.0])
def test_owning_never_pays(price: float) -> None:
    found = break_even("the teacher", price, owning())
    assert found.requests_per_month is None
    assert found.machines is None
    assert found.as_dict()["sentence"].startswith("Owning never pays against the teacher")


def test_nothing_fixed_pays_at_once() -> None:
    found = break_even("the teacher", 20, owning(fixed_usd_per_month=0, one_off_usd=0))
    assert (found.requests_per_month, found.machines) == (0, 1)
    assert "from the first request" in found.as_dict()["sentence"]


def test_capacity_step() -> None:
    own = owning()
    assert [own.machines(v) for v in (1, 400_000, 400_001, 1_200_000)] == [1, 1, 2, 3]


def test_curve_crosses_at_the_volume() -> None:
    found = break_even("an API", 60, owning())
    points = curve(found)
    volumes = points["requests_per_month"]
    assert len(volumes) == len(points["owning_usd"]) == len(points["other_usd"])
    for volume, own, other in zip(volumes, points["owning_usd"], points["other_usd"], strict=True):
        if abs(volume / 1_000_000 - 1) > 0.01:
            assert (own < other) == (volume > 1_000_000)
    assert json.loads(json.dumps(found.as_dict())) == found.as_dict()


@pytest.mark.parametrize("changes", [{"deferred_share": 1.0}, {"months": 0.0}, {"machine_requests_per_month": 0.0}])
def test_nonsense_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(DataError):
        break_even("an API", 60, owning(**changes))
