"""How the page tells where a student started: what was taken out of the model, and the loss before training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aasut.report.table import parameters


def rows(start: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """(what, said) from the facts of the stage `initialise`; nothing for a linear student."""
    if not start:
        return []
    found = [("The student starts as", str(start["initialise"]))]
    if "removed" in start:
        found.append(("Taken out of the model", _removed(start["removed"])))
    if "parameters_before" in start:
        before, after = start["parameters_before"], start["parameters"]
        found.append(("Parameters", f"{parameters(before)} before, {parameters(after)} after ({after / before:.0%})"))
    if start.get("loss_before_training") is not None:
        found.append(("Loss before training", _losses(start)))
    return found


def _removed(removed: Mapping[str, Any]) -> str:
    parts = []
    if layers := removed["layers"]:
        parts.append(f"{_count(len(layers), 'layer')} ({', '.join(map(str, layers))}, counted from 0)")
    for what in ("heads", "neurons"):
        counts = {gone if isinstance(gone, int) else len(gone) for gone in removed[what].values()}
        parts += [f"{_count(count, what[:-1])} of every layer" for count in sorted(counts)]
    if removed["channels"]:
        parts.append(_count(removed["channels"], "hidden channel"))
    return ", ".join(parts)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' if number != 1 else ''}"


def _losses(start: Mapping[str, Any]) -> str:
    """Nats a token, beside those of the model that it was made of."""
    source = start.get("loss_of_source")
    beside = "" if source is None else f", {source:.3f} of the model as it was"
    held = "" if start.get("loss_on_held_out") else ", on texts that it was chosen by" if "removed" in start else ""
    return f"{start['loss_before_training']:.3f} nats a token{beside}{held}"
