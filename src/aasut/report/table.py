"""The report's headline for a terminal of 100 columns, and the words and numbers that all forms of the report share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from aasut.economics.cost import cost_sentence, times, usd
from aasut.report import headline

Facts = Mapping[str, Any]
NONE = "\N{EN DASH}"
ROLES = ("linear", "untrained", "majority")
RESULTS = {"non_inferior": "non-inferior", "inferior": "inferior", "undecided": "undecided"}
STYLES = {"non_inferior": "bold green", "inferior": "bold red", "undecided": "bold yellow"}


def models(facts: Facts) -> list[tuple[str, Facts]]:
    """(role, result) in the order shown: teacher, student, other forms of the student, baselines."""
    baselines = facts["baselines"]
    others = [name for name in baselines if name not in ROLES]
    named = [*others, *(name for name in ROLES if name in baselines)]
    shown = [
        (f"student {name.removeprefix('student_').upper()}" if name in others else name, baselines[name])
        for name in named
    ]
    return [("teacher", facts["teacher"]), ("student", facts["student"]), *shown]


def percent(value: float | None, digits: int = 1) -> str:
    """A share: 0.8742 is "87.4 %"."""
    return NONE if value is None else f"{value * 100:.{digits}f}\N{NO-BREAK SPACE}%"


def interval(bounds: tuple[float, float] | list[float]) -> str:
    """A share's interval in per cent: "85.1 to 89.4"."""
    return f"{bounds[0] * 100:.1f} to {bounds[1] * 100:.1f}"


def parameters(value: float | None) -> str:
    """A number of parameters: 134515008 is "135M"."""
    if not value:
        return NONE
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}" if value / size < 999.5 else f"{value / size:.0f}{unit}"
    return f"{value:.0f}"


SCORES = {
    "classify": ("accuracy", "Macro-F1"),
    "generate": ("exact", "Word F1"),
    "extract": ("exact", "fields"),
    "tools": ("exact", "Call F1"),
}


def score_names(facts: Facts) -> tuple[str, str]:
    """Names of the two scores: the share of right answers, and the finer one beside it."""
    return SCORES[facts["task"]["kind"]]


def finer(result: Facts) -> float | None:
    """The finer score of a model: macro-F1 of labels, similarity of texts."""
    value = result.get("similarity", result.get("macro_f1"))
    return None if value is None else float(value)


def number(value: float | None) -> str:
    """A speed or a count: 9120 is "9,120", 43.21 is "43.2"."""
    return NONE if value is None else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def money(value: float | None) -> str:
    return NONE if value is None else usd(value)


def cheaper(result: Facts, teacher: Facts) -> str:
    """How many times cheaper than the teacher a request is; the teacher itself is 1."""
    own, other = result["usd_per_million_requests"], teacher["usd_per_million_requests"]
    if not own or not other:
        return NONE
    return "1" if result is teacher else times(other / own).removesuffix(" times") + "\N{MULTIPLICATION SIGN}"


def economics_sentences(facts: Facts) -> list[str]:
    """What it costs, the break-even against each alternative, the return and what it hangs on, in words."""
    economics = facts["economics"]
    own, other = (facts[side]["usd_per_million_requests"] for side in ("student", "teacher"))
    said = [str(b["sentence"]) for b in economics["break_even"]]
    if economics.get("return"):
        said.append(str(economics["return"]["sentence"]))
    if economics.get("hangs_on"):
        said.append(str(economics["hangs_on"]))
    if own is None or other is None:
        return said
    return [cost_sentence(own, other, economics["cheaper_than_teacher_no_prefix_cache"]), *said]


def render(facts: Facts, folder: Path | None = None) -> Group:
    """The headline: verdict in words, one row a model, costs in words, where the files are.

    `folder` is where report.json and report.html were written; left out, no files are named.
    """
    verdict = facts["verdict"]
    tag = Text(f"{RESULTS[verdict['result']]}  ", style=STYLES[verdict["result"]])
    parts: list[RenderableType] = []
    recommendation = str(facts["recommendation"]["sentence"])
    if headline.linear_first(facts):
        parts.append(Padding(Text(recommendation, style="bold"), (0, 0, 1, 0)))
    parts += [_results(facts), tag + Text(str(verdict["sentence"]))]
    if not headline.linear_first(facts):
        parts.append(Text(recommendation))
    if facts.get("certificate"):
        line = headline.certificate(facts)
        parts.append(
            Text(f"{line.heading}  ", style="bold green" if line.tone == "good" else "bold yellow") + Text(line.said)
        )
    parts += [Text(sentence) for sentence in economics_sentences(facts)]
    if facts["scale"] != "full":
        parts.append(
            Text(f"Made with --scale {facts['scale']}: it shows that the run works, not how good the student is.")
        )
    if folder is not None:
        student = f" · {facts['student']['file']}" if facts["student"].get("file") else ""
        parts.append(Padding(Text(f"{folder}/ report.html · report.json{student}", style="dim"), (1, 0, 0, 0)))
    return Group(*parts)


def _results(facts: Facts) -> Table:
    confidence = f"{facts['verdict']['confidence'] * 100:g} %"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), title_justify="left")
    table.add_column(str(facts["name"]), no_wrap=True)
    exact, near = score_names(facts)
    text = facts["task"]["kind"] != "classify"
    for head in (
        "parameters",
        exact,
        f"{confidence} interval",
        *([near] if text else []),
        "requests/s",
        *([] if text else ["tokens/req"]),
        "$/million",
        "cheaper",
    ):
        table.add_column(head, justify="right", no_wrap=True)
    for role, result in models(facts):
        table.add_row(
            Text(role),
            parameters(result["parameters_total"]),
            percent(result["accuracy"]),
            interval(result["ci95"]),
            *([percent(finer(result))] if text else []),
            number(result["requests_per_s"]),
            *([] if text else [number(result["tokens_per_request"])]),
            money(result["usd_per_million_requests"]),
            cheaper(result, facts["teacher"]),
            style="bold" if role == "student" else "",
        )
    return table


def columns(first: str, *heads: str) -> Table:
    """An empty table: a column of names, and columns of figures."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    shown.add_column(first, no_wrap=True)
    for head in heads:
        shown.add_column(head, justify="right", no_wrap=True)
    return shown
