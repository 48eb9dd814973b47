"""The risk-coverage chart shows the curve, the target and the certified point where they are."""

from __future__ import annotations

import numpy as np
import pytest
from drawn import lines, marks, words
from facts import facts
from proof_facts import refused, without

from aasut.report.certificate_charts import risk_coverage


def test_the_curve_the_target_and_the_certified_point_lie_where_they_are() -> None:
    found = facts()
    svg = risk_coverage(found)
    curve = found["risk_coverage"]
    drawn = next(line for line in lines(svg, "student") if len(line) > 2)
    for x, y in drawn[1:]:
        assert y == pytest.approx(100 * np.interp(x / 100, curve["coverage"], curve["risk"]), abs=0.1)
    assert drawn[-1][0] == pytest.approx(100, abs=0.05)
    target = next(line for line in lines(svg, "bad") if line[0][1] > 0)
    assert [y for _, y in target] == pytest.approx([5, 5], abs=0.01)
    mark = (100 * curve["certified"]["coverage"], 100 * curve["certified"]["risk"])
    assert marks(svg, "ink") == [pytest.approx(mark, abs=0.02)]
    coverage, risk = lines(svg, "ink")
    bounds = found["certificate"]["coverage"]
    assert [x for x, _ in coverage] == pytest.approx([100 * bounds["lower"], 100 * bounds["upper"]], abs=0.02)
    assert [y for _, y in risk] == pytest.approx([100 * b for b in found["certificate"]["on_test"]["ci"]], abs=0.02)
    assert {"target 5 %", "certified at 66 %"} <= set(words(svg))
    assert "certified at 66 per cent answered, 1.1 per cent wrong" in svg


def test_without_a_certificate_the_curve_stands_alone() -> None:
    found = facts()
    curve = found["risk_coverage"] | {"certified": None}
    # Agreement with the teacher, and errors of student and teacher together, set no target for this curve.
    for certificate in (None, refused(), refused() | {"against": "human", "kind": "system"}):
        svg = risk_coverage(found | {"certificate": certificate, "risk_coverage": curve})
        assert not [word for word in words(svg) if "target" in word or "certified" in word]
        assert "student" in words(svg)
    assert "target 1 %" in words(
        risk_coverage(found | {"certificate": refused() | {"against": "human"}, "risk_coverage": curve})
    )


def test_nothing_to_draw_and_no_error_at_all() -> None:
    found = facts()
    assert risk_coverage(without(found)) == ""
    assert risk_coverage(found | {"risk_coverage": {"coverage": [], "risk": [], "certified": None}}) == ""
    perfect = {"coverage": [0.5, 1.0], "risk": [0.0, 0.0], "certified": None}
    assert "student" in words(risk_coverage(found | {"risk_coverage": perfect, "certificate": None}))
