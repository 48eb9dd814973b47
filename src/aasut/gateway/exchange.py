"""One request at the gateway and what became of it: what the recorder keeps, limits count and the screen shows."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import Literal

from aasut.gateway.trace import Trace

By = Literal["upstream", "student", "gateway"]
Audit = Literal["", "agreed", "differed", "failed"]


@dataclass(slots=True)
class Decision:
    """Why a request went to the student or upstream.

    `run` names the student's run, `certificate` its certificate (a hash of certificate.json) and `mode` how it was
    deployed; `score` is the answer's, None where none was
    asked for. `reason` is "" where the student answered, else why not, in one or two words. `answer` is the
    student's, kept in shadow mode and for audits too. `audit` says how an audit came out: both were asked.
    """

    run: str = ""
    certificate: str = ""
    mode: str = ""
    score: float | None = None
    accepted: bool = False
    reason: str = ""
    answer: str = ""
    audit: Audit = ""


@dataclass(slots=True)
class Exchange:
    """One request and its answer.

    `at`: when it came, seconds since 1970. `key`: the virtual key's name, "" without keys. `path`: as the client
    called it, such as /v1/chat/completions. `request`, `response`: bodies as they went over the wire, of a stream
    all its events; b"" where there was none. `by`: who answered; `gateway` is a refusal of its own. `counted`:
    tokens are as the upstream or the student said, not estimated. `usd`: paid upstream. `saved_usd`: what the
    student's answer would have cost upstream, about. `fault`: "" or what broke, such as `client_gone`. `beside`:
    the id of the request whose other half this is: in audits and in shadow mode both are asked, and the client
    gets the answer of the exchange without it. `trace`: its span in the client's trace, None where no spans are made.
    """

    path: str
    key: str = ""
    model: str = ""
    request: bytes = b""
    response: bytes = b""
    status: int = 0
    streamed: bool = False
    by: By = "upstream"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    counted: bool = False
    usd: float = 0.0
    saved_usd: float = 0.0
    first_byte_s: float = 0.0
    latency_s: float = 0.0
    fault: str = ""
    beside: str = ""
    decision: Decision | None = None
    trace: Trace | None = None
    id: str = field(default_factory=lambda: f"req_{random.getrandbits(96):024x}")
    at: float = field(default_factory=time.time)
