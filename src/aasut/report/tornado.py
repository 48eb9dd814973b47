"""The tornado chart: how far each input alone moves what owning gains, the widest on top."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from aasut.economics.cost import usd
from aasut.report.drawing import COLOURS, chart, svg
from aasut.report.table import Facts

ROOM = 0.28  # of the width, on each side, for what stands at a bar's ends


def tornado(facts: Facts) -> Markup:
    """Net gain at each input's low (pale) and high value, around the gain as declared; below 0 owning loses."""
    economics = facts["economics"]
    bars = economics.get("tornado")
    if not bars:
        return Markup("")
    base = economics["tornado_of"]["base"]
    with chart(0.6 + 0.3 * len(bars)) as (figure, axes):
        ends = [base, *(bar[side] for bar in bars for side in ("low", "high"))]
        room = ROOM * (max(ends) - min(ends))
        for row, bar in enumerate(reversed(bars)):
            _draw(axes, row, bar, base)
        left, right = min(ends) - room, max(ends) + room
        if left < 0:
            axes.axvspan(left, min(right, 0), color=COLOURS["bad"], alpha=0.1, linewidth=0)
        if left < 0 < right:
            axes.axvline(0, color=COLOURS["bad"], linewidth=1)
        axes.axvline(base, color=COLOURS["ink"], linewidth=0.8)
        axes.set_xlim(left, right)
        axes.set_ylim(-0.6, len(bars) - 0.4)
        axes.set_yticks(range(len(bars)), [bar["what"] for bar in reversed(bars)])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("net gain, USD a month; pale: low value")
        axes.xaxis.set_major_formatter(lambda value, _: signed(value))
        axes.locator_params(axis="x", nbins=5)
        return svg(figure, "tornado", "What the net gain hangs on: each input at its low and high value")


def _draw(axes: Any, row: int, bar: dict[str, Any], base: float) -> None:
    """One bar: a pale half for the low value, a full one for the high, each with its value at its end."""
    for side, alpha in (("low", 0.4), ("high", 0.9)):
        end = bar[side]
        axes.barh(row, end - base, left=base, height=0.55, color=COLOURS["student"], alpha=alpha, linewidth=0)
    low, high = ("low", "high") if bar["low"] <= bar["high"] else ("high", "low")
    for side, place, align in ((low, -3, "right"), (high, 3, "left")):
        at = min(bar[side], base) if side == low else max(bar[side], base)
        value = bar[f"{side}_value"].split(" ")[0]
        axes.annotate(
            value, (at, row), (place, 0), textcoords="offset points", ha=align, va="center", color=COLOURS["muted"]
        )  # fmt: skip


def signed(value: float) -> str:
    """An amount of either sign: -1200 is "−$1,200"."""
    return f"\N{MINUS SIGN}{usd(-value)}" if value < 0 else usd(value)
