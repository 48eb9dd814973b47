"""Plain data over a socket between the gateway and its student's process: 4 bytes of length, then JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any


def pack(value: Any) -> bytes:
    """One frame. Infinities, and halves of surrogate pairs, come through as they are."""
    body = json.dumps(value, separators=(",", ":")).encode()
    return len(body).to_bytes(4, "big") + body


class Frames:
    """Puts frames together again from the parts in which they arrive."""

    def __init__(self) -> None:
        self._held = bytearray()

    def add(self, part: bytes) -> Iterator[Any]:
        """The values that are whole with this part."""
        self._held += part
        at = 0
        while len(self._held) - at >= 4:
            end = at + 4 + int.from_bytes(self._held[at : at + 4], "big")
            if len(self._held) < end:
                break
            value = json.loads(self._held[at + 4 : end])
            at = end
            yield value
        del self._held[:at]
