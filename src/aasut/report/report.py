"""A run's results as report.json, the truth, and report.html, its picture.

The facts are plain data with the keys of KEYS; what stands under them is told in docs/lifecycle.md. Others are
optional (certificate, risk_coverage, learning_curve, metrics, margin_recorded, judged): where one is
missing the page says how to get it, or leaves its part out.
The page is one file that works offline: no scripts, nothing fetched, charts inline.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aasut.economics.cost import usd
from aasut.errors import DataError
from aasut.evaluate.paired import points
from aasut.report import (
    certificate_charts,
    charts,
    curves,
    headline,
    judged_charts,
    loss_curves,
    router,
    start,
    table,
    tornado,
    words,
)
from aasut.report.page import template
from aasut.report.table import Facts
from aasut.store import write_atomically

VERSION = 2
KEYS = (
    "name", "scale", "task", "data", "teacher", "student", "baselines", "verdict", "against_linear", "recommendation",
    "economics", "training", "conservation", "ledger", "test_opened", "licences", "lineage", "disagreements", "seconds",
)  # fmt: skip
CHARTS = {
    "accuracy": charts.accuracy,
    "difference": charts.difference,
    "reliability": charts.reliability,
    "risk_coverage": certificate_charts.risk_coverage,
    "learning_curve": curves.learning_curve,
    "preference": judged_charts.preference,
    "corrected": judged_charts.corrected,
    "losses": loss_curves.losses,
    "preference_losses": loss_curves.preference,
    "healing": loss_curves.healing,
    "experts": router.loads,
    "experts_of_groups": router.groups,
    "costs": charts.costs,
    "break_even": charts.break_even,
    "tornado": tornado.tornado,
}
CONFUSIONS_LISTED = 10


def write(facts: Facts, folder: Path) -> None:
    """Write report.json and report.html into `folder`; equal facts give equal bytes.

    Both are rendered before either is written, and each is put in place whole. Raises DataError
    where a key of KEYS is missing or a number is not finite.
    """
    missing = [key for key in KEYS if key not in facts]
    if missing:
        raise DataError(f"The report lacks {', '.join(missing)}.", f"Its keys are {', '.join(KEYS)}.")
    for where in _not_finite(facts, "report"):
        raise DataError(f"{where} is not a finite number.", "Leave it null where it was not measured.")
    ordered = {key: facts[key] for key in KEYS} | {key: facts[key] for key in sorted(facts) if key not in KEYS}
    text = json.dumps(ordered, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    page = html(ordered)
    write_atomically(folder / "report.html", page)
    write_atomically(folder / "report.json", text)


def html(facts: Facts) -> str:
    """The page of these facts; every text in them is escaped."""
    filters = {
        "percent": table.percent,
        "interval": table.interval,
        "parameters": table.parameters,
        "number": table.number,
        "money": table.money,
        "usd": usd,
        "signed_usd": tornado.signed,
        "points": lambda value: points(value, signed=True),
        "points_plain": points,
        "signed": words.signed,
        "said": words.said,
        "moment": words.moment,
        "chance": words.chance,
        "often": words.often,
        "measure": words.measure,
        "duration": duration,
        "reasons": reasons,
        "start": start.rows,
        "experts": router.rows,
        "initial": lambda text: text[:1].upper() + text[1:],
        "words": lambda name: str(name).replace("_", " "),
    }
    return template("template.html", filters).render(
        facts=facts,
        models=table.models(facts),
        cheaper=table.cheaper,
        scores=table.score_names(facts),
        finer=table.finer,
        result_name=table.RESULTS[facts["verdict"]["result"]],
        linear_first=headline.linear_first(facts),
        headline=headline.lines(facts),
        headline_certificate=headline.certificate(facts),
        economics_sentences=table.economics_sentences(facts),
        confusions={side: charts.confusion(facts, side) for side in ("teacher", "student")},
        mistakes=mistakes(facts),
        charts={name: draw(facts) for name, draw in CHARTS.items()},
    )


def mistakes(facts: Facts) -> list[dict[str, Any]]:
    """The student's most frequent confusions where there are more than two answers, most frequent first."""
    answers, matrix = facts["task"]["answers"], facts["student"]["confusion"] or []
    if len(answers) <= 2:
        return []
    found = [
        {"human": answers[i], "student": answers[j], "n": count, "share": count / sum(row)}
        for i, row in enumerate(matrix)
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(found, key=lambda m: -m["n"])[:CONFUSIONS_LISTED]


def duration(seconds: float) -> str:
    """214.3 is "3 min 34 s"."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def reasons(counts: Mapping[str, int]) -> str:
    """{"empty text": 10} is "10 empty text"; nothing is "0"."""
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.items() if count) or "0"


def _not_finite(value: Any, where: str) -> Iterator[str]:
    if isinstance(value, float) and not math.isfinite(value):
        yield where
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _not_finite(item, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            yield from _not_finite(item, f"{where}[{place}]")
