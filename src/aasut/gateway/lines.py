"""JSON lines on standard error, written by a thread of their own, so that a slow reader holds up no request."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Mapping
from queue import SimpleQueue
from typing import Any, TextIO

WAITING = 10_000  # lines that wait for the reader at most; more are lost, and counted


class Lines:
    """A writer of JSON lines. `lost`: lines that the reader was too slow for, or that could not be written."""

    def __init__(self, stream: TextIO | None = None, waiting: int = WAITING) -> None:
        self.stream = stream if stream is not None else sys.stderr
        self.waiting = waiting
        self.lost = 0
        self._queue: SimpleQueue[Mapping[str, Any] | None] = SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._write, name="lines", daemon=True)
        self._thread.start()

    def put(self, line: Mapping[str, Any]) -> None:
        """Write a line soon. Never waits and never raises; a full queue, or a closed one, loses it."""
        if self._closed or self._queue.qsize() >= self.waiting:
            self.lost += 1
        else:
            self._queue.put(line)

    def close(self, wait_s: float = 5.0) -> None:
        """Write what waits, for at most `wait_s` seconds."""
        self._closed = True
        self._queue.put(None)
        self._thread.join(wait_s)

    def _write(self) -> None:
        ended = False
        while not ended:
            batch = [self._queue.get()]
            while not self._queue.empty() and len(batch) < 200:
                batch.append(self._queue.get())
            ended = None in batch
            lines = [line for line in batch if line is not None]
            try:
                self.stream.write("".join(json.dumps(line, default=str) + "\n" for line in lines))
                self.stream.flush()
            except (OSError, ValueError):  # a reader that has gone, a full disk, a closed file
                self.lost += len(lines)
