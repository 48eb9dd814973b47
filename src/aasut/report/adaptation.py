"""What an adaptation brought in the field and cost elsewhere: its picture, its sentences, its page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from aasut.files import write_atomically
from aasut.report.drawing import COLOURS, chart, svg
from aasut.report.page import template

Facts = Mapping[str, Any]
PAGE = "adaptation.html"
ROLES = {"teacher": "teacher", "before": "muted", "after": "student"}  # as evaluate.field names them, and their colours
SOURCES = {"documents": "documents", "generated": "what was made of them", "general": "general text"}


def write(name: str, facts: Facts, folder: Path) -> None:
    """Write adaptation.html; equal facts give equal bytes. `facts`: `train` of student.adapt, `evaluate` of
    evaluate.field.
    """
    write_atomically(folder / PAGE, html(name, facts))


def html(name: str, facts: Facts) -> str:
    """The page of these facts; every text in them is escaped."""
    filters = {"number": lambda value: f"{value:,}", "bits": bits_per_byte, "quotient": quotient}
    accounts = {
        SOURCES[source]: facts["train"]["conservation"][f"adapt {source} (tokens)"]
        for source in facts["train"]["tokens_learned"]
    }
    return template(PAGE, filters).render(
        name=name, sets=facts["evaluate"]["sets"], roles=list(ROLES), chart=bits(facts["evaluate"]["sets"]),
        sentences=sentences(facts), accounts=accounts, measured=facts["evaluate"], train=facts["train"],
    )  # fmt: skip


def bits(sets: Mapping[str, Facts], roles: Mapping[str, str] = ROLES) -> Markup:
    """One group of lines a set, one line a model with its interval; fewer are better. `sets` as evaluate.field has;
    `roles`: models, and their colours.
    """
    rows = [(name, role) for name, found in sets.items() for role in roles if role in found["models"]]
    with chart(0.5 + 0.27 * len(rows)) as (figure, axes):
        for place, (name, role) in enumerate(reversed(rows)):
            found, colour = sets[name]["models"][role]["bits_per_byte"], COLOURS[roles[role]]
            axes.plot([found["lower"], found["upper"]], [place, place], color=colour, linewidth=5, alpha=0.35)
            axes.plot([found["value"]], [place], "o", color=colour, markersize=5)
            axes.text(1.02, place, f"{found['value']:.3f}", transform=axes.get_yaxis_transform(), va="center")
        axes.set_yticks(range(len(rows)), [f"{name}, {role}" for name, role in reversed(rows)])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlabel("bits per byte of held-out text; fewer are better")
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        return svg(figure, "adaptation", "Bits per byte of held-out text under each model")


def sentences(facts: Facts) -> list[str]:
    """What was learned, and what it changed."""
    learned: Mapping[str, int] = facts["train"]["tokens_learned"]
    told = ", ".join(f"{count:,} of {SOURCES[name]}" for name, count in learned.items() if count)
    said = [f"An epoch has {sum(learned.values()):,} tokens: {told}."]
    for name, found in facts["evaluate"]["sets"].items():
        for role, than in (("before", "than before"), ("teacher", "than the teacher")):
            if role in found["after_over"]:
                said.append(f"{name}: {_change(found['after_over'][role], than)}.")
    anchor = facts["train"]["anchor"]
    if anchor["model"]:
        whose = "the teacher" if anchor["model"] == "teacher" else "the student as it was before"
        said.append(f"General text was learned from the distribution of {whose} too: {anchor['reason']}.")
    return said


def bits_per_byte(found: Facts | None) -> str:
    """A model's figure with half its interval: "1.204 ± 0.031"."""
    return "\N{EN DASH}" if found is None else quotient(found["bits_per_byte"])


def quotient(found: Facts) -> str:
    """A ratio with half its interval."""
    return f"{found['value']:.3f} ± {(found['upper'] - found['lower']) / 2:.3f}"


def _change(found: Facts, than: str) -> str:
    word = "fewer" if found["value"] < 1 else "more"
    low, high = ((found[end] - 1) * 100 for end in ("lower", "upper"))
    held = f"{100 * found['confidence']:g} % interval {low:+.1f} to {high:+.1f} %"
    return f"{abs(found['value'] - 1) * 100:.1f} % {word} bits per byte {than} ({held})"
