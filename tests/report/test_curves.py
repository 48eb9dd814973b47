"""The learning curve shows what was measured, what is fitted, and beyond it what is only promised."""

from __future__ import annotations

import re

import pytest
from drawn import lines, marks, words
from facts import facts
from proof_facts import without

from aasut.report.curves import learning_curve


def test_points_intervals_and_curve_lie_where_they_are() -> None:
    found = facts()
    svg, curve = learning_curve(found), found["learning_curve"]
    points = curve["points"]
    assert marks(svg, "ink", log=True) == [
        (pytest.approx(p["examples"], rel=0.01), pytest.approx(100 * p["accuracy"], abs=0.02)) for p in points
    ]
    bars = lines(svg, "ink", log=True)
    assert [[y for _, y in bar] for bar in bars] == [
        pytest.approx([100 * p["low"], 100 * p["high"]], abs=0.02) for p in points
    ]
    fitted, beyond = (line for line in lines(svg, "student", log=True) if len(line) > 2)
    measured = max(p["examples"] for p in points)
    assert fitted[-1][0] <= 1.01 * measured
    assert beyond[0] == pytest.approx(fitted[-1], rel=0.01)
    assert beyond[-1] == pytest.approx((curve["curve"]["examples"][-1], 100 * curve["curve"]["accuracy"][-1]), rel=0.01)
    dashed = re.findall(r"stroke-dasharray[^\"]*stroke: var\(--student\)", svg)
    assert len(dashed) == 2  # beyond what was measured, and its name
    assert {"fitted", "extrapolated", "measured"} <= set(words(svg))
    assert curve["sentence"] in svg


def test_without_a_fit_the_points_stand_alone_on_a_plain_axis() -> None:
    found = facts()
    found["learning_curve"] |= {"curve": None}
    found["learning_curve"]["points"] = found["learning_curve"]["points"][2:4]
    svg = learning_curve(found)
    assert [x for x, _ in marks(svg, "ink")] == pytest.approx([240, 480], abs=1)
    assert "fitted" not in words(svg)


def test_nothing_measured_nothing_drawn() -> None:
    assert learning_curve(without(facts())) == ""
    assert learning_curve({"learning_curve": {"points": []}}) == ""
