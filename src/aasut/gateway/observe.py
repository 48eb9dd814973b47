"""What is said of requests to the outside: metrics, lines of the log, spans. Never a body, never a secret."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from time import time
from typing import Any, TextIO

from aasut.gateway import trace
from aasut.gateway.exchange import Exchange
from aasut.gateway.lines import Lines
from aasut.gateway.metrics import Metrics, counted
from aasut.gateway.providers import operation_of, provider_of
from aasut.gateway.settings import Settings

LONGEST = 100  # characters of a model's name that are shown
_SECRETS = re.compile(r"(aasut-|sk-|bearer\s)\S{8,}", re.IGNORECASE)  # in a model's name, which the client chooses


class Observer:
    """Tells of requests as `settings.observe` says. Raises AasutError where spans are asked for and cannot be made.

    Its methods never wait; they are for the gateway's event loop alone. `stream` is for log lines, standard error
    where not given.
    """

    def __init__(self, settings: Settings, stream: TextIO | None = None) -> None:
        self.log = settings.observe.log
        base_url = settings.upstream.base_url
        self._lines = Lines(stream)
        self._metrics = Metrics(provider_of(base_url)) if settings.observe.metrics else None
        self._spans = None
        self._recorder_failing = self._alarm = ""
        self._lost = self._log_lost = 0
        if settings.observe.otlp_url is not None:
            from aasut.gateway.spans import Spans  # an extra of its own

            self._spans = Spans(settings.observe.otlp_url, base_url, lambda level, said: self.event(level, said))

    def begin(self, traceparent: str | None, tracestate: str | None = None) -> trace.Trace | None:
        """The span of a request that has come, for `Exchange.trace`; its `headers()` go upstream.

        None where no spans are made: then the client's two headers go upstream as they are.
        """
        return None if self._spans is None else trace.begin(traceparent, tracestate)

    def done(self, exchange: Exchange) -> None:
        """Tell of a request that has ended, however it ended; once for each."""
        error = exchange.fault or ("" if 100 <= exchange.status < 400 else str(exchange.status or "no_answer"))
        operation, model = operation_of(exchange.path), shown(exchange.model)
        if self._metrics is not None:
            self._metrics.done(exchange, operation, error, model)
        if self._spans is not None:
            self._spans.done(exchange, operation, error, model)
        if self.log == "all" or (error and self.log == "errors"):
            self._lines.put(_line(exchange, error, model))

    def event(self, level: str, message: str, **more: Any) -> None:
        """A line of the log about the gateway itself, whatever `observe.log` says."""
        self._lines.put({"time": _when(time()), "level": level, "message": message, **more})

    def upstream(self, base_url: str) -> None:
        """The address of the upstream, where settings that were read again have another."""
        if self._metrics is not None:
            self._metrics.provider = provider_of(base_url)
        if self._spans is not None:
            self._spans.upstream(base_url)

    def in_flight(self, requests: int) -> None:
        """How many requests are under way."""
        if self._metrics is not None:
            self._metrics.in_flight.set(requests)

    def recorder(self, queue: int, lost: int, failing: str) -> None:
        """How many exchanges wait to be written and were lost in all; `failing` is why none can be written, or ""."""
        if failing and failing != self._recorder_failing:
            self.event("error", f"Recording fails: {failing}")
        elif self._recorder_failing and not failing:
            self.event("info", "Recording goes on.", lost=lost)
        self._recorder_failing = failing
        if self._metrics is not None:
            self._metrics.recorder_queue.set(queue)
            self._metrics.recorder_failing.set(bool(failing))
            self._lost = counted(self._metrics.recorder_lost, self._lost, lost)

    def student(self, up: bool, alarm: str) -> None:
        """Whether a student can answer; `alarm` is what its audits say against it, or ""."""
        if alarm and alarm != self._alarm:
            self.event("error", f"The student is off: {alarm}")
        self._alarm = alarm
        if self._metrics is not None:
            self._metrics.student_up.set(up)
            self._metrics.alarm.set(bool(alarm))

    def render(self) -> bytes:
        """The page of GET /metrics, of type `prometheus_client.CONTENT_TYPE_LATEST`; b"" where there is none."""
        if self._metrics is None:
            return b""
        self._log_lost = counted(self._metrics.log_lost, self._log_lost, self._lines.lost)
        return self._metrics.render()

    def close(self) -> None:
        """Send and write what waits, for some seconds at most. Waits: call it once the last request has ended."""
        if self._spans is not None:
            self._spans.close()
        self._lines.close()


@lru_cache(1024)
def shown(model: str) -> str:
    """A model's name as it may be shown: cut, without what looks like a secret, and such that it can be written."""
    plain = model[: 2 * LONGEST].encode("utf-8", "replace").decode()
    return _SECRETS.sub("[secret]", plain)[:LONGEST]


def _line(exchange: Exchange, error: str, model: str) -> dict[str, Any]:
    decision, fault = exchange.decision, exchange.fault
    refused = exchange.by == "gateway" and 400 <= exchange.status < 500  # the client's own doing
    serious = exchange.status >= 500 or (fault and fault != "client_gone" and not refused)
    line = {
        "time": _when(exchange.at + exchange.latency_s),
        "level": "error" if serious else "warning" if error else "info",
        "id": exchange.id,
        "key": exchange.key,
        "model": model,
        "status": exchange.status,
        "by": exchange.by,
        "reason": decision.reason if decision is not None else "",
        "prompt_tokens": exchange.prompt_tokens,
        "completion_tokens": exchange.completion_tokens,
        "usd": exchange.usd,
        "saved_usd": exchange.saved_usd,
        "latency_ms": round(exchange.latency_s * 1000, 3),
        "fault": fault,
    }
    if decision is not None and decision.audit:
        line["audit"] = decision.audit
    if exchange.beside:
        line["beside"] = exchange.beside
    if exchange.trace is not None:
        line["trace_id"] = f"{exchange.trace.trace_id:032x}"
    return line


def _when(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")
