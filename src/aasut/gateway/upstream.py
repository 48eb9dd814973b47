"""Calls of the API behind the gateway: what is passed on of a request, and each way in which a call can break.

The address comes from the settings alone, redirects are not followed, and a client's headers are passed on
without those that are about its own connection, its cookies and, where the gateway has the key, its key.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Iterable
from contextvars import ContextVar
from typing import Any

import aiohttp
from yarl import URL

from aasut.errors import RecipeError
from aasut.gateway import settings
from aasut.gateway.keys import PREFIX, SECRET

ANSWER_LIMIT = 64 << 20  # bytes
# What is about one connection, or about who asks, and not about what is asked (RFC 9110, 7.6.1).
_DROPPED = {
    b"accept-encoding", b"api-key", b"authorization", b"connection", b"content-length", b"cookie", b"expect",
    b"forwarded", b"host", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
    b"trailer", b"transfer-encoding", b"upgrade", b"via", b"x-api-key", b"x-real-ip",
}  # fmt: skip
_DROPPED_ANSWERS = {
    b"alt-svc", b"connection", b"content-encoding", b"content-length", b"date", b"keep-alive", b"location",
    b"proxy-authenticate", b"server", b"set-cookie", b"strict-transport-security", b"trailer", b"transfer-encoding",
    b"upgrade",
}  # fmt: skip
_KEYS = (b"authorization", b"api-key")
_OWN = PREFIX.encode()
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")  # what no header may hold

Headers = list[tuple[bytes, bytes]]
_CALL: ContextVar[Call] = ContextVar("call")  # the one that a task waits for


class Broken(Exception):
    """A call without a whole answer.

    `fault` names it for records, `status` is what the client gets. `sent`: it may have been answered, and paid.
    """

    def __init__(self, fault: str, message: str, status: int = 502, *, sent: bool = True) -> None:
        super().__init__(message)
        self.fault, self.message, self.status, self.sent = fault, message, status, sent


class Upstream:
    """Connections to one API, kept open between calls. For one event loop.

    Raises RecipeError where its key is missing or cannot be one.
    """

    def __init__(self, wanted: settings.Upstream) -> None:
        self.settings = wanted
        self.key = _key(wanted)
        self._base = wanted.base_url.rstrip("/")
        self._urls: dict[str, URL] = {}
        self._session: aiohttp.ClientSession | None = None
        self._timeout = aiohttp.ClientTimeout(total=None, connect=wanted.connect_timeout_s)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be written anywhere."""
        return (self.key,) if self.key else ()

    async def begin(self, method: str, path: str, headers: Iterable[tuple[bytes, bytes]], body: bytes | None) -> Call:
        """Send a request to `path` below the base address; returns when the answer begins. Raises Broken."""
        given = self._headers(headers)
        url = self._urls.get(path) or self._url(path)
        call = Call(self)
        _CALL.set(call)
        for attempt in (0, 1):
            call.reused = True
            try:
                await call.begin(self._open().request, method, url, given, body)
                if not 200 <= call.status < 600:
                    call.close()
                    raise Broken("upstream_garbage", f"The upstream answered {call.status}, which is no status.")
                return call
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                # A kept connection that the other side had closed in the meantime: nothing came back on it.
                if attempt or not call.reused or isinstance(error, aiohttp.ClientConnectorError):
                    raise call.broken(error) from None
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                raise call.broken(error) from None
        raise AssertionError

    def _url(self, path: str) -> URL:
        url = URL(self._base + path, encoded=True)
        if len(self._urls) < 1000 and len(path) < 200:  # clients choose paths
            self._urls[path] = url
        return url

    def _headers(self, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
        hop = _nominated(headers)
        kept = () if self.key else _KEYS
        passed = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in headers
            if name in kept or (name not in _DROPPED and name not in hop and not name.startswith(b"x-forwarded-"))
            if not _is_own(name, value)
        ]
        return [*passed, ("authorization", f"Bearer {self.key}")] if self.key else passed

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=self._timeout,
                connector=_Connector(limit=self.settings.connections, keepalive_timeout=60),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=True,
                skip_auto_headers=("User-Agent", "Content-Type", "Accept"),
                headers={"accept-encoding": "identity"},
                read_bufsize=1 << 18,
            )
        return self._session

    async def close(self) -> None:
        """End all connections."""
        if self._session is not None:
            await self._session.close()


