"""W3C trace context: a client's trace is gone on with, and passed on upstream (https://www.w3.org/TR/trace-context)."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_LONGEST_STATE = 512  # characters that must be passed on


@dataclass(frozen=True, slots=True)
class Trace:
    """A request's own span in its trace. `parent_id`: the client's span, 0 for none. `sampled`: it is to be exported.

    `state` is the client's tracestate, "" for none.
    """

    trace_id: int
    span_id: int
    parent_id: int = 0
    sampled: bool = True
    state: str = ""

    def headers(self) -> dict[str, str]:
        """The headers for the request upstream, whose span is a child of this one."""
        flags = "01" if self.sampled else "00"
        sent = {"traceparent": f"00-{self.trace_id:032x}-{self.span_id:016x}-{flags}"}
        return sent | {"tracestate": self.state} if self.state else sent


def begin(traceparent: str | None = None, tracestate: str | None = None) -> Trace:
    """A span in the client's trace, or in a new one where its header is none or not as the standard has it."""
    own = random.getrandbits(64) or 1
    found = _TRACEPARENT.fullmatch((traceparent or "").strip())
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return Trace(random.getrandbits(128) or 1, own)
    trace_id, parent_id = int(found[2], 16), int(found[3], 16)
    if trace_id == 0 or parent_id == 0:
        return Trace(random.getrandbits(128) or 1, own)
    state = (tracestate or "").strip()
    plain = len(state) <= _LONGEST_STATE and state.isascii() and state.isprintable()
    return Trace(trace_id, own, parent_id, bool(int(found[4], 16) & 1), state if plain else "")
