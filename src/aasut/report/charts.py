"""The report's charts, as small SVG texts that take their colours from the page, light or dark.

Each function takes the facts of a run and gives an SVG element to stand inline, or "" where the
facts hold nothing to draw. Equal facts give equal bytes: no dates, no random ids.
"""

from __future__ import annotations

from markupsafe import Markup

from aasut.economics.cost import usd, usd_per_million_requests
from aasut.evaluate.metrics import quantile, wilson
from aasut.report.drawing import COLOURS, chart, plain_log, round_count, svg
from aasut.report.table import Facts, models

MOST_NUMBERED = 8  # answers up to which a confusion matrix carries its counts
MOST_NAMED = 24  # answers up to which its axes carry names
SHADE = 0.46  # of a confusion matrix at its darkest, over the palest; its counts must stand out from it
APART = 0.6  # points of confidence by which the two models' intervals are set aside


def accuracy(facts: Facts) -> Markup:
    """Accuracy of every model with its two-sided interval."""
    shown = models(facts)
    with chart(0.42 + 0.29 * len(shown)) as (figure, axes):
        for row, (role, result) in enumerate(reversed(shown)):
            colour = _colour(role)
            axes.plot([v * 100 for v in result["ci95"]], [row, row], color=colour, linewidth=5, alpha=0.35)
            axes.plot([result["accuracy"] * 100], [row], "o", color=colour, markersize=5)
            axes.text(1.02, row, f"{result['accuracy'] * 100:.1f} %", transform=axes.get_yaxis_transform(), va="center")
        axes.set_yticks(range(len(shown)), [role for role, _ in reversed(shown)])
        axes.set_ylim(-0.6, len(shown) - 0.4)
        axes.set_xlabel("right answers, %")
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        return svg(figure, "accuracy", "Accuracy of each model with its interval")


def difference(facts: Facts) -> Markup:
    """Student minus teacher between its one-sided bounds, against the margin."""
    verdict = facts["verdict"]
    low, high, margin = (verdict[k] * 100 for k in ("lower_bound", "upper_bound", "margin"))
    left, right = min(low, -margin) - margin * 0.5, max(high, 0) + margin * 0.5
    with chart(1.25) as (figure, axes):
        axes.axvspan(left, -margin, color=COLOURS["bad"], alpha=0.13, linewidth=0)
        axes.axvline(-margin, color=COLOURS["bad"], linewidth=1.2)
        axes.axvline(0, color=COLOURS["muted"], linewidth=0.8, dashes=(3, 3))
        axes.plot([low, high], [0, 0], color=COLOURS["student"], linewidth=6, alpha=0.35)
        axes.plot([verdict["difference"] * 100], [0], "o", color=COLOURS["student"], markersize=6)
        axes.text(-margin, 1.05, "margin", color=COLOURS["bad"], ha="center", va="bottom")
        axes.text(0, 1.05, "equal", color=COLOURS["muted"], ha="center", va="bottom")
        axes.set_xlim(left, right)
        axes.set_ylim(-1, 1)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("student minus teacher, percentage points")
        return svg(figure, "difference", "Student minus teacher, with one-sided bounds, against the margin")


def confusion(facts: Facts, side: str) -> Markup:
    """Confusion matrix of `side` (teacher or student); a cell's shade is its share of the human answer's row."""
    answers, matrix = facts["task"]["answers"], facts[side]["confusion"]
    if not matrix:
        return Markup("")
    from matplotlib.patches import Rectangle

    size = len(answers)
    with chart(2.0 if size <= 3 else 3.1) as (figure, axes):
        for row, counts in enumerate(matrix):
            for column, count in enumerate(counts):
                share = count / max(sum(counts), 1)
                if share:
                    box = Rectangle((column - 0.5, row - 0.5), 1, 1, linewidth=0)
                    axes.add_patch(box)
                    box.set(facecolor=COLOURS[side], alpha=round(0.06 + SHADE * share, 3))
                if size <= MOST_NUMBERED:
                    axes.text(column, row, f"{count:,}", ha="center", va="center")
        names = [_short(a) for a in answers]
        places = range(size) if size <= MOST_NAMED else []
        axes.set_xticks(
            places, names if places else [], rotation=0 if size <= 3 else 60, ha="center" if size <= 3 else "right"
        )
        axes.set_yticks(places, names if places else [])
        for label in axes.get_xticklabels():
            label.set(color=COLOURS["ink"], rotation_mode="anchor" if size > 3 else "default")
        axes.set(
            xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), xlabel=f"answer of the {side}", ylabel="human answer"
        )
        return svg(figure, f"confusion-{side}", f"Confusion matrix of the {side}")