class Call:
    """One call and its answer, which is read as a whole or in pieces. `close` ends it, also in the middle."""

    def __init__(self, upstream: Upstream) -> None:
        self._limits = upstream.settings
        loop = asyncio.get_running_loop()
        self._now = loop.time
        self._last = loop.time() + self._limits.timeout_s
        self.reused = False
        self._response: aiohttp.ClientResponse | None = None

    async def begin(self, ask: Any, method: str, url: URL, headers: list[tuple[str, str]], body: bytes | None) -> None:
        async with asyncio.timeout_at(min(self._now() + self._limits.first_byte_timeout_s, self._last)):
            self._response = await ask(method, url, data=body, headers=headers, allow_redirects=False)

    @property
    def response(self) -> aiohttp.ClientResponse:
        assert self._response is not None
        return self._response

    @property
    def status(self) -> int:
        return self.response.status

    @property
    def streams(self) -> bool:
        """Are these server-sent events?"""
        return self.response.headers.get("content-type", "").startswith("text/event-stream")

    def headers(self) -> Headers:
        """What is passed on of the answer's headers."""
        found = [(name.lower(), value) for name, value in self.response.raw_headers]
        hop = _nominated(found)
        return [
            (name, value)
            for name, value in found
            if name not in _DROPPED_ANSWERS and name not in hop and not _CONTROL.search(value)
        ]

    async def read(self) -> bytes:
        """The whole answer. Raises Broken."""
        content = self.response.content
        if content.is_eof() and content.exception() is None and content.total_bytes <= ANSWER_LIMIT:
            return content.read_nowait()  # a small one has come with its head
        parts = [part async for part in self.pieces()]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The answer as it comes. Raises Broken."""
        content, size = self.response.content, 0
        stall, now, last = self._limits.stall_timeout_s, self._now, self._last
        try:
            while True:
                async with asyncio.timeout_at(min(now() + stall, last)):
                    part = await content.readany()
                if not part:
                    if content.at_eof():
                        return
                    continue
                size += len(part)
                if size > ANSWER_LIMIT:
                    raise Broken("upstream_too_long", f"The upstream's answer is longer than {ANSWER_LIMIT >> 20} MB.")
                yield part
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self.broken(error) from None

    def broken(self, error: Exception) -> Broken:
        """What went wrong, for the record and in words for the client."""
        begun = self._response is not None
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            seconds = f"{self._limits.connect_timeout_s:g} s"
            return Broken("upstream_unreachable", f"No connection to the upstream within {seconds}.", 504, sent=False)
        if isinstance(error, TimeoutError):
            what = "sent nothing more of its answer" if begun else "did not begin to answer"
            return Broken("upstream_slow", f"The upstream {what} in time.", 504)
        if isinstance(error, aiohttp.ClientConnectorError):  # its text names the address
            return Broken("upstream_unreachable", "The upstream cannot be reached.", sent=False)
        if isinstance(error, (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, OSError)):
            where = "in the middle of" if begun else "before"
            return Broken("upstream_cut", f"The upstream closed the connection {where} its answer.")
        return Broken("upstream_garbage", "The upstream's answer is not HTTP.")

    def close(self) -> None:
        """End the call: the connection is kept after a whole answer, and closed in the middle of one."""
        if self._response is not None:
            (self._response.release if self._response.content.at_eof() else self._response.close)()


def _nominated(headers: Iterable[tuple[bytes, bytes]]) -> set[bytes]:
    """Names of the headers that are about one connection because its `Connection` header says so."""
    said = [value for name, value in headers if name == b"connection"]
    return {name.strip().lower() for value in said for name in value.split(b",")} if said else set()


def _is_own(name: bytes, value: bytes) -> bool:
    """Does a header hold a virtual key? It is for this gateway alone."""
    return _OWN in value and (name in _KEYS or SECRET.search(value.decode("latin-1")) is not None)


class _Connector(aiohttp.TCPConnector):
    """Tells each call whether its connection is a new one."""

    async def _create_connection(self, *given: Any, **named: Any) -> Any:
        _CALL.get().reused = False
        return await super()._create_connection(*given, **named)


def _key(wanted: settings.Upstream) -> str:
    if not wanted.api_key_env:
        return ""
    key = os.environ.get(wanted.api_key_env, "").strip()
    if not key or not (key.isascii() and key.isprintable()):
        what = "holds characters that no key has" if key else f"holds no key for {wanted.base_url}"
        raise RecipeError(
            f"The environment variable {wanted.api_key_env} {what}.",
            "Set it, or leave upstream.api_key_env out, so that each client's own key is passed on.",
        )
    return key
