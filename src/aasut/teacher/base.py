"""SEAM: a teacher answers requests. One call: `complete`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from aasut.types import Completion, Request


class Teacher(Protocol):
    """A model that is asked, local or behind an API."""

    identity: str  # endpoint and model revision: part of every key in the ledger

    def complete(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request, in order. Row faults come back as `failure`; run faults raise TeacherError."""

    def close(self) -> None:
        """Give memory and connections back."""
