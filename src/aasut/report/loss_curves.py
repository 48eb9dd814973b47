"""The chart of a training: losses by step, the least possible, steps that were skipped, where it ended early."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from aasut.report.drawing import COLOURS, chart, svg
from aasut.report.table import Facts

POINTS = 120  # of the line of all steps
ROOM = 1.15  # over the losses of looks and of most steps; the first ones may lie above

Point = tuple[float, float]


def losses(facts: Facts) -> Markup:
    """Training and validation loss by step, in nats a target, and the step that was kept."""
    return _drawn(facts["training"], "losses", "Training and validation loss by step")


def healing(facts: Facts) -> Markup:
    """The same of a start that was healed: its divergence from the whole model, in nats a token."""
    return _drawn(facts["training"].get("heal") or {}, "healing", "Divergence from the whole model by step of healing")


def preference(facts: Facts) -> Markup:
    """The same of the training on the teacher's preferences, in nats a pair."""
    return _drawn(facts["training"].get("preference") or {}, "preference-losses", "Loss on preferences by step")


def _drawn(training: Mapping[str, Any], name: str, title: str) -> Markup:
    """One training's chart, "" where it was not looked at."""
    looks = {what: _looks(training, what) for what in ("train_loss", "validation_loss")}
    if not any(looks.values()):
        return Markup("")
    steps = _steps(training)
    with chart(2.5) as (figure, axes):
        if steps:
            axes.plot(*zip(*steps, strict=True), color=COLOURS["muted"], alpha=0.45, linewidth=0.9, label="steps")
        for (what, points), colour in zip(looks.items(), ("other", "student"), strict=True):
            if points:
                marker = "o" if len(points) <= 20 else ""
                x, y = zip(*points, strict=True)
                axes.plot(x, y, color=COLOURS[colour], label=what.replace("_", " "), marker=marker, markersize=3.5)
        top = _top([y for points in looks.values() for _, y in points], [y for _, y in steps])
        bottom = _marks(axes, training, top)
        axes.set(xlabel="step", ylabel="loss, nats", ylim=(bottom, top))
        axes.grid(axis="y")
        figure.legend(loc="outside upper left", ncols=3)
        return svg(figure, name, title)


def _marks(axes: Any, training: Mapping[str, Any], top: float) -> float:
    """Draw what stands at single steps and the least possible loss; gives the lower end of the axis."""
    if training.get("best_step") is not None:
        axes.axvline(training["best_step"], color=COLOURS["muted"], linewidth=0.9, dashes=(3, 3), label="kept")
    if training.get("stopped"):
        axes.axvline(training["stopped"], color=COLOURS["bad"], linewidth=0.9, dashes=(1, 2), label="stopped early")
    if skipped := training.get("skipped"):
        places = [mark["step"] for mark in skipped]
        heights = [0.97 * top] * len(places)
        axes.plot(places, heights, "x", color=COLOURS["bad"], markersize=5, label="skipped")
    if floor := training.get("floor"):
        axes.axhline(floor, color=COLOURS["muted"], linewidth=0.9, label="least possible")
        return 0.9 * float(floor)
    return 0.0


def _looks(training: Mapping[str, Any], name: str) -> list[Point]:
    """(step, loss) of each look at the validation share; the training loss is the mean of the steps before."""
    return [(point["step"], point[name]) for point in training.get("curve") or [] if point.get(name) is not None]


def _steps(training: Mapping[str, Any]) -> list[Point]:
    """(step, loss) of all steps that were taken, in at most POINTS means."""
    values, each = training.get("losses") or [], training.get("steps_a_point") or 1
    wide = -(-len(values) // POINTS) or 1
    lost = sorted(mark["step"] for mark in training.get("skipped") or [])
    found = []
    for start in range(0, len(values), wide):
        part = values[start : start + wide]
        taken = each * (start + len(part) / 2) + 0.5  # in the middle of these steps, counted without those skipped
        for step in lost:
            taken += step <= taken
        found.append((taken, sum(part) / len(part)))
    return found


def _top(looks: list[float], steps: list[float]) -> float:
    """The upper end of the axis: above all looks, and above nine steps of ten."""
    most = sorted(steps)[: max(1, len(steps) * 9 // 10)]
    return ROOM * max([*looks, *most])
