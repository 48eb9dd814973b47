"""The process that records: it reads the gateway's socket to its end, and has a recorder write what comes."""

from __future__ import annotations

import json
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from aasut.errors import AasutError
from aasut.gateway.gentle import give_way
from aasut.gateway.packed import Frames, framed, unpack
from aasut.gateway.recorder import MOST_WAITING, Recorder
from aasut.gateway.schema import open_to_read
from aasut.gateway.settings import Record

LOOK_S, BUSY_S = 0.01, 1.0  # the process looks for more so often, until nothing came for so long
TELL_S = 0.05  # the process says how it goes so often


class _Writer:
    """The other side: a recorder, and the socket to the gateway."""

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        self.recorder: Recorder | None = None
        self.known: frozenset[str] = frozenset()  # written by a process before this one
        self.skipped = 0
        self._heard = 0.0
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def serve(self) -> None:
        """Record what comes until the gateway ends, or says that it has no more."""
        frames, going = Frames(), True
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
        """What came next, b"" at the end. While much comes it looks by itself, time and again.

        A reader that waits is woken by who writes, mostly on the writer's own processor and before it goes on: the
        gateway, in the middle of a request.
        """
        while True:
            busy = time.monotonic() - self._heard < BUSY_S
            try:
                found = self.link.recv(1 << 20, socket.MSG_DONTWAIT if busy else 0)
            except BlockingIOError:
                time.sleep(LOOK_S)
                continue
            except ConnectionResetError:  # the gateway is gone, and all that it sent is read
                return b""
            self._heard = time.monotonic()
            return found

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
            self.link.sendall(framed([what]))


def main() -> None:
    """The process: `python -m aasut.gateway.writing SOCKET`."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # meant for the gateway
        signal.signal(number, signal.SIG_IGN)
    give_way()
    _Writer(socket.socket(fileno=int(sys.argv[1]))).serve()


if __name__ == "__main__":
    main()
