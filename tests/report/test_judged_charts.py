"""What a judge said, drawn: shares that fill the bar, estimates with their intervals."""

from __future__ import annotations

import re

import pytest
from drawn import words
from facts import facts
from proof_facts import judged, without

from aasut.report.judged_charts import corrected, preference


def test_the_three_shares_fill_the_bar() -> None:
    svg = preference(facts())
    assert {"21 %", "55 %", "24 %"} <= set(words(svg))
    bars = re.findall(r'<path d="M ([\d.]+) [\d.]+ \nL ([\d.]+)[^"]*" clip-path[^>]*fill: var\(--(\w+)\)', svg)
    wide = {colour: float(right) - float(left) for left, right, colour in bars}
    whole = sum(wide.values())
    assert [wide[c] / whole for c in ("student", "other", "teacher")] == pytest.approx([0.21, 0.55, 0.24], abs=1e-3)


def test_each_reckoning_has_its_row() -> None:
    shown = words(corrected(facts()))
    assert {"as judged", "corrected", "human + judged", "human alone"} <= set(shown)
    assert {"89.0 %", "90.8 %", "91.2 %", "90.9 %"} <= set(shown)
    part = {"judged": judged() | {"ppi": None}}
    assert "human alone" not in words(corrected(part))


def test_nothing_judged_nothing_drawn() -> None:
    for found in (without(facts()), {"judged": None}, {"judged": judged() | dict.fromkeys(judged())}):
        assert preference(found) == ""
        assert corrected(found) == ""
