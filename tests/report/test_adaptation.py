"""The picture has every model on every set where its figure is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import words

from aasut.report import adaptation
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


def facts() -> dict[str, Any]:
    sets = {"field": found(teacher=1.2, before=1.4, after=0.9), "general": found(before=1.0, after=1.01)}
    for name, changes in (("field", {"before": 0.643, "teacher": 0.75}), ("general", {"before": 1.01})):
        sets[name] |= {"documents": 12, "bytes": 3456, "after_over": {
            role: {"value": value, "lower": value - 0.02, "upper": value + 0.02, "confidence": 0.95}
            for role, value in changes.items()
        }}  # fmt: skip
    learned = {"documents": 9000, "generated": 0, "general": 1000}
    accounts = {
        f"adapt {name} (tokens)": {
            "in": kept + 77,
            "kept": kept,
            "dropped": {"kept for <validation>": 77},
            "failed": {},
        }
        for name, kept in learned.items()
    }
    train = {"tokens_learned": learned, "conservation": accounts, "steps": 40, "best_step": 40,
             "anchor": {"model": "start", "reason": "the teacher is no local model"}}  # fmt: skip
    return {"train": train, "evaluate": {"sets": sets, "context": 512, "overlap": 128, "confidence": 0.95}}


def test_sentences_tell_gain_and_loss() -> None:
    assert adaptation.sentences(facts()) == [
        "An epoch has 10,000 tokens: 9,000 of documents, 1,000 of general text.",
        "field: 35.7 % fewer bits per byte than before (95 % interval -37.7 to -33.7 %).",
        "field: 25.0 % fewer bits per byte than the teacher (95 % interval -27.0 to -23.0 %).",
        "general: 1.0 % more bits per byte than before (95 % interval -1.0 to +3.0 %).",
        "General text was learned from the distribution of the student as it was before too: "
        "the teacher is no local model.",
    ]


def test_the_page_has_it_all_and_runs_nothing(tmp_path: Path) -> None:
    adaptation.write("<b>name</b>", facts(), tmp_path)
    page = (tmp_path / "adaptation.html").read_text()
    assert adaptation.html("<b>name</b>", facts()) == page
    for text in (*map(str, adaptation.sentences(facts())), "0.900 ± 0.100", "\N{EN DASH}", "9,077", "3,456"):
        assert text in page
    assert "&lt;b&gt;name" in page
    assert "77 kept for &lt;validation&gt;" in page
    assert "<b>" not in page
    assert "<script" not in page
    assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "").replace("http://www.w3.org", "")
