"""The least that can stand between a client and an API: the body there, the answer back; nothing checked, nothing kept.

python pass_through.py UPSTREAM PORT
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import aiohttp
import uvicorn

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class PassThrough:
    """An ASGI application."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if self.session is None:
            self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        body, more = b"", True
        while more:
            part = await receive()
            body, more = body + part["body"], part.get("more_body", False)
        url = self.upstream + scope["path"].removeprefix("/v1")
        async with self.session.post(url, data=body, headers={"content-type": "application/json"}) as response:
            answer = await response.read()
        kind = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": response.status, "headers": kind})
        await send({"type": "http.response.body", "body": answer})


if __name__ == "__main__":
    uvicorn.run(
        PassThrough(sys.argv[1]), port=int(sys.argv[2]), lifespan="off", log_level="error", access_log=False,
        loop="uvloop", http="httptools", ws="none", proxy_headers=False,
    )  # fmt: skip
