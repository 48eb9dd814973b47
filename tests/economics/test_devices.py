from __future__ import annotations

import math

import pytest
from scipy.optimize import fsolve

from aasut.economics import devices
from aasut.economics.devices import Efficiency
from aasut.errors import DataError


def worth(n: float, u: float, delta: float) -> float:
    return n * (1 + u) / (1 + u * n**delta)


@pytest.mark.parametrize(
    ("reading", "start", "condition"),
    [
        ("literal", (0.07, 0.3), lambda u, d: worth(1e6, u, d) / 3e5 - 1),
        ("last_decade", (0.02, 0.5), lambda u, d: worth(1e6, u, d) / worth(1e5, u, d) / 3 - 1),
    ],
)
def test_both_readings_solve_their_conditions(reading: str, start: tuple[float, float], condition) -> None:
    u, delta = fsolve(lambda x: [worth(10, *x) / 9.5 - 1, condition(*x)], start, xtol=1e-13)
    found = devices.published()[reading]
    assert (found.u, found.delta) == pytest.approx((u, delta), rel=1e-8)


def test_the_readings_are_those_that_are_published() -> None:
    found = devices.published()
    assert found["literal"].delta == pytest.approx(0.26, abs=0.005)
    assert found["literal"].u == pytest.approx(0.067, abs=0.0005)
    assert found["last_decade"].delta == pytest.approx(0.548, abs=0.0005)
    assert found["last_decade"].u == pytest.approx(0.0212, abs=0.00005)


def test_one_device_is_worth_one_and_more_are_never_worth_less() -> None:
    for curve in devices.published().values():
        assert curve.worth(1) == pytest.approx(1)
        values = [curve.worth(n) for n in devices.SHOWN]
        assert values == sorted(values)


def test_measured_speeds_are_met() -> None:
    found = devices.fit({1: 100.0, 2: 180.0})
    assert found.worth(2) == pytest.approx(1.8)
    assert found.delta == devices.published()["literal"].delta
    true = Efficiency(0.05, 0.4)
    many = devices.fit({n: 70 * true.worth(n) for n in (1, 2, 4, 8)})
    assert (many.u, many.delta) == pytest.approx((0.05, 0.4), rel=1e-6)


def test_devices_that_lose_much_or_nothing() -> None:
    assert devices.fit({1: 100.0, 2: 210.0}).u == 0
    slow = devices.fit({1: 100.0, 2: 120.0})
    assert slow.worth(2) == pytest.approx(1.2)
    assert slow.delta <= 1
    with pytest.raises(DataError, match="lose more"):
        devices.fit({1: 100.0, 2: 90.0})
    with pytest.raises(DataError, match="of several"):
        devices.fit({1: 100.0})
    with pytest.raises(DataError, match="of several"):
        devices.fit({2: 100.0, 4: 180.0})


def test_what_is_extrapolated_is_marked_and_what_is_used_is_said() -> None:
    said = devices.as_facts({})
    marks = {p["devices"]: p["extrapolated"] for p in said["curves"]["literal"]["points"]}
    assert not marks[10]
    assert marks[100]
    assert not marks[1_000_000]
    assert {p["devices"]: p["extrapolated"] for p in said["curves"]["last_decade"]["points"]}[1_000_000]
    assert said["used"] == "literal"
    assert "literally" in said["sentence"]
    here = devices.as_facts({1: 100.0, 2: 180.0})
    assert here["used"] == "measured"
    assert set(here["curves"]) == {"measured", "literal", "last_decade"}
    marks = {p["devices"]: p["extrapolated"] for p in here["curves"]["measured"]["points"]}
    assert [n for n, beyond in marks.items() if not beyond] == [1, 2]
    assert math.isclose(here["curves"]["measured"]["points"][1]["worth"], 1.8)
