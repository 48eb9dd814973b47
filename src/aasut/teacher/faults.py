"""What a scripted server does wrong, and when: a plan that is the same for the same seed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from aasut.errors import RecipeError

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]
Status = Annotated[int, Field(ge=300, le=599)]
Kind = Literal[
    "stall", "freeze", "half", "half_chunked", "garbage", "html", "hang_up", "drip", "slow",
    "no_usage", "length", "content_filter", "no_logprobs", "garbage_event",
]  # fmt: skip


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Fault(_Section):
    """One thing that goes wrong, for a share of the calls, for calls by number, or for a range of them."""

    fault: Status | Kind
    """An HTTP status (429), or: `stall` sends nothing, `freeze` half an answer and then nothing, `half` and
    `half_chunked` half an answer and the end of the connection, `garbage` and `html` no JSON, `hang_up` closes
    at once, `drip` sends the answer in small pieces, `slow` sends it late, `no_usage` without its token counts,
    `length` and `content_filter` cut short with that reason, `no_logprobs` refuses calls that ask for them,
    `garbage_event` is a stream with an event in the middle that is no JSON."""
    share: Share | None = None
    """Chance of a call to meet it, drawn from the seed, the call's content and how often it was sent before."""
    at: tuple[Count, ...] = ()
    """Numbers of the calls that meet it, from 0 in order of arrival."""
    first: Count | None = None
    """Number of the first call of a range; all that follow where `last` is not given."""
    last: Count | None = None
    """Number of the last call of a range."""
    seconds: Seconds | None = None
    """How long a stall, a freeze, a drip or a slow answer takes; 600 for the first two, else 1."""
    retry_after_s: Seconds | None = None
    """Sent as Retry-After with a status."""
    as_date: bool = False
    """Send Retry-After as a date, which has whole seconds."""
    body: str | None = None
    """Text to send instead of the error's own, with a status or as garbage."""
    location: str | None = None
    """Where a status of 3xx points to."""

    @model_validator(mode="after")
    def _fits(self) -> Fault:
        ways = (self.share is not None, bool(self.at), self.first is not None or self.last is not None)
        if sum(ways) != 1:
            raise ValueError("say when by one of share, at, first and last")
        status = isinstance(self.fault, int)
        if self.seconds is not None and self.fault not in ("stall", "freeze", "drip", "slow"):
            raise ValueError(f"seconds does not go with {self.fault}")
        if (self.retry_after_s is not None or self.location is not None) and not status:
            raise ValueError(f"retry_after_s and location go with a status, not with {self.fault}")
        if self.body is not None and not status and self.fault != "garbage":
            raise ValueError(f"body goes with a status or garbage, not with {self.fault}")
        if self.as_date and self.retry_after_s is None:
            raise ValueError("as_date needs retry_after_s")
        return self

    @property
    def lasts_s(self) -> float:
        """Seconds that it takes."""
        return self.seconds if self.seconds is not None else 600.0 if self.fault in ("stall", "freeze") else 1.0

    def covers(self, number: int) -> bool:
        """Whether it is planned for the call of this number."""
        if self.at:
            return number in self.at
        ranged = self.first is not None or self.last is not None
        return ranged and (self.first or 0) <= number and (self.last is None or number <= self.last)


class Plan(_Section):
    """Everything that a scripted server does apart from answering."""

    seed: int = 0
    """Another seed, other calls that fail."""
    latency_s: Seconds = 0.0
    """Seconds that each answer takes."""
    most_at_once: Annotated[int, Field(gt=0)] | None = None
    """Calls beyond this number at one time are refused with 429."""
    faults: tuple[Fault, ...] = ()
    """Those by number or range come first, then shares, which may add up to 1 at most."""

    @model_validator(mode="after")
    def _adds_up(self) -> Plan:
        total = sum(fault.share or 0.0 for fault in self.faults)
        if total > 1 + 1e-9:
            raise ValueError(f"the shares add up to {total:g}, more than 1")
        return self

    def choose(self, number: int, content: str, attempt: int) -> Fault | None:
        """The fault of a call: its number in order of arrival, the hash of its body, how often that came before."""
        for fault in self.faults:
            if fault.covers(number):
                return fault
        drawn = hashlib.sha256(f"{self.seed}:{content}:{attempt}".encode()).digest()
        left = int.from_bytes(drawn[:8], "big") / 2**64
        for fault in self.faults:
            left -= fault.share or 0.0
            if left < 0:
                return fault
        return None


def load(path: Path) -> Plan:
    """A plan from a YAML or JSON file. Raises RecipeError in one line."""
    try:
        return Plan.model_validate(_read(path) or {})
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"]) or "the plan"
        raise RecipeError(f"{path}: {place}: {problem['msg']}.", "`aasut teacher --help` shows a plan.") from None


def load_rules(path: Path) -> dict[str, str]:
    """A scripted teacher's rules from a YAML or JSON file. Raises RecipeError in one line."""
    plain = _read(path)
    if not isinstance(plain, dict) or not plain or any(not isinstance(p, str) for pair in plain.items() for p in pair):
        raise RecipeError(
            f"{path} holds no rules: a word of the input and its answer, both text.",
            "Write lines such as great: positive; put quotes around yes, no and numbers.",
        )
    return plain


def _read(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}.", "Check the path.") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        raise RecipeError(f"{path} is neither YAML nor JSON.", "Check its quotes and indents.") from None
