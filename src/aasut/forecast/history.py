"""What earlier runs in the same folder say of this machine's pace: the seconds and the work of finished stages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aasut.recipe import Recipe
from aasut.store import TIMINGS, Store

SAME_STUDENT = ("initialise", "model", "shape", "frozen_layers", "precision", "batch_examples")
SAME_TEACHER = ("model", "engine", "precision")


@dataclass(frozen=True)
class _Done:
    """A finished artefact, as the store recorded it."""

    fingerprint: str
    settings: Any
    facts: dict[str, Any]
    seconds: float


def student(store: Store, recipe: Recipe) -> dict[str, float]:
    """Seconds a trained position, of an export, and a token or an answer of the served student; empty if unknown.

    From the last run that trained the same student for the same kind of task and exported it the same way. The
    training's first step and its looks at the validation share are in the position's seconds.
    """
    wanted = recipe.student.model_dump(mode="json")
    for trained in _of_stage(store, "train"):
        settings, task = trained.settings[0], trained.settings[1]
        if task.get("kind") != recipe.task.kind or any(settings.get(n) != wanted[n] for n in SAME_STUDENT):
            continue
        for exported in _children(store, trained, "export"):
            if exported.settings[1] != recipe.export.model_dump(mode="json"):
                continue
            for evaluated in _children(store, exported, "evaluate"):
                found = {"position": trained.seconds / trained.facts["positions"], "first": 0.0, "forward": 0.0}
                return found | {"export": exported.seconds} | _speed(store, evaluated, "student")
    return {}


def teacher(store: Store, recipe: Recipe) -> dict[str, float]:
    """Seconds a token that a local teacher computes, with the prefix cache and without; of an answer; empty if unknown.

    From the last run that evaluated the same teacher on the same task.
    """
    wanted = recipe.teacher.model_dump(mode="json")
    for chosen in _of_stage(store, "choose"):
        if any(chosen.settings[0].get(name) != wanted[name] for name in SAME_TEACHER):
            continue
        if chosen.settings[2] != recipe.task.model_dump(mode="json"):
            continue
        for labelled in _children(store, chosen, "label"):
            for evaluated in _children(store, labelled, "evaluate"):
                found = _speed(store, evaluated, "teacher")
                if found:
                    return found
    return {}


def _speed(store: Store, evaluated: _Done, model: str) -> dict[str, float]:
    """From the measured speeds of a finished `evaluate`."""
    path = store.root / "artefacts" / evaluated.fingerprint / TIMINGS
    try:
        speeds = json.loads(path.read_text(encoding="utf-8"))
        cached, uncached = speeds["cached"][model], speeds["uncached"][model]
    except (OSError, ValueError, LookupError):
        return {}
    return {
        "tokens": 1 / (cached["requests_per_s"] * cached["computed_per_request"]),
        "whole": 1 / (uncached["requests_per_s"] * uncached["computed_per_request"]),
        "request": 1 / cached["requests_per_s"],
    }


def _of_stage(store: Store, stage: str) -> Iterator[_Done]:
    """Finished artefacts of a stage, the last one first."""
    query = "SELECT fingerprint, settings, facts, seconds FROM artefact WHERE stage = ? ORDER BY created DESC"
    yield from _read(store, query, (stage,))


def _children(store: Store, parent: _Done, stage: str) -> Iterator[_Done]:
    """Finished artefacts of a stage that were made from this one, the last one first."""
    query = (
        "SELECT a.fingerprint, a.settings, a.facts, a.seconds FROM artefact a JOIN parent p USING (fingerprint) "
        "WHERE p.parent = ? AND a.stage = ? ORDER BY a.created DESC"
    )
    yield from _read(store, query, (parent.fingerprint, stage))


def _read(store: Store, query: str, values: tuple[str, ...]) -> Iterator[_Done]:
    for fingerprint, settings, facts, seconds in store.database.execute(query, values).fetchall():
        yield _Done(fingerprint, json.loads(settings), json.loads(facts), seconds)
