"""What `aasut adapt` prints."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from rich.console import Console

from aasut.commands import adapt


def models(**values: float) -> dict[str, Any]:
    return {
        role: {"bits_per_byte": {"value": value, "lower": value - 0.1, "upper": value + 0.1}}
        for role, value in values.items()
    }


def test_a_row_a_set_and_a_column_a_model() -> None:
    change = {"value": 0.64, "lower": 0.62, "upper": 0.66, "confidence": 0.9}
    sets = {
        "field": {"documents": 1234, "models": models(before=1.4, after=0.9), "after_over": {"before": change}},
        "general": {"documents": 5, "models": models(before=1.0, after=1.01), "after_over": {"before": change}},
    }
    learned = {"documents": 9000, "generated": 500, "general": 1000}
    train = {"tokens_learned": learned, "anchor": {"model": "", "reason": ""}}
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(adapt.render({"train": train, "evaluate": {"sets": sets}}, Path("runs/cars")))
    lines = [" ".join(line.split()) for line in console.export_text().splitlines()]
    assert lines[1] == "bits per byte, held out documents before after after / before"
    assert "field 1,234 1.400 ± 0.100 0.900 ± 0.100 0.640 ± 0.020" in lines
    assert "general 5 1.000 ± 0.100 1.010 ± 0.100 0.640 ± 0.020" in lines
    assert "field: 36.0 % fewer bits per byte than before (90 % interval -38.0 to -34.0 %)." in lines
    assert (
        "An epoch has 10,500 tokens: 9,000 of documents, 500 of what was made of them, 1,000 of general text." in lines
    )
    assert lines[-1] == "runs/cars/ adaptation.html · report.json · adapted/"
