"""What an examination finds, and how one is made that neither crashes nor hangs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["ok", "note", "fault"]


@dataclass(frozen=True)
class Finding:
    """One thing looked at: `note` is worth knowing, with a `fault` something will not work.

    `problem` says what does not work, or works badly, and how to mend it; it is empty where all is well.
    """

    name: str
    value: str
    level: Level = "ok"
    problem: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


Probe = Callable[[], Iterator[Finding]]


class Examination:
    """A probe that runs beside the others. What it found until it failed, or its time was up, counts."""

    def __init__(self, title: str, probe: Probe) -> None:
        self.title, self._probe = title, probe
        self._found: list[Finding] = []
        self._thread = threading.Thread(target=self._run, daemon=True)  # a hung disk cannot hold up the end
        self._thread.start()

    def _run(self) -> None:
        try:
            for finding in self._probe():
                self._found.append(finding)
        except Exception as error:  # a doctor says what ails, and goes on
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            self._found.append(Finding("not examined", reason, "note", f"{self.title} was not examined: {reason}"))

    def result(self, seconds: float) -> list[Finding]:
        """What was found within so many seconds from now."""
        self._thread.join(max(seconds, 0.0))
        found = list(self._found)
        if self._thread.is_alive():
            problem = f"{self.title}: no answer in time; a disk, a network folder or the machine itself may hang."
            found.append(Finding("not examined", "no answer in time", "fault", problem))
        return found
