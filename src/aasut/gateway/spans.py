"""OpenTelemetry spans with the GenAI names, one a request, sent over OTLP and HTTP in batches by a thread.

Names: https://github.com/open-telemetry/semantic-conventions-genai. A span is put together when its request has ended,
out of the SDK's own parts: a tracer's span costs five times as much, and would have to live through the request.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from aasut import __version__
from aasut.errors import AasutError
from aasut.gateway.exchange import Exchange
from aasut.gateway.providers import provider_of

try:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
    from opentelemetry.trace.span import TraceState
except ImportError as error:
    raise AasutError(
        f"observe.otlp_url is set, and {error.name or 'opentelemetry'} is not installed.",
        "Run pip install 'aasut[otel]', or leave observe.otlp_url out.",
    ) from None

_QUEUE, _BATCH = 8192, 512  # spans; what does not fit is dropped
_EVERY_MS = 1000.0
_TIMEOUT_S = 5.0  # for one batch
_SAID_AGAIN_S = 60.0
_MODEL = re.compile(rb'"model"\s*:\s*"([^"\\]{1,200})"')
_LOOKED_AT = 4096  # bytes of an answer, in which its model stands


class Spans:
    """The exporter of a gateway's spans. `say(level, message)` is told what it cannot send."""

    def __init__(self, otlp_url: str, base_url: str, say: Callable[[str, str], None]) -> None:
        self.upstream(base_url)
        self._resource = Resource.create({"service.name": "aasut-gateway", "service.version": __version__})
        self._scope = InstrumentationScope("aasut.gateway", __version__)
        self._told = _Told(say)
        logging.getLogger("opentelemetry").addHandler(self._told)
        self._exporter = OTLPSpanExporter(endpoint=otlp_url, timeout=_TIMEOUT_S)
        self._processor = BatchSpanProcessor(self._exporter, _QUEUE, _EVERY_MS, _BATCH)

    def upstream(self, base_url: str) -> None:
        """The address that calls go to from now on."""
        parts = urlsplit(base_url)
        self._address = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._provider = provider_of(base_url)

    def done(self, exchange: Exchange, operation: str, error: str, model: str) -> None:
        """Queue the span of a request that has ended; nothing where its client does not want it sampled.

        `error`: "" or its kind. `model`: as asked for, cut and without secrets.
        """
        trace = exchange.trace
        if trace is None or not trace.sampled:
            return
        upstream = exchange.by == "upstream"
        shown: dict[str, str | int | float | bool] = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": self._provider if upstream else "aasut",
            "aasut.gateway.by": exchange.by,
            "aasut.gateway.request_id": exchange.id,
        }
        if model:
            shown["gen_ai.request.model"] = model
        if exchange.streamed:
            shown["gen_ai.request.stream"] = True
            if exchange.first_byte_s > 0:
                shown["gen_ai.response.time_to_first_chunk"] = exchange.first_byte_s
        if upstream:
            shown["server.address"], shown["server.port"] = self._address, self._port
        if exchange.status:
            shown["http.response.status_code"] = exchange.status
        if error:
            shown["error.type"] = error
        elif (found := _MODEL.search(exchange.response, 0, _LOOKED_AT)) is not None:
            shown["gen_ai.response.model"] = found[1].decode("utf-8", "replace")
        if exchange.counted:
            shown["gen_ai.usage.input_tokens"] = exchange.prompt_tokens
            shown["gen_ai.usage.output_tokens"] = exchange.completion_tokens
            if exchange.cached_tokens:
                shown["gen_ai.usage.cache_read.input_tokens"] = exchange.cached_tokens
        if exchange.key:
            shown["aasut.gateway.key"] = exchange.key
        if exchange.usd or exchange.saved_usd:
            shown["aasut.gateway.usd"], shown["aasut.gateway.saved_usd"] = exchange.usd, exchange.saved_usd
        if (decision := exchange.decision) is not None:
            shown["aasut.gateway.run"], shown["aasut.gateway.reason"] = decision.run, decision.reason
            if decision.audit:
                shown["aasut.gateway.audit"] = decision.audit
        flags, state = TraceFlags(TraceFlags.SAMPLED), TraceState.from_header([trace.state]) if trace.state else None
        parent = SpanContext(trace.trace_id, trace.parent_id, True, flags, state) if trace.parent_id else None
        started = int(exchange.at * 1e9)
        self._processor.on_end(
            ReadableSpan(
                f"{operation} {model}".strip(),
                SpanContext(trace.trace_id, trace.span_id, False, flags, state),
                parent,
                self._resource,
                shown,
                kind=SpanKind.CLIENT if upstream else SpanKind.SERVER,
                status=Status(StatusCode.ERROR if error else StatusCode.UNSET),
                start_time=started,
                end_time=started + int(exchange.latency_s * 1e9),
                instrumentation_scope=self._scope,
            )
        )

    def close(self, wait_s: float = 5.0) -> None:
        """Send what waits, for at most `wait_s` seconds."""
        ending = threading.Thread(target=self._processor.shutdown, daemon=True)
        ending.start()
        ending.join(wait_s)
        if ending.is_alive():  # the collector does not answer: what is still there is lost
            self._exporter.shutdown()  # type: ignore[no-untyped-call]
        logging.getLogger("opentelemetry").removeHandler(self._told)


class _Told(logging.Handler):
    """Passes the SDK's complaints on, each kind once a minute."""

    def __init__(self, say: Callable[[str, str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say
        self._last: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        now = time.monotonic()
        if now - self._last.get(record.msg, -_SAID_AGAIN_S) >= _SAID_AGAIN_S:
            self._last[record.msg] = now
            self._say(record.levelname.lower(), record.getMessage())
