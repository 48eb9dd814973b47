"""The learning curve: what more of the teacher's answers gave, and would give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from aasut.report.drawing import COLOURS, chart, plain_log, round_count, svg
from aasut.report.table import Facts

LOG_FROM = 10.0  # times the least number of examples; below that a plain axis reads more easily


def learning_curve(facts: Facts) -> Markup:
    """Accuracy by number of training examples: measured with intervals, fitted with its band, dashed beyond."""
    found = facts.get("learning_curve")
    if not found or not found["points"]:
        return Markup("")
    points, fitted = found["points"], found.get("curve") or {}
    reached = max(point["examples"] for point in points)
    with chart(2.6) as (figure, axes):
        _fit(axes, fitted, reached)
        for point in points:
            low, high = (100 * point[name] for name in ("low", "high"))
            axes.plot([point["examples"]] * 2, [low, high], color=COLOURS["ink"], linewidth=1.1, zorder=4)
        sizes, right = [point["examples"] for point in points], [100 * point["accuracy"] for point in points]
        axes.plot(sizes, right, "o", color=COLOURS["ink"], markersize=4, zorder=5, label="measured")
        every = [*sizes, *fitted.get("examples", ())]
        axes.set(xlabel="examples trained on", ylabel="right answers, %")
        axes.grid()
        figure.legend(loc="outside upper left", ncols=3, columnspacing=1.2, handlelength=2.0)
        if max(every) >= LOG_FROM * min(every) > 0:
            axes.set_xscale("log")
            plain_log(axes.xaxis, round_count)
        return svg(figure, "learning-curve", _label(found))


def _fit(axes: Any, fitted: Mapping[str, Sequence[float]], reached: float) -> None:
    """The fitted curve up to the last measured point, and beyond it dashed in a paler band."""
    if not fitted:
        return
    rows = list(zip(*(fitted[name] for name in ("examples", "accuracy", "low", "high")), strict=True))
    inside = [row for row in rows if row[0] <= reached]
    beyond = inside[-1:] + [row for row in rows if row[0] > reached]
    for part, style, shade, name in ((inside, "-", 0.22, "fitted"), (beyond, (0, (3, 2)), 0.11, "extrapolated")):
        if len(part) > 1:
            examples, right, low, high = (list(column) for column in zip(*part, strict=True))
            low, high, right = ([100 * value for value in values] for values in (low, high, right))
            axes.fill_between(examples, low, high, color=COLOURS["student"], alpha=shade, linewidth=0)
            axes.plot(examples, right, linestyle=style, color=COLOURS["student"], label=name)


def _label(found: Mapping[str, Any]) -> str:
    ends = sorted((point["examples"], point["accuracy"]) for point in found["points"])
    said = " to ".join(f"{100 * right:.1f} per cent at {size:,} examples" for size, right in (ends[0], ends[-1]))
    return f"Learning curve: from {said}. {found['sentence']}"
