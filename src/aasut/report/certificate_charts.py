"""The chart of risk against coverage: how often the student errs if it answers only what it is surest of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from aasut.report.drawing import COLOURS, chart, svg, thinned
from aasut.report.table import Facts

POINTS = 160  # of the curve
ROOM = 1.25  # over the highest risk shown


def risk_coverage(facts: Facts) -> Markup:
    """Wrong answers among those given, by the share of requests answered, surest first; the certified point on it."""
    found = facts.get("risk_coverage")
    if not found or not found["coverage"]:
        return Markup("")
    certificate = facts.get("certificate") or {}
    coverage, risk = ([100 * value for value in found[name]] for name in ("coverage", "risk"))
    # Only a certificate of right answers among those given sets a target for this curve.
    alike = (certificate.get("against"), certificate.get("kind")) == ("human", "selective")
    target = 100 * certificate["risk"] if alike else None
    mark = found.get("certified")
    with chart(2.6) as (figure, axes):
        top = _top(coverage, risk, target, certificate)
        if target is not None:
            axes.axhspan(target, top, color=COLOURS["bad"], alpha=0.1, linewidth=0)
            axes.axhline(target, color=COLOURS["bad"], linewidth=1.1, dashes=(4, 2), label=f"target {target:g} %")
        places = thinned(len(coverage), POINTS)
        axes.plot([coverage[i] for i in places], [risk[i] for i in places], color=COLOURS["student"], label="student")
        if mark:
            _mark(axes, mark, certificate)
        axes.set(xlim=(0, 101), ylim=(0, top), xlabel="requests answered by the student, %", ylabel="of these wrong, %")
        axes.grid()
        figure.legend(loc="outside upper left", ncols=3, columnspacing=1.2, handlelength=1.6)
        return svg(figure, "risk-coverage", _label(mark, target))


def _mark(axes: Any, mark: Mapping[str, float], certificate: Mapping[str, Any]) -> None:
    """The certified point, with the intervals of its coverage and of its risk where they are known."""
    x, y = 100 * mark["coverage"], 100 * mark["risk"]
    ink = COLOURS["ink"]
    if bounds := certificate.get("coverage"):
        axes.plot([100 * bounds["lower"], 100 * bounds["upper"]], [y, y], color=ink, linewidth=1.2, zorder=4)
    if seen := certificate.get("on_test"):
        axes.plot([x, x], [100 * bound for bound in seen["ci"]], color=ink, linewidth=1.2, zorder=4)
    axes.plot([x], [y], "D", color=ink, markersize=5, zorder=5, label=f"certified at {x:.0f} %")


def _top(coverage: list[float], risk: list[float], target: float | None, certificate: Mapping[str, Any]) -> float:
    """The upper end of the axis. The first few answers jump too much to set it."""
    settled = [y for x, y in zip(coverage, risk, strict=True) if x >= 5] or risk
    seen = certificate.get("on_test")
    highest = max([*settled, target or 0.0, 100 * seen["ci"][1] if seen else 0.0])
    return ROOM * highest if highest else 1.0


def _label(mark: Mapping[str, float] | None, target: float | None) -> str:
    said = "Share of wrong answers by the share of requests that the student answers, surest first"
    if target is not None:
        said += f"; the target is {target:g} per cent"
    if mark:
        said += (
            f"; certified at {100 * mark['coverage']:.0f} per cent answered, {100 * mark['risk']:.1f} per cent wrong"
        )
    return said
