"""How far a recipe's answers by hand are: counts, agreement, what is left, and the next command."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from aasut.data import gold
from aasut.data.gold import Line
from aasut.evaluate.agreement import Agreement, agreement
from aasut.gold.plan import Plan
from aasut.gold.session import pace
from aasut.gold.terminal import clock
from aasut.tasks import Task
from aasut.types import Example

_NOT_USABLE = "\0not usable"  # as an answer beside the task's own


def agreed(
    rows: Sequence[Example], standing: dict[str, list[Line]], task: Task, confidence: float, by: int = 1
) -> Agreement | None:
    """Agreement on the rows that two people answered, the first whole multiple of `by`; adjudications do not count."""
    pairs, groups = [], []
    for row in rows:
        said = [x for x in standing.get(row.id, []) if x.round != "adjudicated" and x.kind in ("answer", "unusable")]
        if len(said) > 1:
            first, second = ((x.by, x.text if x.kind == "answer" else _NOT_USABLE) for x in said[:2])
            pairs.append((first, second))
            groups.append(row.group)
    whole = len(pairs) // by * by
    return agreement(pairs[:whole], groups[:whole], labels=bool(task.answers), confidence=confidence)


def note(found: Agreement | None) -> str:
    """Agreement in a few words, empty where there is none yet."""
    if found is None:
        return ""
    if found.value is None:
        return f"agreement on {found.items:,} rows: {found.exact * 100:.0f} %"
    value = f"{found.value:.2f}" if found.measure != "exact" else f"{found.exact * 100:.0f} %"
    name = "agreement" if found.measure == "exact" else found.measure
    if found.lower is None or found.upper is None:
        return f"{name} {value}"
    return f"{name} {value} ({found.lower:.2f} to {found.upper:.2f})"


def gather(
    task: Task,
    lines: Sequence[Line],
    rows: Sequence[Example],
    split_of: dict[str, str],
    doubles: set[str],
    plan: Plan,
    *,
    chosen: int = 0,
    confidence: float,
    again: str,
    use: str,
) -> dict[str, Any]:
    """The state as plain data.

    rows: all that may be asked, in order, of which the plan's number is asked; split_of: by group;
    doubles: ids that a second person is asked; chosen: rows that are left out because `aasut label`
    chose them; again, use: the commands that ask more and that use the answers.
    """
    standing, _, refused_lines = gold.standing(lines, gold.hashes(rows, task), task)
    outcome = {row.id: gold.settle(standing[row.id]) for row in rows if row.id in standing}
    settled = [row for row in rows if outcome.get(row.id, (None, ""))[0] is not None]
    reasons = Counter(reason for answer, reason in outcome.values() if answer is None)
    every = [line for of_row in standing.values() for line in of_row]
    asked = rows[: plan.asked]
    found = agreed(rows, standing, task, confidence)
    people = {}
    for name in sorted({line.by for line in every}):
        of_one = [line for line in every if line.by == name]
        people[name] = {"answers": len(of_one), "seconds_each": pace(of_one)}
    state: dict[str, Any] = {
        "asked": plan.asked,
        "wanted": plan.wanted,
        "margin": plan.margin,
        "margin_shown": plan.margin_shown,
        "plan": plan.sentence(),
        "answers": len(settled),
        "splits": dict(sorted(Counter(split_of[row.group] for row in settled).items())),
        "labels": dict(sorted(Counter(str(outcome[row.id][0]) for row in settled).items())) if task.answers else {},
        "left_out": chosen,
        "untouched": sum(not standing.get(row.id) for row in asked),
        "disagree": reasons[gold.DISAGREE],
        "not_usable": reasons[gold.NOT_USABLE],
        "skipped": reasons[gold.SKIPPED],
        "wait_for_second": sum(row.id in doubles and _opinions(standing, row.id) == 1 for row in asked),
        "answered_twice": found.items if found else 0,
        "agreement": found.as_dict() if found else None,
        "raters": people,
        "seconds_left": None,
        "refused_lines": refused_lines,
    }
    each = pace(every)
    if each is not None:
        state["seconds_left"] = each * (state["untouched"] + state["wait_for_second"])
    state["next"] = _next(state, again, use)
    return state


def describe(state: dict[str, Any]) -> list[str]:
    """The state in lines for a reader."""
    lines = [state["plan"], f"{state['answers']:,} rows answered; {_left(state)}."]
    if state["left_out"]:
        lines.append(
            f"{state['left_out']:,} rows are not asked: they were chosen for labelling, no fair sample to test on."
        )
    if state["splits"]:
        lines.append("Of them in " + ", ".join(f"{split} {count:,}" for split, count in state["splits"].items()) + ".")
    if state["labels"]:
        lines.append("Answers: " + ", ".join(f"{label} {count:,}" for label, count in state["labels"].items()) + ".")
    out = {"disagree": "raters disagree on", "not_usable": "not usable", "skipped": "skipped"}
    shown = [f"{words} {state[key]:,}" for key, words in out.items() if state[key]]
    if shown:
        lines.append("Not counted: " + ", ".join(shown) + ".")
    for reason, count in state["refused_lines"].items():
        lines.append(f"{count:,} lines of the file cannot be used: {reason}.")
    found = state["agreement"]
    if found:
        words = note(Agreement(**found))
        lines.append(
            f"Two people answered {found['items']:,} rows and say the same on {found['exact'] * 100:.0f} %: {words}."
        )
    for name, person in state["raters"].items():
        lines.append(f"{name}: {person['answers']:,} rows, {person['seconds_each']:.1f} s each.")
    return [*lines, *state["next"]]


def _left(state: dict[str, Any]) -> str:
    again, left = state["wait_for_second"], state["untouched"] + state["wait_for_second"]
    if not left:
        return "nothing is left to ask"
    second = f", {again:,} of them a second person" if again else ""
    return f"{left:,} left to ask{second}" + (
        f", about {clock(state['seconds_left'])}" if state["seconds_left"] is not None else ""
    )


def _opinions(standing: dict[str, list[Line]], row_id: str) -> int:
    return sum(line.kind in ("answer", "unusable") for line in standing.get(row_id, []))


def _next(state: dict[str, Any], again: str, use: str) -> list[str]:
    """What to do now, one command a line, the one that matters most first."""
    found = []
    if state["untouched"]:
        found.append(f"Go on: {again}")
    if state["wait_for_second"]:
        found.append(f"{state['wait_for_second']:,} rows wait for a second person: {again} --rater NAME")
    if state["disagree"]:
        found.append(f"Decide where raters disagree, else only easy rows count: {again} --adjudicate")
    if not state["untouched"]:
        found.append(f"Use the answers: {use}")
    return found
