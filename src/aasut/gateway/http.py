"""One HTTP request over ASGI, as `bounds` gives it: its body within bounds, its answer, whether its client is there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from aasut.gateway.upstream import Headers
from aasut.serve.protocol import Refusal

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

JSON = [(b"content-type", b"application/json")]
EVENTS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


class Http:
    """A request. `gone` becomes true when its client closes the connection while `watched`."""

    def __init__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        self.scope, self._receive, self._send = scope, receive, send
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: Headers = scope["headers"]
        self.begun = self.gone = False
        self._left: list[Callable[[], None]] = scope["aasut.left"]

    def header(self, name: bytes) -> str:
        """The first header of this name in lower case, "" where there is none."""
        return next((value.decode("latin-1") for key, value in self.headers if key == name), "")

    async def body(self, most: int, seconds: float) -> bytes:
        """The whole body. Raises Refusal where it has more than `most` bytes or takes longer, ClientGone."""
        come = not self.scope["aasut.cycle"].more_body
        first = await self._receive() if come else await self._part(seconds)
        if first["type"] == "http.disconnect":
            raise ClientGone
        if not first.get("more_body"):
            self._fits(len(first["body"]), most)
            return bytes(first["body"])
        parts, size = [first["body"]], len(first["body"])
        last = asyncio.get_running_loop().time() + seconds
        while True:
            self._fits(size, most)
            part = await self._part(last - asyncio.get_running_loop().time())
            parts.append(part["body"])
            size += len(part["body"])
            if not part.get("more_body"):
                self._fits(size, most)
                return b"".join(parts)

    async def _part(self, seconds: float) -> Message:
        try:
            async with asyncio.timeout(seconds):
                part = await self._receive()
        except TimeoutError:
            raise Refusal("The request did not come whole in time.", status=408, code="request_timeout") from None
        if part["type"] == "http.disconnect":
            raise ClientGone
        return part

    def _fits(self, size: int, most: int) -> None:
        if size > most:
            message = f"The body is longer than the limit of {most:,} bytes."
            raise Refusal(message, status=413, code="request_too_large")

    def watch(self) -> None:
        """From now on a client that closes the connection cancels the task that answers it."""
        answering = asyncio.current_task()

        def left() -> None:
            if answering is not None and not answering.done():
                self.gone = True
                answering.cancel()

        self._left.append(left)

    def unwatch(self) -> None:
        """The answer is whole: a client may go."""
        self._left.clear()

    async def begin(self, status: int, headers: Headers) -> None:
        self.begun = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        self.unwatch()
        await self._send({"type": "http.response.body", "body": data})

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """A whole answer."""
        sized = [] if status == 204 else [(b"content-length", str(len(body)).encode())]
        await self.begin(status, [*headers, *sized])
        await self.end(body)

    async def json(self, status: int, body: Any, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """A whole answer of JSON."""
        await self.whole(status, [*JSON, *headers], json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"))
