"""The picture of an adaptation: bits per byte before, after, and of the teacher, on the field and elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from aasut.report.drawing import COLOURS, chart, svg

SHOWN = {"teacher": ("teacher", "teacher"), "before": ("before", "muted"), "after": ("after", "student")}


def bits(sets: Mapping[str, Mapping[str, Any]]) -> Markup:
    """One group of lines a set, one line a model with its interval; fewer are better. `sets` as evaluate.field has."""
    rows = [(name, role) for name, found in sets.items() for role in SHOWN if role in found["models"]]
    with chart(0.5 + 0.27 * len(rows)) as (figure, axes):
        for place, (name, role) in enumerate(reversed(rows)):
            found, colour = sets[name]["models"][role]["bits_per_byte"], COLOURS[SHOWN[role][1]]
            axes.plot([found["lower"], found["upper"]], [place, place], color=colour, linewidth=5, alpha=0.35)
            axes.plot([found["value"]], [place], "o", color=colour, markersize=5)
            axes.text(1.02, place, f"{found['value']:.3f}", transform=axes.get_yaxis_transform(), va="center")
        axes.set_yticks(range(len(rows)), [f"{name}, {SHOWN[role][0]}" for name, role in reversed(rows)])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlabel("bits per byte of held-out text; fewer are better")
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        return svg(figure, "adaptation", "Bits per byte of held-out text before and after adaptation")
