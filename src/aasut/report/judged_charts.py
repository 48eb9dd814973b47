"""Charts of what a judge said: which answer it prefers, and how the counts of right answers compare."""

from __future__ import annotations

from markupsafe import Markup

from aasut.report.drawing import COLOURS, chart, svg
from aasut.report.table import Facts


def preference(facts: Facts) -> Markup:
    """One bar: the pairs that the student wins, that neither wins, that the teacher wins."""
    found = (facts.get("judged") or {}).get("preference")
    if not found:
        return Markup("")
    parts = (
        ("student", found["student_wins"], "student"),
        ("neither", found["ties"], "other"),
        ("teacher", found["teacher_wins"], "teacher"),
    )
    with chart(1.15) as (figure, axes):
        left = 0.0
        for name, share, colour in parts:
            axes.barh(
                [0], [100 * share], left=left, color=COLOURS[colour], alpha=0.4, height=0.9, linewidth=0, label=name
            )
            if share >= 0.07:
                axes.text(left + 50 * share, 0, f"{100 * share:.0f} %", ha="center", va="center")
            left += 100 * share
        axes.set(xlim=(0, 100), ylim=(-0.6, 0.6), yticks=[], xlabel="preferred answers, %")
        axes.spines["left"].set_visible(False)
        figure.legend(loc="outside upper left", ncols=3, columnspacing=1.2, handlelength=1.2)
        said = ", ".join(f"{name} {100 * share:.0f} per cent" for name, share, _ in parts)
        return svg(figure, "preference", f"Preferred answers: {said}")


def corrected(facts: Facts) -> Markup:
    """Right answers as judged, corrected for the judge's errors, and by the human answers, with intervals."""
    judged = facts.get("judged") or {}
    rows: list[tuple[str, list[float]]] = []
    if right := judged.get("correctness"):
        rows.append(("as judged", [right["raw"]]))
        rows += [("corrected", right["corrected"])] if right["corrected"] else []
    if both := judged.get("ppi"):
        rows += [("human + judged", [both["value"], *both["ci"]]), ("human alone", both["classical"])]
    if not rows:
        return Markup("")
    with chart(0.45 + 0.29 * len(rows)) as (figure, axes):
        for place, (_, values) in enumerate(reversed(rows)):
            value, *bounds = (100 * number for number in values)
            axes.plot(bounds, [place] * len(bounds), color=COLOURS["student"], linewidth=5, alpha=0.35)
            axes.plot([value], [place], "o", color=COLOURS["student"], markersize=5)
            axes.text(1.02, place, f"{value:.1f} %", transform=axes.get_yaxis_transform(), va="center")
        axes.set_yticks(range(len(rows)), [name for name, _ in reversed(rows)])
        axes.set(ylim=(-0.6, len(rows) - 0.4), xlabel="right answers, %")
        axes.margins(x=0.1)
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        return svg(figure, "corrected", "Right answers of the student as judged, corrected, and by human answers")
