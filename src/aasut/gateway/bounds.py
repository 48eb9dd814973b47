"""HTTP/1.1 on the wire: a request's head within bounds, and an answer's head and body in one write."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from aasut.serve.protocol import Refusal

HEAD_LIMIT = 64 << 10  # bytes of the request line and headers
_REASONS = {400: b"Bad Request", 408: b"Request Timeout", 431: b"Request Header Fields Too Large"}


class Corked:
    """A transport that writes once in each turn of the loop: a write is the dearest thing in a small answer."""

    __slots__ = ("_loop", "_transport", "_waiting")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._waiting: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._transport.write(waiting[0] if len(waiting) == 1 else b"".join(waiting))

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class TooLarge(Exception):
    """A head of more than HEAD_LIMIT bytes."""


def bounded(seconds: float) -> type[asyncio.Protocol]:
    """Connections on which a request's head has to come within so many seconds."""

    class Bounded(HttpToolsProtocol):
        _timer: asyncio.TimerHandle | None = None
        _size = 0

        def connection_made(self, transport: Any) -> None:
            super().connection_made(Corked(transport, self.loop))  # type: ignore[arg-type]
            self._await_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop()
            super().connection_lost(exc)

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._size = 0
            self._stop()
            self._await_head()

        def on_url(self, url: bytes) -> None:
            self._count(len(url))
            super().on_url(url)

        def on_header(self, name: bytes, value: bytes) -> None:
            self._count(len(name) + len(value))
            super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self._stop()
            super().on_headers_complete()

        def send_400_response(self, msg: str) -> None:
            status = 431 if self._size > HEAD_LIMIT else 400
            self._end(status, "The head of the request is too long." if status == 431 else "This is no HTTP request.")

        def _count(self, size: int) -> None:
            self._size += size
            if self._size > HEAD_LIMIT:
                raise TooLarge

        def _await_head(self) -> None:
            self._timer = self.loop.call_later(seconds, self._late)

        def _stop(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _late(self) -> None:
            if not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete):
                self._end(408, "The request did not come whole in time.")

        def _end(self, status: int, message: str) -> None:
            body = json.dumps(Refusal(message).body).encode()
            head = (
                b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head % (status, _REASONS[status], len(body)) + body)
            self.transport.close()

    return Bounded
