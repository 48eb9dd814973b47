"""The gateway's settings: a YAML file, with command-line flags over it. Unknown fields are refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from aasut.recipe.file import validated
from aasut.recipe.section import NonNegative, Positive, Section, Share, Timeout


class Price(Section):
    """What tokens of a model cost upstream, in dollars a million."""

    input: NonNegative = 0.0
    """Prompt tokens."""
    output: NonNegative = 0.0
    """Answer tokens."""
    cached_input: NonNegative | None = None
    """Prompt tokens that the upstream had in its cache; as `input` where not given."""

    def usd(self, prompt: int, completion: int, cached: int = 0) -> float:
        """Dollars for so many tokens; `cached` of the prompt's were not computed again."""
        fresh = self.input if self.cached_input is None else self.cached_input
        return ((prompt - cached) * self.input + cached * fresh + completion * self.output) / 1e6


_FREE = Price()


class Upstream(Section):
    """The API behind the gateway, OpenAI's or one like it."""

    base_url: str = Field(pattern=r"^https?://[^\s@?#]+$")
    """For example https://api.openai.com/v1"""
    api_key_env: str = ""
    """Environment variable that holds the upstream's key; where it is empty, each client's own key is passed on."""
    prices: dict[str, Price] = Field(default_factory=dict)
    """Prices by model; `*` and `?` stand for any text and any character, and the first that fits counts."""
    connections: Positive = 1000
    """Calls in flight at most; more wait."""
    connect_timeout_s: Timeout = 10
    """Seconds to wait for a connection."""
    first_byte_timeout_s: Timeout = 300
    """Seconds to wait for the beginning of an answer, once the request is sent."""
    stall_timeout_s: Timeout = 60
    """Seconds to wait for more of an answer that has begun."""
    timeout_s: Timeout = 900
    """Seconds for one answer in all."""
    count_streams: bool = True
    """Ask for the token counts of streams, which the client does not see unless it asked for them too."""

    def price(self, model: str) -> Price:
        """The price of a model; nothing where none is declared."""
        return next((price for pattern, price in self.prices.items() if fnmatchcase(model, pattern)), _FREE)


class Listen(Section):
    """Where the gateway listens."""

    host: str = "127.0.0.1"
    """Address; this machine alone unless told otherwise. Another one needs keys."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """Port; 0 takes a free one."""
    tls_certificate: str | None = None
    """PEM file of the certificate chain, for https."""
    tls_key: str | None = None
    """PEM file of its private key."""
    body_mb: Positive = 32
    """Megabytes that a request may have."""
    header_timeout_s: Timeout = 30
    """Seconds in which a request must have come whole."""
    send_timeout_s: Timeout = 60
    """Seconds after which a client that takes nothing of its answer is left."""
    drain_s: Timeout = 30
    """Seconds that requests under way have to end in when the gateway is stopped."""

    @model_validator(mode="after")
    def _both_or_none(self) -> Listen:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("give tls_certificate and tls_key, or neither")
        return self


class Record(Section):
    """What is kept of requests and answers, in the gateway's folder."""

    bodies: bool = True
    """Keep what was asked and answered; a student is made from that. Otherwise counts, times and costs alone."""
    strict: bool = False
    """Refuse requests that cannot be recorded, as with a full disk; otherwise answer them and raise an alarm."""
    redact: list[str] = Field(default_factory=list)
    """Regular expressions; what they match is blotted out before it is written, beside keys, which always are."""
    keep_days: Annotated[float, Field(gt=0)] | None = None
    """Days after which bodies are deleted; kept for ever where not given."""

    @field_validator("redact")
    @classmethod
    def _compiles(cls, patterns: list[str]) -> list[str]:
        for pattern in patterns:
            try:
                found = re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
            if found.match(""):
                raise ValueError(f"{pattern!r} matches empty text")
        return patterns


class Cascade(Section):
    """The student in front of the upstream."""

    run: str
    """A finished run: its name, or its folder."""
    mode: Literal["shadow", "canary", "certified"] = "certified"
    """`shadow`: the upstream answers all, and the student is asked beside it. `canary`: as certified, on a share of the
    requests. `certified`: the student answers where its score passes its certificate."""
    canary_share: Share = 0.05
    """Share of matching requests that the student may answer in mode canary."""
    audit_share: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Share of the student's own answers that the upstream is asked for too."""
    timeout_s: Timeout = 10
    """Seconds that the student has for an answer; then the upstream is asked."""
    waiting: Positive = 256
    """Requests that wait for the student at most; more go upstream."""


class Observe(Section):
    """What is said of requests to the outside."""

    log: Literal["none", "errors", "all"] = "errors"
    """Requests that are logged, one JSON line each on standard error."""
    metrics: bool = True
    """Answer GET /metrics, for Prometheus."""
    otlp_url: str | None = Field(default=None, pattern=r"^https?://[^\s@?#]+$")
    """Where OpenTelemetry spans go, over OTLP and HTTP, for example http://localhost:4318/v1/traces."""


class Settings(Section):
    """All of the gateway's settings."""

    upstream: Upstream
    """The API behind the gateway."""
    listen: Listen = Listen()
    """Where it listens."""
    record: Record = Record()
    """What is kept."""
    student: Cascade | None = None
    """The student that answers what it is certified for."""
    observe: Observe = Observe()
    """Metrics, logs and spans."""


def parse(plain: Mapping[str, Any], where: str) -> Settings:
    """Settings from plain data; `where` names them in error messages. Raises RecipeError, one line a mistake."""
    return validated(Settings, plain, where, "docs/gateway.md lists every field.")