def reliability(facts: Facts) -> Markup:
    """Share of right answers against stated confidence, with an interval for each bin; the diagonal is honest."""
    shown = [(side, facts[side]["reliability"]) for side in ("teacher", "student") if facts[side].get("reliability")]
    if not shown:
        return Markup("")
    with chart(2.6) as (figure, axes):
        lowest = 100.0
        for side, bins in shown:
            total = sum(b["n"] for b in bins)
            x, y = ([b[k] * 100 for b in bins] for k in ("confidence", "accuracy"))
            axes.plot(x, y, color=COLOURS[side], label=side)
            axes.scatter(x, y, s=[12 + 60 * b["n"] / total for b in bins], color=COLOURS[side], linewidth=0)
            aside = -APART if side == "teacher" else APART
            for place, bounds in zip((v + aside for v in x), _bin_intervals(facts, side), strict=False):
                axes.plot([place, place], bounds, color=COLOURS[side], linewidth=4, alpha=0.3, solid_capstyle="butt")
                lowest = min(lowest, *bounds)
            lowest = min(lowest, *x, *y)
        low = 10 * (lowest // 10)
        axes.plot([low, 100], [low, 100], color=COLOURS["muted"], linewidth=0.9, dashes=(3, 3), label="honest")
        axes.set(xlabel="confidence stated, %", ylabel="right answers, %", ylim=(low - 2, 102))
        axes.set_xlim(min(10 * (b["confidence"] * 10 // 1) for _, bins in shown for b in bins) - 2, 102)
        axes.grid()
        figure.legend(loc="outside upper left", ncols=3, columnspacing=1.2, handlelength=1.6)
        return svg(figure, "reliability", "Right answers against stated confidence")


def _bin_intervals(facts: Facts, side: str) -> list[tuple[float, float]]:
    """Wilson's interval of each bin's share of right answers, in per cent, at the design effect of all answers."""
    verdict, effect = facts["verdict"], facts[side].get("design_effect")
    if effect is None:
        return []
    z = quantile(1 - (1 - verdict["confidence"]) / 2, verdict["n"], verdict["groups"])
    found = (wilson(b["accuracy"], max(b["n"] / effect, 1.0), z) for b in facts[side]["reliability"])
    return [(100 * low, 100 * high) for low, high in found]


def costs(facts: Facts) -> Markup:
    """USD per million requests on a log scale: filled with the prefix cache, hollow without."""
    economics = facts["economics"]
    shown = [(role, r) for role, r in models(facts) if r["requests_per_s"] and role not in ("untrained", "majority")]
    shown = [(role, r) for role, r in shown if r["usd_per_million_requests"]]
    if not shown:
        return Markup("")
    with chart(0.7 + 0.36 * len(shown)) as (figure, axes):
        for row, (role, result) in enumerate(reversed(shown)):
            price, slow = result["usd_per_million_requests"], result["requests_per_s_no_prefix_cache"]
            axes.plot([price], [row], "o", color=_colour(role), markersize=6)
            axes.annotate(usd(price), (price, row), (0, 6), textcoords="offset points", ha="center")
            if slow:
                other = usd_per_million_requests(economics["usd_per_machine_hour"], slow, economics["utilisation"])
                axes.plot([price, other], [row, row], color=_colour(role), linewidth=1, alpha=0.5, zorder=1)
                axes.plot([other], [row], "o", markersize=6, markerfacecolor=COLOURS["surface"], color=_colour(role))
                if abs(other / price - 1) > 0.5:
                    axes.annotate(usd(other), (other, row), (0, 6), textcoords="offset points", ha="center")
        axes.set_xscale("log")
        axes.margins(x=0.15)
        axes.set_yticks(range(len(shown)), [role for role, _ in reversed(shown)])
        axes.set_ylim(-0.6, len(shown) - 0.2)
        axes.set_xlabel("USD per million requests; hollow: prefix cache off")
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        plain_log(axes.xaxis, lambda value: "$" + round_count(value))
        return svg(figure, "costs", "USD per million requests, with and without the prefix cache")


def break_even(facts: Facts) -> Markup:
    """Monthly cost of owning the student and of each alternative, by volume; a step is one more machine."""
    shown = [b for b in facts["economics"]["break_even"] if b.get("curve")]
    if not shown:
        return Markup("")
    deferred = any(b.get("deferred_share") for b in shown)
    with chart(2.5 + 0.16 * len(shown) * (1 + deferred)) as (figure, axes):
        ways = list(zip(shown, ("-", "--", ":", "-."), ("teacher", "linear", "other", "muted"), strict=False))
        for name, style, own in _owning([(item, style) for item, style, _ in ways], deferred):
            axes.plot(*zip(*own, strict=True), style, color=COLOURS["student"], label=name)
        for item, style, colour in ways:
            curve = item["curve"]
            volumes, dollars = curve["requests_per_month"], curve["other_usd"]
            axes.plot(volumes, dollars, style, color=COLOURS[colour], label=_short(item["against"], 34))
            if volume := item["requests_per_month"]:
                cost = item.get("usd_per_month") or volume * item["usd_per_million_requests"] / 1e6
                axes.plot([volume], [cost], "o", color=COLOURS["ink"], markersize=4, zorder=5)
        axes.set(xscale="log", yscale="log", xlabel="requests a month", ylabel="USD a month")
        axes.grid()
        figure.legend(loc="outside upper left")
        plain_log(axes.xaxis, round_count)
        plain_log(axes.yaxis, lambda value: "$" + round_count(value))
        return svg(figure, "break-even", "Monthly cost by volume: owning the student and its alternatives")


def _owning(ways: list[tuple[Facts, str]], deferred: bool) -> list[tuple[str, str, list[tuple[float, float]]]]:
    """(name, style, points) of the cost of owning: one line, or one an alternative that the deferred requests go to."""
    points = [
        list(zip(item["curve"]["requests_per_month"], item["curve"]["owning_usd"], strict=True)) for item, _ in ways
    ]
    if not deferred:
        return [("own the student", "-", sorted({point for line in points for point in line}))]
    return [
        (_short(f"own, the rest to {item['against']}", 34), style, line)
        for (item, style), line in zip(ways, points, strict=True)
    ]


def _colour(role: str) -> str:
    return COLOURS.get(role.split()[0], COLOURS["other"])


def _short(text: str, most: int = 16) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
