"""SEAM: a teacher answers requests. One call: `complete`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from aasut.errors import TeacherError
from aasut.types import Completion, Request, Usage

Keep = Callable[[Sequence[tuple[Request, Completion]]], None]


class Teacher(Protocol):
    """A model that is asked, local or behind an API."""

    identity: str  # endpoint and model revision: part of every key in the ledger

    def complete(self, requests: Sequence[Request], keep: Keep | None = None) -> list[Completion]:
        """One completion a request, in order.

        `keep` is called with answers the moment they are there, so that they outlive a fault: an API's
        one by one, a local batch as a whole. Row faults come back as `failure`; run faults raise TeacherError.
        """

    def price(self, usage: Usage) -> float:
        """Dollars that a call with this usage costs; 0 for a model of one's own."""

    def charge(self, usd: float) -> None:
        """Count dollars that earlier runs paid towards the spending cap, where there is one."""

    def close(self) -> None:
        """Give memory and connections back."""


@runtime_checkable
class Remote(Teacher, Protocol):
    """A teacher behind an API: calls flow one by one, with no batches, and may cost money without an answer."""

    concurrency: int  # calls in flight at most
    notes: Counter[str]  # what the user should know of the answers so far, and how often

    def complete(self, requests: Iterable[Request], keep: Keep | None = None) -> list[Completion]:
        """As `Teacher.complete`; takes requests as it goes, in the thread of the caller, which also runs `keep`."""

    def at_risk(self, paid: float, request: Request | None = None) -> float:
        """Dollars that calls not entered yet may cost at most, where `paid` are entered; with one more `request`."""

    def take_lost(self) -> float:
        """Dollars, since this was last asked, for attempts that ended without an answer and may have been paid."""


_FACTORIES = {
    "model": "aasut.teacher.local:create",
    "endpoint": "aasut.teacher.openai:create",
    "scripted": "aasut.teacher.scripted:create",
}


def create(kind: str, settings: Any, path: Path | None, revision: str) -> Teacher:
    """The teacher that a recipe's section `teacher` declares; `path` and `revision` are a local model's."""
    if kind not in _FACTORIES:
        raise TeacherError(f"There is no teacher {kind!r}.", f"Choose one of: {', '.join(sorted(_FACTORIES))}.")
    module, function = _FACTORIES[kind].split(":")
    teacher: Teacher = getattr(import_module(module), function)(settings, path, revision)
    return teacher
