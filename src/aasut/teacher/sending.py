"""An answer of the scripted server over HTTP/1.1: whole, in chunks, or broken as planned."""

from __future__ import annotations

import asyncio
import json
import time
from email.utils import formatdate
from typing import Any

from aasut.teacher import chat
from aasut.teacher.faults import Fault

PIECES = 20  # of an answer that drips

Headers = dict[str, str]


def refusal(fault: Fault, status: int) -> Any:
    """The body of a planned status."""
    words = {401: "Incorrect API key provided.", 404: "The model does not exist.", 429: "Rate limit reached."}
    return fault.body if fault.body is not None else chat.refusal(status, words.get(status, "Planned fault."))


def headers_of(fault: Fault) -> Headers:
    """The headers of a planned status."""
    headers = {"Location": fault.location} if fault.location else {}
    if fault.retry_after_s is not None:
        seconds = fault.retry_after_s
        headers["Retry-After"] = formatdate(time.time() + seconds, usegmt=True) if fault.as_date else f"{seconds:g}"
    return headers


def head(status: int, length: int | None, headers: Headers, keep: bool) -> bytes:
    """The status line and headers; a body without a length comes in chunks."""
    size = {"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": str(length)}
    every = {"Content-Type": "application/json", **size, "Connection": "keep-alive" if keep else "close"} | headers
    return (f"HTTP/1.1 {status} -\r\n" + "".join(f"{n}: {v}\r\n" for n, v in every.items()) + "\r\n").encode("latin-1")


async def send(
    writer: asyncio.StreamWriter, status: int, body: Any, headers: Headers | None = None, *, keep: bool = False
) -> bool:
    """A whole answer; `keep` is whether the connection stays open, and given back."""
    raw = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    writer.write(head(status, len(raw), headers or {}, keep) + raw)
    await writer.drain()
    return keep


def chunk(data: bytes) -> bytes:
    """A piece of a body without a length; the empty one ends it."""
    return b"%x\r\n%s\r\n" % (len(data), data)


async def half(writer: asyncio.StreamWriter, data: bytes, fault: Fault) -> bool:
    """Half an answer, and then nothing, or the end of the connection; False."""
    part = data[: len(data) // 2]
    if fault.fault == "half_chunked":
        writer.write(head(200, None, {}, False) + f"{len(part):x}\r\n".encode() + part + b"\r\n")
    else:
        writer.write(head(200, len(data), {}, False) + part)
    await writer.drain()
    if fault.fault == "freeze":
        await asyncio.sleep(fault.lasts_s)
    return False


async def drip(writer: asyncio.StreamWriter, data: bytes, seconds: float) -> None:
    """An answer in small pieces, over so many seconds."""
    writer.write(head(200, len(data), {}, True))
    size = -(-len(data) // PIECES)
    for start in range(0, len(data), size):
        await asyncio.sleep(seconds / PIECES)
        writer.write(data[start : start + size])
        await writer.drain()
