"""The picture has every model on every set where its figure is."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from drawn import words

from aasut.report.adaptation import bits


def found(**values: float) -> dict[str, Any]:
    return {
        "models": {
            role: {"bits_per_byte": {"value": value, "lower": value - 0.1, "upper": value + 0.1}}
            for role, value in values.items()
        }
    }


def places(svg: str, colour: str) -> list[tuple[float, float]]:
    """(x, y) of the marks in a colour of the page, in units of the drawing."""
    marks = re.findall(rf'<use href="#[\w-]+" x="([\d.]+)" y="([\d.]+)" style="fill: var\(--{colour}\)', svg)
    return [(float(x), float(y)) for x, y in marks]


def test_points_lie_at_their_bits_per_byte() -> None:
    svg = bits({"field": found(teacher=1.2, before=1.4, after=0.9), "general": found(before=1.0, after=1.01)})
    marks = [*places(svg, "student"), *places(svg, "teacher"), *places(svg, "muted")]
    values = [1.01, 0.9, 1.2, 1.0, 1.4]  # from below, of each colour
    across = np.array([x for x, _ in marks])
    assert np.polyval(np.polyfit(values, across, 1), values) == pytest.approx(across, abs=0.1)
    assert sorted(range(5), key=lambda i: -marks[i][1]) == [0, 3, 1, 4, 2]  # after, before, and the field above
    names = ["general, after", "general, before", "field, after", "field, before", "field, teacher"]
    assert [word for word in words(svg) if ", " in word] == names
    assert {"1.200", "1.400", "0.900", "1.000", "1.010"} <= set(words(svg))
