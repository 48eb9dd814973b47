"""The recorder in a process of its own, so that writing takes nothing from the requests.

What is put here goes over a socket within some milliseconds, and is kept until the other side says that it is on the
disk. Where that process ends, another one is started and gets it again; what the first had written already is not
written twice. It reads the socket to its end, so that a gateway that is killed loses what was not sent yet alone.
"""

from __future__ import annotations

import asyncio
import json
import marshal
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from aasut.errors import AasutError, StoreError
from aasut.gateway.exchange import Decision, Exchange
from aasut.gateway.recorder import MOST_BYTES, MOST_EVENTS, MOST_WAITING, Kept, Recorder
from aasut.gateway.schema import open_to_read
from aasut.gateway.settings import Record

SEND_S = 0.015  # exchanges are gathered for so long
TELL_S = 0.05  # the process says how it goes so often
AGAIN_S = (0.0, 0.5, 2.0, 10.0)  # before another process is started
STOP_S = 30.0  # that it has to write what waits in
_EXCHANGE = tuple(field.name for field in fields(Exchange) if field.name not in ("decision", "trace"))
_DECISION = tuple(field.name for field in fields(Decision))

Packed = tuple[tuple[Any, ...], tuple[Any, ...] | None]


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
                sys.executable, "-m", "aasut.gateway.recording", str(theirs.fileno()), pass_fds=[theirs.fileno()]
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
        self._frames = _Frames()
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
        self._transport.write(_framed(what))

    def finish(self) -> None:
        """Nothing more comes; the process writes what it has, says so and ends."""
        self.write([("end",)])


class _Frames:
    """Puts frames together again: 4 bytes of length, then a list of tuples. Both sides are one Python."""

    def __init__(self) -> None:
        self._held = bytearray()

    def add(self, part: bytes) -> list[tuple[Any, ...]]:
        self._held += part
        found: list[tuple[Any, ...]] = []
        at = 0
        while len(self._held) - at >= 4:
            end = at + 4 + int.from_bytes(self._held[at : at + 4], "big")
            if len(self._held) < end:
                break
            found += marshal.loads(memoryview(self._held)[at + 4 : end])
            at = end
        del self._held[:at]
        return found


def _framed(what: list[tuple[Any, ...]]) -> bytes:
    body = marshal.dumps(what)
    return len(body).to_bytes(4, "big") + body


def pack(exchange: Exchange) -> Packed:
    """An exchange as plain data."""
    decision = exchange.decision
    told = None if decision is None else tuple(getattr(decision, name) for name in _DECISION)
    return tuple([getattr(exchange, name) for name in _EXCHANGE]), told


def unpack(packed: tuple[Any, ...], decision: tuple[Any, ...] | None) -> Exchange:
    """The same back."""
    found = Exchange(**dict(zip(_EXCHANGE, packed, strict=True)))
    if decision is not None:
        found.decision = Decision(**dict(zip(_DECISION, decision, strict=True)))
    return found


class _Writer:
    """The other side: a recorder, and the socket to the gateway."""

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        self.recorder: Recorder | None = None
        self.known: frozenset[str] = frozenset()  # written by a process before this one
        self.skipped = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def serve(self) -> None:
        """Record what comes until the gateway ends, or says that it has no more."""
        frames, going = _Frames(), True
        while going and (part := self._received()):
            for kind, *what in frames.add(part):
                if kind == "setup":
                    going = self._set_up(*what)
                elif kind == "end":
                    going = False
                elif self.recorder is not None:
                    self._take(self.recorder, kind, what)
        self._ended.set()
        if self.recorder is not None:
            self.recorder.close()
            self._tell()

    def _received(self) -> bytes:
        try:
            return self.link.recv(1 << 20)
        except ConnectionResetError:  # the gateway is gone, and all that it sent is read
            return b""

    def _set_up(self, folder: str, settings: str, secrets: list[str], again: bool) -> bool:
        try:
            self.recorder = Recorder(Path(folder), Record.model_validate(json.loads(settings)), secrets)
        except AasutError as error:
            self._say(("refused", error.message, error.remedy))
            return False
        if again:
            database = open_to_read(Path(folder))
            newest = database.execute("SELECT id FROM exchange ORDER BY n DESC LIMIT ?", (2 * MOST_WAITING,))
            self.known = frozenset(name for (name,) in newest)
            database.close()
        self._say(("ready",))
        threading.Thread(target=self._tell_often, daemon=True).start()
        return True

    def _take(self, recorder: Recorder, kind: str, what: list[Any]) -> None:
        if kind == "put":
            exchange = unpack(what[0], what[1])
            if exchange.id in self.known:
                self.skipped += 1
            else:
                recorder.put(exchange, self._hurry if what[2] else None)
        elif kind == "event":
            recorder.event(*what)
        else:
            recorder.promise(*what)

    def _hurry(self, _: str) -> None:
        self._tell()

    def _tell_often(self) -> None:
        before = None
        while not self._ended.wait(TELL_S):
            recorder = self.recorder
            assert recorder is not None
            now = recorder.written, recorder.lost, recorder.noted, recorder.failing, self.skipped
            if now != before:
                before = now
                self._tell()

    def _tell(self) -> None:
        recorder = self.recorder
        assert recorder is not None
        self._say(("state", recorder.written + self.skipped, recorder.lost, recorder.noted, recorder.failing))

    def _say(self, what: tuple[Any, ...]) -> None:
        with self._lock, suppress(OSError):  # the gateway may be gone
            self.link.sendall(_framed([what]))


def main() -> None:
    """The process: `python -m aasut.gateway.recording SOCKET`."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # meant for the gateway
        signal.signal(number, signal.SIG_IGN)
    _Writer(socket.socket(fileno=int(sys.argv[1]))).serve()


if __name__ == "__main__":
    main()
