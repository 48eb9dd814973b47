"""What is printed of a mixture and of what else could serve its fields."""

from __future__ import annotations

import io

from rich.console import Console

from aasut.commands import serving
from serving_facts import facts


def test_a_row_an_arm_and_a_row_a_set() -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(*serving.tables(facts()), sep="\n")
    lines = [" ".join(line.split()) for line in console.export_text().splitlines()]
    assert "works weights a token MB tokens/s at batch 16 bits per byte, mean" in lines
    assert "mixture 374 M 214 M 748 21 1,530 0.900" in lines
    assert "students, classifier 374 M 214 M 748 21 1,530 +0.100 ± 0.100" in lines
    assert "dense, as many a token 374 M 214 M 748 21 1,530 not trained (--dense)" in lines
    assert "bits per byte documents mixture students" in lines
    assert "general 1,234 0.900 +0.100 ± 0.100" in lines
    engines = "torch (mixture); openvino (students · dense, a token)"
    assert f"Timed on a processor, on the engines {engines}." in " ".join(lines)
    assert "The classifier gives its own student to 91 % of pumps, by the whole text." in lines
    assert lines[-2:] == ["The mixture serves this best: so and so.", "In pictures: runs/works/serving.html"]
