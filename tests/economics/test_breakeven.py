"""Break-even volumes by hand, against a count of every volume, and that the curve crosses where the volume says."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import pytest

from aasut.economics import cost
from aasut.economics.breakeven import BreakEven, Owning, break_even, curve
from aasut.errors import DataError


def owning(**changes: Any) -> Owning:
    settings = {
        "usd_per_million_requests": 10.0,
        "fixed_usd_per_month": 30.0,
        "one_off_usd": 240.0,
        "months": 12.0,
        "machine_requests_per_month": 400_000.0,
    }
    return Owning(**(settings | changes))


def counted(found: BreakEven, most: int) -> tuple[int | None, int | None]:
    """(smallest volume from which owning stays cheaper up to `most`, smallest at which it is), in exact arithmetic."""
    own, other = found.owning, found.other
    price, marginal, share, capacity = (
        Fraction(str(value))
        for value in (
            other.usd_per_million_requests,
            own.usd_per_million_requests,
            own.deferred_share,
            own.machine_requests_per_month,
        )
    )
    standing = Fraction(str(own.fixed_usd_per_month)) + Fraction(str(own.one_off_usd)) / Fraction(str(own.months))

    def elsewhere(requests: Fraction) -> Fraction:
        if other.machine_requests_per_month is None:
            return price * requests / 1_000_000
        size = marginal * capacity / price
        return -(-requests // size) * price * size / 1_000_000

    pays = []
    for requests in range(1, most + 1):
        volume = Fraction(requests)
        machine = marginal * volume / 1_000_000
        if own.dedicated:
            machine = max(1, -(-volume // capacity)) * marginal * capacity / 1_000_000
        ahead = elsewhere(volume) - elsewhere(volume * share) - standing - machine
        pays.append(ahead >= 0 if other.machine_requests_per_month is None else ahead > 0)
    first = pays.index(True) + 1 if any(pays) else None
    late = [number for number, paid in enumerate(pays, 1) if not paid]
    return (None if late and late[-1] == most else (late[-1] + 1 if late else 1)), first


def test_volume_by_hand() -> None:
    # (30 + 240/12) / (60 - 10 per million) = 50 / 0.00005 = 1,000,000 requests, on 3 machines of 400,000.
    found = break_even("an API", 60, owning())
    assert (found.requests_per_month, found.first, found.machines) == (1_000_000, 1_000_000, 3)
    assert "from about 1,000,000 requests a month, which take 3 machines." in found.as_dict()["sentence"]


def test_deferred_requests_are_paid_twice() -> None:
    # q = .5 leaves 60 * .5 - 10 = 20 per million: 50 / 0.00002.
    assert break_even("an API", 60, owning(deferred_share=0.5)).requests_per_month == 2_500_000


def test_both_ways_cost_the_same_at_the_break_even() -> None:
    for share in (0.0, 0.3):
        found = break_even("an API", 60, owning(deferred_share=share))
        assert found.requests_per_month is not None
        assert found.owning_usd(found.requests_per_month) == pytest.approx(60 * found.requests_per_month / 1e6)


def test_utilisation_moves_the_break_even() -> None:
    """The published $3 a million assumed full use; it is $57.6 at 5 %, as $3 is a rounded $2.88."""
    full, real = (cost.usd_per_million_requests(1.0368, 100, use) for use in (1.0, 0.05))
    assert (full, real) == (pytest.approx(2.88), pytest.approx(57.6))
    assert break_even("an API", 50, owning(usd_per_million_requests=full)).requests_per_month == 1_061_121
    assert break_even("an API", 50, owning(usd_per_million_requests=real)).requests_per_month is None


def test_whole_machines_by_hand() -> None:
    """A machine costs $4 for 400,000 requests of $60 a million; $50 stand.

    One machine would pay from 54 / .00006 = 900,000, which is past it. Three, from 62 / .00006 = 1,033,334, are
    within 1,200,000; at 1,200,001 a fourth makes it $66, under $72.
    """
    found = break_even("an API", 60, owning(dedicated=True))
    assert (found.requests_per_month, found.first, found.machines) == (1_033_334, 1_033_334, 3)


def test_owning_may_pay_in_stretches() -> None:
    """Machines of $9 for 1,000,000 requests of $10 a million; $1 stands. At 1,000,000 it is $10 against $10: it pays.

    From 1,000,001 two machines make it $19, until 1,900,000; n machines pay from 900,000 n + 100,000 on,
    and 10 of them from 9,100,000. The step at 10,000,000 lifts it from $91 to $100 at $100.00001: it stays.
    """
    found = break_even("an API", 10, owning(
        usd_per_million_requests=9.0, fixed_usd_per_month=1.0, one_off_usd=0.0, machine_requests_per_month=1e6,
        dedicated=True,
    ))  # fmt: skip
    assert (found.first, found.requests_per_month, found.machines) == (1_000_000, 9_100_000, 10)
    assert "from about 9,100,000 requests a month" in found.as_dict()["sentence"]
    assert "in stretches from about 1,000,000 on" in found.as_dict()["sentence"]


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.25])
@pytest.mark.parametrize(("standing", "capacity"), [(0.0, 7.25), (0.0005, 100.5), (0.003, 60.0)])
def test_steps_against_a_count_of_every_volume(standing: float, capacity: float, share: float, whole: bool) -> None:
    own = owning(
        fixed_usd_per_month=standing, one_off_usd=0.0, machine_requests_per_month=capacity, deferred_share=share,
        dedicated=True,
    )  # fmt: skip
    for price in (12.0, 18.0, 30.0):
        found = break_even("an API", price, own, capacity * 10 / price if whole else None)
        if price * (1 - share) <= 10:
            assert (found.requests_per_month, found.first) == counted(found, 600) == (None, None)
        else:
            assert found.requests_per_month is not None
            if found.requests_per_month < 700:
                assert (found.requests_per_month, found.first) == counted(found, 1200)


@pytest.mark.parametrize("standing", [0.0005, 0.001])
def test_the_deferred_have_steps_of_their_own(standing: float) -> None:
    """More than half goes on to the teacher's machines, of 20 requests each; the student's have 60."""
    own = owning(
        fixed_usd_per_month=standing, one_off_usd=0.0, machine_requests_per_month=60.0, deferred_share=0.6,
        dedicated=True,
    )  # fmt: skip
    found = break_even("an API", 30, own, 20.0)
    assert found.requests_per_month is not None
    assert found.requests_per_month < 1100
    assert (found.requests_per_month, found.first) == counted(found, 1200)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_the_closed_form_against_a_count_of_every_volume(share: float) -> None:
    for price in (18.0, 35.0):
        own = owning(fixed_usd_per_month=0.003, one_off_usd=0.036, deferred_share=share)
        found = break_even("an API", price, own)
        assert (found.requests_per_month, found.first) == counted(found, 6_000)


def test_many_small_machines_come_near_the_closed_form() -> None:
    shared = break_even("an API", 60, owning()).requests_per_month
    whole = break_even("an API", 60, owning(machine_requests_per_month=100.0, dedicated=True)).requests_per_month
    assert shared is not None
    assert whole is not None
    assert shared <= whole <= shared + 100


@pytest.mark.parametrize("dedicated", [False, True])
@pytest.mark.parametrize(
    ("price", "share", "why"),
    [
        (10.0, 0.0, "it costs $10.00 per million requests, the student $10.00 before anything fixed."),
        (9.0, 0.0, "the student $10.00 before anything fixed"),
        (12.0, 0.5, "the student saves $6.00, as 50 % of the requests still go there, and costs $10.00 itself."),
        (0.0, 0.0, "it costs nothing per request."),
    ],
)
def test_owning_never_pays(price: float, share: float, why: str, dedicated: bool) -> None:
    found = break_even("the teacher", price, owning(deferred_share=share, dedicated=dedicated))
    assert (found.requests_per_month, found.first, found.machines) == (None, None, None)
    plain = found.as_dict()
    assert plain["sentence"].startswith("Owning never pays against the teacher: it costs ")
    assert why in plain["sentence"]
    assert plain["why_never"] in plain["sentence"]


def test_a_gain_too_small_to_count_never_pays() -> None:
    found = break_even("an API", 10.000001, owning(dedicated=True, machine_requests_per_month=2.0))
    assert found.requests_per_month is None
    assert "less than can be counted" in found.as_dict()["sentence"]


def test_nothing_fixed_pays_at_once() -> None:
    found = break_even("the teacher", 20, owning(fixed_usd_per_month=0, one_off_usd=0))
    assert (found.requests_per_month, found.machines) == (0, 1)
    assert "from the first request" in found.as_dict()["sentence"]


def test_equal_machines_on_both_sides_are_no_saving() -> None:
    """A student of double speed: nothing is saved until the teacher needs its second machine."""
    own = owning(fixed_usd_per_month=0.0, one_off_usd=0.0, dedicated=True)
    assert break_even("the teacher", 20, own, 200_000.0).first == 200_001
    with pytest.raises(DataError, match=r"costs \$2.00 a month, one of the student's \$4.00"):
        break_even("the teacher", 20, own, 100_000.0)


def test_capacity_step() -> None:
    own = owning()
    assert [own.machines(v) for v in (1, 400_000, 400_001, 1_200_000)] == [1, 1, 2, 3]


@pytest.mark.parametrize("dedicated", [False, True])
def test_curve_crosses_at_the_volume(dedicated: bool) -> None:
    found = break_even("an API", 60, owning(dedicated=dedicated))
    points = curve(found)
    volumes = points["requests_per_month"]
    assert len(volumes) == len(points["owning_usd"]) == len(points["other_usd"])
    assert volumes == sorted(volumes)
    assert found.requests_per_month is not None
    for volume, own, other in zip(volumes, points["owning_usd"], points["other_usd"], strict=True):
        if abs(volume / found.requests_per_month - 1) > 0.01:
            assert (own < other) == (volume > found.requests_per_month)
    assert json.loads(json.dumps(found.as_dict())) == found.as_dict()


def test_curve_shows_the_steps() -> None:
    points = curve(break_even("the teacher", 20, owning(dedicated=True), 200_000.0))
    own, other = (dict(zip(points["requests_per_month"], points[k], strict=True)) for k in ("owning_usd", "other_usd"))
    assert own[400_001.0] - own[400_000.0] == pytest.approx(4.0)
    assert other[200_001.0] - other[200_000.0] == pytest.approx(4.0)


@pytest.mark.parametrize("changes", [{"deferred_share": 1.0}, {"months": 0.0}, {"machine_requests_per_month": 0.0}])
def test_nonsense_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(DataError):
        break_even("an API", 60, owning(**changes))
