"""The recorder in a process of its own, so that writing takes nothing from the requests.

What is put here goes over a socket within some milliseconds, and is kept until the other side says that it is on the
disk. Where that process ends, another one is started and gets it again; what the first had written already is not
written twice. It reads the socket to its end, so that a gateway that is killed loses what was not sent yet alone.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from aasut.errors import AasutError, StoreError
from aasut.gateway.exchange import Exchange
from aasut.gateway.packed import Frames, Packed, framed, pack
from aasut.gateway.recorder import MOST_BYTES, MOST_EVENTS, MOST_WAITING, Kept
from aasut.gateway.settings import Record

SEND_S = 0.015  # exchanges are gathered for so long
AGAIN_S = (0.0, 0.5, 2.0, 10.0)  # before another process is started
STOP_S = 30.0  # that it has to write what waits in


class Recording:
    """Open it with `open`. For one event loop. `failing`, `lost`, `written` and `waiting` as Recorder has them."""

    def __init__(self, folder: Path, settings: Record, secrets: Sequence[str]) -> None:
        self.failing = ""
        self.lost = self.written = 0
        self._setup = [str(folder), settings.model_dump_json(), list(secrets)]
        self._unsent: list[tuple[Any, ...]] = []
        self._kept: deque[tuple[Packed, int, Kept | None]] = deque()  # not known to be written
        self._bytes = 0
        self._events: deque[tuple[str, str, str]] = deque(maxlen=MOST_EVENTS)  # not known to be written
        self._promises: dict[str, tuple[str, float, float]] = {}
        self._link: _Link | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._tender: asyncio.Task[None] | None = None
        self._closing = False

    @classmethod
    async def open(cls, folder: Path, settings: Record, secrets: Sequence[str] = ()) -> Recording:
        """A process that records into `folder`. Raises StoreError where the store cannot be opened."""
        found = cls(folder, settings, secrets)
        await found._start(again=False)
        found._tender = asyncio.get_running_loop().create_task(found._tend())
        return found

    @property
    def waiting(self) -> int:
        """Exchanges that are not known to be on the disk."""
        return len(self._kept)

    @property
    def pid(self) -> int | None:
        """The number of the process, None where there is none just now."""
        return self._process.pid if self._process is not None and self._link is not None else None

    def put(self, exchange: Exchange, kept: Kept | None = None) -> None:
        """Take an exchange to be recorded. Never waits, never raises; `kept` is called once, as for Recorder."""
        size = len(exchange.request) + len(exchange.response) + 1000
        if self._closing or len(self._kept) >= MOST_WAITING or (self._kept and self._bytes + size > MOST_BYTES):
            self.lost += 1
            if not self.failing:
                self.failing = "more comes than can be written"
                self.event("recording_failed", self.failing)
            if kept is not None:
                kept(self.failing)
            return
        packed = pack(exchange)
        if kept is not None and self.failing:
            kept(self.failing)
            kept = None
        self._kept.append((packed, size, kept))
        self._bytes += size
        self._send(("put", *packed, kept is not None))

    def event(self, kind: str, text: str) -> None:
        """Note what happened, in a word and a sentence."""
        self._events.append(("event", kind, text))
        self._send(self._events[-1])

    def promise(self, certificate: str, run: str, risk: float, confidence: float) -> None:
        """Note what a certificate promises, as for Recorder."""
        self._promises[certificate] = run, risk, confidence
        self._send(("promise", certificate, run, risk, confidence))

    async def close(self) -> None:
        """Have what waits written, and end the process. What cannot be written now is lost."""
        self._closing = True
        self._flush()
        if self._tender is not None:
            self._tender.cancel()
        if self._link is not None:
            self._link.finish()
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await self._link.ended
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        self.lost += len(self._kept)
        self._let_go(len(self._kept), "the recorder is closed")

    def _send(self, what: tuple[Any, ...]) -> None:
        self._unsent.append(what)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SEND_S, self._flush)

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._link is not None and self._unsent:
            unsent, self._unsent = self._unsent, []
            self._link.write(unsent)

    def _told(self, state: tuple[int, int, int, str]) -> None:
        """How the process goes: how many it has written, lost and noted, of those that it got in their order."""
        written, lost, noted, failing = state
        link = self._link
        if link is None:
            return
        done = written + lost - link.written - link.lost
        self.written += written - link.written
        self.lost += lost - link.lost
        self._let_go(done, "it could not be written" if lost > link.lost else "")
        for _ in range(min(noted - link.noted, len(self._events))):
            self._events.popleft()
        link.written, link.lost, link.noted = written, lost, noted
        self.failing = failing
        if failing:
            for place, (packed, size, kept) in enumerate(self._kept):
                if kept is not None:
                    kept(failing)
                    self._kept[place] = packed, size, None

    def _let_go(self, count: int, why: str) -> None:
        for _ in range(min(count, len(self._kept))):
            _, size, kept = self._kept.popleft()
            self._bytes -= size
            if kept is not None:
                kept(why)

    async def _start(self, *, again: bool) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "aasut.gateway.writing", str(theirs.fileno()), pass_fds=[theirs.fileno()]
            )
        ours.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            ours.setsockopt(socket.SOL_SOCKET, option, 4 << 20)
        _, link = await asyncio.get_running_loop().create_connection(lambda: _Link(self._told), sock=ours)
        link.write([("setup", *self._setup, again)])
        refused = await link.ready
        if refused is not None:
            await self._process.wait()
            raise StoreError(*refused)
        self._link = link

    async def _tend(self) -> None:
        """Start another process where one ended, and give it what is not known to be written."""
        tries = 0
        while True:
            link, began = self._link, time.monotonic()
            if link is not None:
                await asyncio.shield(link.ended)
                self._link = None
                self.failing = "the process that records has ended"
                tries = tries if time.monotonic() - began < AGAIN_S[-1] else 0
            await asyncio.sleep(AGAIN_S[min(tries, len(AGAIN_S) - 1)])
            tries += 1
            try:
                await self._start(again=True)
            except (AasutError, OSError) as error:
                self.failing = str(error)
                continue
            self._events.append(("event", "recorder_started", "The process that records had ended."))
            waiting = [("put", *packed, kept is not None) for packed, _, kept in self._kept]
            promises = [("promise", certificate, *promised) for certificate, promised in self._promises.items()]
            self._unsent = [*waiting, *self._events, *promises]
            self._flush()


class _Link(asyncio.Protocol):
    """The socket to the process."""

    def __init__(self, told: Callable[[tuple[int, int, int, str]], None]) -> None:
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[tuple[str, str] | None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.written = self.lost = self.noted = 0
        self._told = told
        self._frames = Frames()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        for kind, *what in self._frames.add(data):
            if kind == "state":
                self._told(tuple(what))
            elif not self.ready.done():
                self.ready.set_result(None if kind == "ready" else (what[0], what[1]))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, _: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_result(("The process that records ended before it was ready.", "Start the gateway again."))
        if not self.ended.done():
            self.ended.set_result(None)

    def write(self, what: list[tuple[Any, ...]]) -> None:
        assert self._transport is not None
        self._transport.write(framed(what))

    def finish(self) -> None:
        """Nothing more comes; the process writes what it has, says so and ends."""
        self.write([("end",)])
