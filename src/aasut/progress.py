"""Progress of long steps, with time left: a bar on a terminal, JSON lines elsewhere."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


class Progress:
    """Says what is going on, on `stream` (standard error), so that standard output stays clean.

    quiet: say nothing, for library use and tests.
    """

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False, every_s: float = 5.0) -> None:
        self.stream = stream if stream is not None else sys.stderr
        self.quiet = quiet
        self.every_s = every_s
        self.terminal = self.stream.isatty()

    def say(self, text: str) -> None:
        """One line for the reader."""
        if self.quiet:
            return
        line = text if self.terminal else json.dumps({"message": text}, ensure_ascii=False)
        print(line, file=self.stream, flush=True)

    @contextmanager
    def steps(self, what: str, total: int) -> Iterator[Step]:
        """A step of `total` parts; call `advance` on what this yields."""
        step = Step(self, what, total)
        try:
            yield step
        finally:
            step.close()


class Step:
    """A running step. The time left is the mean time a part took so far, times the parts left."""

    def __init__(self, progress: Progress, what: str, total: int) -> None:
        self.progress, self.what, self.total = progress, what, total
        self.done = self.resumed = 0
        self.note = ""
        self.started = self.shown = time.monotonic()

    def advance(self, parts: int = 1, note: str = "", *, resumed: bool = False) -> None:
        """`resumed` parts were there before this run, and say nothing about its pace."""
        self.done += parts
        self.resumed += parts if resumed else 0
        self.note = note or self.note
        interval = 0.2 if self.progress.terminal else self.progress.every_s
        if not self.progress.quiet and self.done < self.total and time.monotonic() - self.shown >= interval:
            self._show()

    def close(self) -> None:
        if not self.progress.quiet:
            self._show()
            if self.progress.terminal:
                print(file=self.progress.stream, flush=True)

    @property
    def seconds_left(self) -> float | None:
        worked = self.done - self.resumed
        if worked <= 0:
            return None
        return (time.monotonic() - self.started) / worked * max(self.total - self.done, 0)

    def _show(self) -> None:
        self.shown = time.monotonic()
        elapsed, left = self.shown - self.started, self.seconds_left
        if self.progress.terminal:
            share = self.done / self.total if self.total else 1.0
            bar = "━" * int(24 * min(share, 1.0))
            tail = f"{_clock(left)} left" if left is not None else "…"
            text = f"\r\x1b[K{self.what:<28} {bar:<24} {self.done}/{self.total}  {_clock(elapsed)}, {tail}  {self.note}"
            print(text, end="", file=self.progress.stream, flush=True)
        else:
            record = {"step": self.what, "done": self.done, "total": self.total, "elapsed_s": round(elapsed, 1)}
            record |= {"left_s": round(left, 1)} if left is not None else {}
            record |= {"note": self.note} if self.note else {}
            print(json.dumps(record, ensure_ascii=False), file=self.progress.stream, flush=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds + 0.5), 60)
    return f"{minutes}:{rest:02d}"
