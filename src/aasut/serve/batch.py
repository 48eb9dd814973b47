"""One thread with the engine: requests that arrive while it is busy wait, and go into its next call together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar

from aasut.engine import base
from aasut.engine.base import Piece, Prompt
from aasut.serve.flow import Flow
from aasut.serve.refusal import Refusal
from aasut.serve.student import Answer, ServedStudent

Ask = TypeVar("Ask")
Told = Piece | Answer | Exception
Tell = Callable[[int, Told], None]


class Batcher(Generic[Ask]):
    """Hands what waits to `work(batch, tell)` on a thread, up to `largest` at once.

    `work` tells each row what it has; a row ends with an Answer, an Exception or a Piece with a finish.
    At most `room` wait; more get Refusal 503.
    """

    def __init__(self, work: Callable[[list[Ask], Tell], None], largest: int, room: int) -> None:
        self.work, self.largest, self.room = work, largest, room
        self._waiting: deque[tuple[Ask, asyncio.Queue[Told]]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._worker: asyncio.Task[None] | None = None

    async def ask(self, what: Ask) -> AsyncGenerator[Piece | Answer, None]:
        """What the engine says to one request, until it ends; raises what it raised."""
        if len(self._waiting) >= self.room:
            raise Refusal("Too many requests wait. Try again soon.", status=503, kind="server_error", code="overloaded")
        told: asyncio.Queue[Told] = asyncio.Queue()
        entry = (what, told)
        self._waiting.append(entry)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._run())
        try:
            while True:
                said = await told.get()
                if isinstance(said, Exception):
                    raise said
                yield said
                if isinstance(said, Answer) or said.finish:
                    return
        finally:
            if entry in self._waiting:  # nobody waits for it any more
                self._waiting.remove(entry)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(self.largest, len(self._waiting)))]
            queues = [queue for _, queue in batch]

            def tell(row: int, said: Told, queues: list[asyncio.Queue[Told]] = queues) -> None:
                loop.call_soon_threadsafe(queues[row].put_nowait, said)

            try:
                await loop.run_in_executor(self._thread, self.work, [what for what, _ in batch], tell)
            except Exception as error:
                for queue in queues:  # those that have ended do not look any more
                    queue.put_nowait(error)

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)


class Waiter(Protocol):
    """What requests go to."""

    def ask(self, prompt: Prompt, /) -> AsyncGenerator[Piece | Answer, None]:
        """What the engine says to one request, until it ends; raises what it raised, or Refusal 503."""

    def close(self) -> None:
        """Answer nothing more."""


def batcher(student: ServedStudent, largest: int, room: int) -> Waiter:
    """The waiter of a student: labels are scored, text is written, step by step where the engine can.

    At most `room` requests wait while `largest` are worked on.
    """
    if not student.task.answers:
        session = base.session(student.engine, largest)
        if session is not None:
            return Flow(session, largest + room)

    def score(batch: list[Prompt], tell: Tell) -> None:
        for row, answer in enumerate(student.score([prompt.text for prompt in batch])):
            tell(row, answer)

    def write(batch: list[Prompt], tell: Tell) -> None:
        for row, piece in student.write(batch):
            tell(row, piece)

    return Batcher(score if student.task.answers else write, largest, room)
