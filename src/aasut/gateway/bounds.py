"""HTTP/1.1 on the wire: a request's head within bounds, and an answer's head and body in one write.

What cannot be read in one way alone is refused, and nothing after it on its connection is read.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from aasut.serve.protocol import Refusal

HEAD_LIMIT = 64 << 10  # bytes of the request line, headers and trailers
LINGER_S = 5.0  # that a client has to read a refusal while it still sends
_REASONS = {400: b"Bad Request", 408: b"Request Timeout", 431: b"Request Header Fields Too Large"}


class Corked:
    """A transport that writes once in each turn of the loop: a write is the dearest thing in a small answer.

    `unread` says whether the client may still send what nobody will read. A socket that is closed then resets its
    connection, and what was written last may be lost; so it is half closed, and the other half a little later.
    """

    __slots__ = ("_closing", "_loop", "_transport", "_unread", "_waiting")

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, unread: Callable[[], bool] = lambda: False
    ) -> None:
        self._transport, self._loop, self._unread = transport, loop, unread
        self._waiting: list[bytes] = []
        self._closing = False

    def write(self, data: bytes) -> None:
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._transport.write(waiting[0] if len(waiting) == 1 else b"".join(waiting))

    def is_closing(self) -> bool:
        return self._closing or self._transport.is_closing()

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self._flush()
        if self._transport.is_closing() or not self._unread():
            self._transport.close()
            return
        self._transport.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._loop.call_later(LINGER_S, self._transport.close)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Unreadable(Exception):
    """A head of more than HEAD_LIMIT bytes, another version of HTTP, or a body whose end cannot be told."""


class Cycle(RequestResponseCycle):
    """One request and its answer.

    The connection ends with an answer that is given before its request was read whole, so that the rest is not
    taken for the next request. To a client of HTTP/1.0, which knows no chunks, an answer without a length is sent
    as it is, and ends with its connection.
    """

    patience_s: float
    _as_it_is = False

    async def send(self, message: Any) -> None:
        if self.flow.write_paused and not self.disconnected:
            try:
                async with asyncio.timeout(self.patience_s):
                    await self.flow.drain()
            except TimeoutError:  # it reads nothing more, and would hold the upstream's answer for ever
                self.transport.abort()
        if message["type"] == "http.response.start":
            self.keep_alive = self.keep_alive and not self.more_body
            if self.scope["http_version"] == "1.0" and all(name != b"content-length" for name, _ in message["headers"]):
                self.chunked_encoding, self._as_it_is = False, True
        elif self._as_it_is:
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)


def bounded(seconds: float, patience_s: float) -> type[asyncio.Protocol]:
    """Connections that call what stands in `scope["aasut.left"]` when a client leaves before its answer is whole.

    That costs no task, as waiting for ASGI's own message would. `scope["aasut.cycle"]` is the request and its answer. A
    request's head has to come within so many seconds.
    A client that takes nothing of an answer for `patience_s` seconds is left.
    """

    class Bounded(HttpToolsProtocol):
        _timer: asyncio.TimerHandle | None = None
        _size = 0
        _in_body = False
        _owed = 0  # bytes of a body that the parser leaves out, since its request would upgrade the connection
        _deaf = False  # nothing more is read
        _under_way: RequestResponseCycle | None = None

        def connection_made(self, transport: Any) -> None:
            corked: Any = Corked(transport, self.loop, lambda: self._in_body or self._deaf)
            super().connection_made(corked)
            self._await_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop()
            super().connection_lost(exc)
            cycle = self._under_way
            if cycle is not None and not cycle.response_complete:
                for left in cycle.scope["aasut.left"]:  # type: ignore[typeddict-item]
                    left()

        def data_received(self, data: bytes) -> None:
            if self._deaf or self.transport.is_closing():
                return
            self._unset_keepalive_if_required()
            try:
                while data:
                    data = self._owing(data) if self._owed else self._parsed(data)
            except httptools.HttpParserError:
                self.send_400_response("")
            if self._timer is None and self.timeout_keep_alive_task is None and self._idle():
                self._await_head()  # what came begins no request

        def _parsed(self, data: bytes) -> bytes:
            """Parse; what is left, after a request that asks for another protocol and gets this one."""
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                return data[upgrade.args[0] :]
            return b""

        def _owing(self, data: bytes) -> bytes:
            part, rest = data[: self._owed], data[self._owed :]
            self._owed -= len(part)
            self.on_body(part)
            if not self._owed:
                self.on_message_complete()
            return rest

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._size, self._in_body = 0, False
            self._stop()
            self._await_head()

        def on_url(self, url: bytes) -> None:
            self._count(len(url))
            super().on_url(url)

        def on_header(self, name: bytes, value: bytes) -> None:
            self._count(len(name) + len(value))
            if self._in_body:
                return  # a trailer, which must not pass for a header
            if name.lower() == b"transfer-encoding" and value.lower() != b"chunked":
                raise Unreadable
            super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self._stop()
            if self.parser.get_http_version() not in ("1.0", "1.1"):
                raise Unreadable
            if self.parser.should_upgrade():
                self._owed = self._length()
            self._in_body = True
            super().on_headers_complete()

        def _length(self) -> int:
            fields = dict(self.headers)
            if b"transfer-encoding" in fields:
                raise Unreadable
            return int(fields.get(b"content-length", b"0"))

        def on_message_complete(self) -> None:
            if not self._owed:
                self._in_body = False
                super().on_message_complete()

        def _start_asgi_task(self, cycle: Any, app: Any) -> None:
            cycle.__class__ = Cycle  # uvicorn makes its own
            cycle.patience_s = patience_s
            cycle.scope["aasut.left"], cycle.scope["aasut.cycle"] = [], cycle
            self._under_way = cycle
            super()._start_asgi_task(cycle, app)

        def send_400_response(self, msg: str) -> None:
            if self._size > HEAD_LIMIT:
                self._end(431, "The head of the request is too long.", "head_too_large")
            else:
                self._end(400, "This is no HTTP request.", "invalid_http")

        def _count(self, size: int) -> None:
            self._size += size
            if self._size > HEAD_LIMIT:
                raise Unreadable

        def _await_head(self) -> None:
            self._timer = self.loop.call_later(seconds, self._late)

        def _stop(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _late(self) -> None:
            self._timer = None
            if self.transport.is_closing():
                return
            if self._idle():
                self._end(408, "The request did not come whole in time.", "request_timeout")
            else:
                self._await_head()

        def _idle(self) -> bool:
            return self._under_way is None or self._under_way.response_complete

        def _end(self, status: int, message: str, code: str) -> None:
            """Read nothing more, and say so; where an earlier request has no answer yet, it gets it and the end."""
            self._deaf = True
            before = self._under_way
            if before is not None and not before.response_complete:
                own = before is self.cycle and self._in_body and not before.response_started
                before.keep_alive = False
                if not own:
                    return
            body = json.dumps(Refusal(message, code=code).body).encode()
            head = (
                b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head % (status, _REASONS[status], len(body)) + body)
            self.transport.close()

    return Bounded
