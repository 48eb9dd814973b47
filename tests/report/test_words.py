"""Values in words."""

from __future__ import annotations

import pytest

from aasut.report import words


def test_moments_and_times() -> None:
    assert words.moment(0) == "1970-01-01 00:00 UTC"
    assert words.moment(1_764_400_000.9) == "2025-11-29 07:06 UTC"
    assert [words.often(n) for n in (1, 2, 1200)] == ["once", "2 times", "1,200 times"]


@pytest.mark.parametrize(("p", "text"), [(0.04312, "0.043"), (1.0, "1"), (3e-7, "<0.0001"), (None, "–"), (0.5, "0.5")])
def test_chance(p: float | None, text: str) -> None:
    assert words.chance(p) == text


def test_differences_names_and_sentences() -> None:
    assert (words.signed(-0.0123), words.signed(0.0049), words.signed(0)) == ("−1.2", "+0.5", "+0.0")
    assert (words.measure("macro_f1"), words.measure("field_match")) == ("Macro-F1", "Field match")
    assert words.said("95 % of 3 items") == "95\N{NO-BREAK SPACE}% of 3 items"
