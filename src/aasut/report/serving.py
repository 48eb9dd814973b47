"""What could serve a mixture's fields: how much, how fast, how well. The page of `aasut plan` of a mixture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from aasut.economics.sparse import BATCH, megabytes
from aasut.files import write_atomically
from aasut.report.adaptation import bits, bits_per_byte
from aasut.report.drawing import COLOURS, chart, svg
from aasut.report.page import template

Facts = Mapping[str, Any]
PAGE = "serving.html"
HEADS = {
    "mixture": "mixture",
    "students": "students, classifier",
    "dense_active": "dense, as many a token",
    "dense_total": "dense, as many in all",
}
SHORT = {"mixture": "mixture", "students": "students", "dense_active": "dense, a token", "dense_total": "dense, in all"}
ROLES = {"mixture": "student", "students": "teacher", "dense_active": "linear", "dense_total": "other"}  # colours


def write(found: Facts, folder: Path) -> None:
    """Write serving.html; equal facts give equal bytes. `found`: those of `mixture.alternatives`."""
    write_atomically(folder / PAGE, html(found))


def forget(folder: Path, model: str) -> None:
    """Take the page away where it is of another model than that of this fingerprint."""
    page = folder / PAGE
    if page.is_file() and _mark(model) not in page.read_text(encoding="utf-8"):
        page.unlink()


def _mark(model: str) -> str:
    return f'<meta name="model" content="{model}">'


def html(found: Facts) -> str:
    """The page of these facts; every text in them is escaped."""
    filters = {"number": _number, "millions": _millions, "megabytes": megabytes, "bits": bits_per_byte}
    known = {name: of for name, of in found["arms"].items() if "sets" in of}
    sets = {
        name: {"models": {SHORT[arm]: of["sets"][name] for arm, of in known.items()}} for name in found["documents"]
    }
    return template(PAGE, filters).render(
        found=found, heads=HEADS, known=[SHORT[arm] for arm in known], batch=BATCH, mark=Markup(_mark(found["model"])),
        worth=worth(found), bits_of=bits(sets, {SHORT[arm]: colour for arm, colour in ROLES.items()}), sets=sets,
    )  # fmt: skip


def worth(found: Facts) -> Markup:
    """Bits per byte, with an interval, over tokens/s at batch BATCH: down and to the right is better."""
    known = {name: of for name, of in found["arms"].items() if "bits_per_byte" in of}
    with chart(2.6) as (figure, axes):
        for name, of in known.items():
            cost, speed, colour = of["bits_per_byte"], of["tokens_s"][str(BATCH)], COLOURS[ROLES[name]]
            axes.plot([speed, speed], [cost["lower"], cost["upper"]], color=colour, linewidth=5, alpha=0.35)
            axes.plot([speed], [cost["value"]], "o", color=colour, markersize=6)
            axes.annotate(SHORT[name], (speed, cost["value"]), (7, 0), textcoords="offset points", va="center")
        axes.set_xlim(0, 1.5 * max(of["tokens_s"][str(BATCH)] for of in known.values()))  # with room for names
        axes.set_xlabel(f"tokens/s at batch {BATCH}; more are better")
        axes.set_ylabel("bits per byte; fewer are better")
        axes.grid()
        return svg(figure, "worth", "Bits per byte of each model over the tokens a second that it writes")


def _number(value: float) -> str:
    return f"{value:,.0f}"


def _millions(value: float) -> str:
    return f"{value / 1e6:,.3g} M"
