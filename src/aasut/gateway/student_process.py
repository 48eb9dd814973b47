"""The student's process as the gateway has it: started, asked, watched, and started again where it ended."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from aasut.errors import AasutError, ModelError
from aasut.gateway.frames import Frames, pack

DELAYS_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)  # before a process that ended is started again
STEADY_S = 60.0  # seconds up after which the delays begin anew
STOP_S = 5.0  # that a process has to end by itself when it is closed
SILENT = 2  # times the answer's time limit, of silence while asked, after which a process is taken for stuck

Event = Callable[[str, str], None]


class Unanswered(Exception):
    """The student has no answer: student_down, student_busy, student_slow, student_failed or too_long."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Kind:
    """Which student it is: its run's folder, the hash of its file, its engine's name ("" for any), its scorer."""

    folder: Path
    sha256: str
    engine: str
    scorer: Mapping[str, Any]


class _Link(asyncio.Protocol):
    """The socket to one process: answers go to those who wait for them, by number."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[dict[str, Any]] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.silent_since: float | None = None  # when the first request came after which nothing was heard
        self._frames = Frames()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one without being an instance

    def data_received(self, data: bytes) -> None:
        self.silent_since = None
        for told in self._frames.add(data):
            if isinstance(told, dict):
                self.ready.set_result(told)
                continue
            number, answer = told
            waiter = self.waiting.get(number)
            if waiter is not None and not waiter.done():
                waiter.set_result(answer)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_result({"refused": ["The student's process ended before it was ready.", ""]})
        for waiter in self.waiting.values():
            if not waiter.done():
                waiter.set_exception(Unanswered("student_down"))
        self.ended.set_result(None)

    def write(self, frame: bytes) -> None:
        assert self._transport is not None
        self._transport.write(frame)

    def close(self) -> None:
        """The process sees that, and ends."""
        if self._transport is not None:
            self._transport.close()


class StudentProcess:
    """Open it with `open`. At most `waiting` requests are under way, each for `timeout_s` seconds at most."""

    def __init__(self, kind: Kind, *, waiting: int, timeout_s: float, event: Event) -> None:
        self.kind, self.most, self.timeout_s, self.event = kind, waiting, timeout_s, event
        self._link: _Link | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._numbers = itertools.count()

    @classmethod
    async def open(cls, kind: Kind, *, waiting: int, timeout_s: float, event: Event) -> StudentProcess:
        """A process that is ready. `event(kind, text)` is told when it ends, and when it is back.

        Raises AasutError where the student cannot be loaded, or is another one than `kind` says.
        """
        found = cls(kind, waiting=waiting, timeout_s=timeout_s, event=event)
        await found._start()
        found._keeper = asyncio.create_task(found._keep())
        return found

    @property
    def up(self) -> bool:
        """Is there a process that can be asked?"""
        return self._link is not None and not self._link.ended.done()

    @property
    def pid(self) -> int | None:
        """The process's number, None where there is none."""
        return self._process.pid if self._process is not None and self.up else None

    async def ask(self, prompt: str) -> dict[str, Any]:
        """What the student says to a plain prompt, see worker.Answering. Raises Unanswered."""
        link = self._link
        if link is None or link.ended.done():
            raise Unanswered("student_down")
        if len(link.waiting) >= self.most:
            raise Unanswered("student_busy")
        if link.silent_since is None:
            link.silent_since = time.monotonic()
        number = next(self._numbers)
        waiter = link.waiting[number] = asyncio.get_running_loop().create_future()
        try:
            link.write(pack([number, prompt, time.monotonic() + self.timeout_s]))
            async with asyncio.timeout(self.timeout_s):
                told: dict[str, Any] = await waiter
        except TimeoutError:
            since = link.silent_since
            if link is self._link and since is not None and time.monotonic() - since > SILENT * self.timeout_s:
                self._kill()  # it is stuck, not slow: slow ones are heard of, if late
            raise Unanswered("student_slow") from None
        finally:
            del link.waiting[number]
        if "fault" in told:
            raise Unanswered(told["fault"])
        return told

    async def close(self) -> None:
        """Let what is under way be answered, then end the process."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        link = self._link
        if link is not None and link.waiting:
            await asyncio.wait(list(link.waiting.values()), timeout=self.timeout_s)
        await self._end()

    async def _keep(self) -> None:
        """Start the process again whenever it ended."""
        failed = 0
        while True:
            began = time.monotonic()
            assert self._link is not None
            await asyncio.shield(self._link.ended)
            how = await self._end()
            failed = 0 if time.monotonic() - began > STEADY_S else failed
            self.event("student_down", f"The student's process {how}; requests go upstream. It is started again.")
            while True:
                await asyncio.sleep(DELAYS_S[min(failed, len(DELAYS_S) - 1)])
                failed += 1
                try:
                    await self._start()
                except (AasutError, OSError) as error:
                    self.event("student_down", f"The student's process cannot be started again: {error}")
                    continue
                self.event("student_up", "The student's process is back.")
                break

    async def _start(self) -> None:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                given = [str(self.kind.folder), str(theirs.fileno()), json.dumps(dict(self.kind.scorer))]
                command = ["-P", "-m", "aasut.gateway.worker", *given]
                # In a session of its own: Ctrl-C is for the gateway, which still has requests to answer.
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable, *command, pass_fds=[theirs.fileno()], start_new_session=True,
                    stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
                )  # fmt: skip
            _, link = await asyncio.get_running_loop().create_unix_connection(_Link, sock=ours)
        except BaseException:
            ours.close()
            raise
        try:
            self._check(await link.ready)
        except BaseException:
            link.close()
            await self._end()
            raise
        self._link = link  # none is asked before it is ready

    def _check(self, told: Mapping[str, Any]) -> None:
        """Raise ModelError unless the student is the one that it has to be."""
        if "refused" in told:
            raise ModelError(*told["refused"])
        kind, ready = self.kind, told["ready"]
        if ready["sha256"] != kind.sha256:
            raise ModelError(
                f"{kind.folder}: the student is another one now: its file's SHA-256 is {ready['sha256']}, not "
                f"{kind.sha256}.",
                "Load the gateway's settings again.",
            )
        if kind.engine and ready["engine"] != kind.engine:
            raise ModelError(
                f"{kind.folder}: certificate.json is of the student on the engine {kind.engine}; here it runs on "
                f"{ready['engine']}.",
                "Certify on this machine: aasut run RECIPE, then aasut certify RUN.",
            )

    async def _end(self) -> str:
        """End the process and wait for it; how it ended, in words."""
        link, process = self._link, self._process
        self._link = None
        if link is not None:
            link.close()
        if process is None:
            return "is gone"
        try:
            async with asyncio.timeout(STOP_S):
                code = await process.wait()
        except TimeoutError:
            self._kill()
            code = await process.wait()
        except asyncio.CancelledError:
            self._kill()
            raise
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def _kill(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
