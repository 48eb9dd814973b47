"""Many calls at once, with no barrier between them: an event loop in a thread of its own.

The caller's thread hands requests over as places become free and commits answers as they arrive; those
that arrive during a commit are committed together by the next one. So neither waits for the other.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable
from queue import Empty, SimpleQueue
from typing import Any

from aasut.teacher.base import Keep
from aasut.types import Completion, Request

LAST_WORDS_S = 5.0  # for calls that are dropped to end

Asker = Callable[[Request], Coroutine[Any, Any, Completion]]


class Flow:
    """Runs `ask` for up to `ahead` requests at a time. `rest` is told to drop those that wait for their turn."""

    def __init__(self, ask: Asker, rest: Callable[[], None], ahead: int) -> None:
        self._ask, self._rest, self._ahead = ask, rest, ahead
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="teacher", daemon=True)
        self._thread.start()

    def run(self, requests: Iterable[Request], keep: Keep | None) -> list[Completion]:
        """The answers, in order; each is given to `keep` in this thread.

        The first exception of `ask` is raised once all calls under way have ended and are kept; no
        other call begins. Ctrl-C drops the calls under way and keeps what has arrived.
        """
        job = _Job(self._loop, self._ask, self._rest)
        source = iter(requests)
        drained = False
        try:
            while True:
                fresh: list[Request] = []
                while not drained and job.fault is None and job.open + len(fresh) < self._ahead:
                    request = next(source, None)
                    drained = request is None
                    if request is not None:
                        fresh.append(request)
                job.begin(fresh)
                if not job.open:
                    break
                job.take(keep)
        except BaseException:
            job.drop(keep)
            raise
        if job.fault is not None:
            raise job.fault
        return [job.found[number] for number in range(job.begun)]

    def call(self, function: Callable[[int], None], number: int) -> None:
        """Have a function called in the loop's thread."""
        self._loop.call_soon_threadsafe(function, number)

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        """Run `last` in the loop, and end it."""
        asyncio.run_coroutine_threadsafe(last, self._loop).result(LAST_WORDS_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(LAST_WORDS_S)


class _Job:
    """One `run`. `open` counts requests that were handed over and have not come back."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ask: Asker, rest: Callable[[], None]) -> None:
        self.fault: BaseException | None = None
        self.found: dict[int, Completion] = {}
        self.begun = self.open = 0
        self._loop, self._ask, self._rest = loop, ask, rest
        self._arrived: SimpleQueue[tuple[int, Request, Completion | None]] = SimpleQueue()
        self._unkept: list[tuple[Request, Completion]] = []
        self._full = False  # answers cannot be kept any more
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, requests: list[Request]) -> None:
        if requests:
            numbered = list(enumerate(requests, self.begun))
            self.begun, self.open = self.begun + len(requests), self.open + len(requests)
            self._loop.call_soon_threadsafe(self._start, numbered)

    def take(self, keep: Keep | None, timeout_s: float | None = None) -> None:
        """Wait for an answer, then keep it and all that are there. Raises queue.Empty after `timeout_s`."""
        batch = [self._arrived.get(timeout=timeout_s)]
        while not self._arrived.empty():
            batch.append(self._arrived.get())
        self.open -= len(batch)
        for number, request, answer in batch:
            if answer is not None:
                self.found[number] = answer
                self._unkept.append((request, answer))
        self._keep(keep)

    def drop(self, keep: Keep | None) -> None:
        """End all calls; keep those that were answered, unless keeping is what failed."""
        self._loop.call_soon_threadsafe(self._cancel)
        keep = None if self._full else keep
        try:
            while self.open:
                self.take(keep, LAST_WORDS_S)
        except Empty:
            return
        finally:
            self._keep(keep)  # a batch whose keeping was interrupted

    def _keep(self, keep: Keep | None) -> None:
        if keep is not None and self._unkept:
            try:
                keep(self._unkept)
            except Exception:
                self._full = True
                raise
        self._unkept = []

    def _start(self, numbered: list[tuple[int, Request]]) -> None:
        for number, request in numbered:
            task = self._loop.create_task(self._one(number, request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _one(self, number: int, request: Request) -> None:
        answer = None
        try:
            if self.fault is None:
                answer = await self._ask(request)
        except asyncio.CancelledError:
            pass  # the run stops
        except BaseException as error:
            if self.fault is None:
                self.fault = error
            self._rest()
        finally:
            self._arrived.put((number, request, answer))

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()
