"""Exchanges as plain data between the gateway and the process that records. Both sides are one Python."""

from __future__ import annotations

import marshal
from dataclasses import fields
from typing import Any

from aasut.gateway.exchange import Decision, Exchange

_EXCHANGE = tuple(field.name for field in fields(Exchange) if field.name not in ("decision", "trace"))
_DECISION = tuple(field.name for field in fields(Decision))

Packed = tuple[tuple[Any, ...], tuple[Any, ...] | None]


class Frames:
    """Puts frames together again: 4 bytes of length, then a list of tuples."""

    def __init__(self) -> None:
        self._held = bytearray()

    def add(self, part: bytes) -> list[tuple[Any, ...]]:
        """What is whole with this part."""
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


def framed(what: list[tuple[Any, ...]]) -> bytes:
    """One frame."""
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
