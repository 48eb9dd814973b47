"""Metrics in Prometheus' form. What clients may choose, such as a model's name, makes no endless series."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from aasut import __version__
from aasut.gateway.exchange import Exchange

MODELS = 100  # names of models that get series of their own; only one that was answered has a name of its own
SERIES = 2000  # of one metric; past that, all labels are OTHER
OTHER = "other"
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
# The conventions' own (gen_ai.client.operation.duration, gen_ai.client.token.usage).
_GEN_AI_SECONDS = tuple(0.01 * 2**step for step in range(14))
_GEN_AI_TOKENS = tuple(4**step for step in range(14))

M = TypeVar("M", bound=Counter | Histogram)


class _Family(Generic[M]):
    """One metric's series by their labels, found without the library's lock and checks."""

    def __init__(self, metric: M, most: int = SERIES) -> None:
        self.metric, self.most = metric, most
        self._series: dict[tuple[str, ...], M] = {}

    def at(self, *labels: str) -> M:
        series = self._series.get(labels)
        if series is None:
            if len(self._series) >= self.most:
                labels = (OTHER,) * len(labels)
            series = self._series[labels] = cast(M, self.metric.labels(*labels))
        return series


class Metrics:
    """The gateway's metrics, in a registry of their own. `provider`: the upstream's GenAI name, such as openai."""

    def __init__(self, provider: str = "openai") -> None:
        self.provider = provider
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._models: set[str] = set()

        def family(kind: Callable[..., M], name: str, said: str, labels: Sequence[str], **more: Any) -> _Family[M]:
            return _Family(kind(name, said, labels, registry=self.registry, **more))

        own = "aasut_gateway_"
        self._requests = family(
            Counter, f"{own}requests", "Requests of clients, answered.", ("by", "status", "model", "reason")
        )
        self._duration = family(
            Histogram, f"{own}request_duration_seconds", "From a request to the end of its answer.", ("by",),
            buckets=_SECONDS,
        )  # fmt: skip
        self._first_byte = family(
            Histogram, f"{own}first_byte_seconds", "From a request to the first byte of its answer.", ("by",),
            buckets=_SECONDS,
        )  # fmt: skip
        self._tokens = family(Counter, f"{own}tokens", "Tokens of prompts and answers.", ("by", "model", "type", "key"))
        self._usd = family(Counter, f"{own}usd", "Dollars paid upstream.", ("model", "key"))
        self._saved = family(
            Counter, f"{own}saved_usd", "Dollars that the student's answers would have cost upstream, about.",
            ("model", "key"),
        )  # fmt: skip
        self._faults = family(Counter, f"{own}faults", "Requests that failed or were refused, by why.", ("fault",))
        self._audits = family(Counter, f"{own}audits", "Answers that student and upstream both gave.", ("result",))
        self._gen_ai_duration = family(
            Histogram, "gen_ai_client_operation_duration_seconds", "GenAI operation duration.",
            ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "error_type"),
            buckets=_GEN_AI_SECONDS,
        )  # fmt: skip
        self._gen_ai_tokens = family(
            Histogram, "gen_ai_client_token_usage", "Number of input and output tokens used.",
            ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_token_type"),
            buckets=_GEN_AI_TOKENS,
        )  # fmt: skip

        def gauge(name: str, said: str) -> Gauge:
            return Gauge(f"{own}{name}", said, registry=self.registry)

        self.in_flight = gauge("in_flight", "Requests under way.")
        self.student_up = gauge("student_up", "1 while a student can answer.")
        self.alarm = gauge("alarm", "1 once audits have turned the student off.")
        self.recorder_queue = gauge("recorder_queue", "Exchanges that wait to be written.")
        self.recorder_failing = gauge("recorder_failing", "1 while exchanges cannot be written.")
        self.recorder_lost = Counter(f"{own}recorder_lost", "Exchanges that were not recorded.", registry=self.registry)
        self.log_lost = Counter(f"{own}log_lost", "Lines of the log that were not written.", registry=self.registry)
        info = Gauge(f"{own}info", "1, with the version.", ("version",), registry=self.registry)
        info.labels(__version__).set(1)

    def done(self, exchange: Exchange, operation: str, error: str, model: str) -> None:
        """Count a request that has ended. `error`: "" or its kind. `model`: as asked for, cut and without secrets."""
        by, key, decision = exchange.by, exchange.key, exchange.decision
        model = self._known(model, answered=not error)
        if not exchange.beside:  # no client asked for it
            status = str(exchange.status) if 100 <= exchange.status < 600 else "none"
            self._requests.at(by, status, model, decision.reason if decision is not None else "").inc()
            self._duration.at(by).observe(exchange.latency_s)
            if exchange.first_byte_s > 0:
                self._first_byte.at(by).observe(exchange.first_byte_s)
        if exchange.fault:
            self._faults.at(exchange.fault).inc()
        if decision is not None and decision.audit:
            self._audits.at(decision.audit).inc()
        if exchange.usd > 0:
            self._usd.at(model, key).inc(exchange.usd)
        if exchange.saved_usd > 0:
            self._saved.at(model, key).inc(exchange.saved_usd)
        if by == "gateway":
            return
        asked, said = exchange.prompt_tokens, exchange.completion_tokens
        provider = self.provider if by == "upstream" else "aasut"
        self._gen_ai_duration.at(operation, provider, model, error).observe(exchange.latency_s)
        for amount, ours, theirs in ((asked, "prompt", "input"), (said, "completion", "output")):
            if amount > 0:
                self._tokens.at(by, model, ours, key).inc(amount)
                if exchange.counted:
                    self._gen_ai_tokens.at(operation, provider, model, theirs).observe(amount)

    def render(self) -> bytes:
        """The page of GET /metrics, of type CONTENT_TYPE."""
        return generate_latest(self.registry)

    def _known(self, model: str, *, answered: bool) -> str:
        """A model's label. Only one that was answered once has its own, and only so many: clients choose the names."""
        if not model or model in self._models:
            return model
        if answered and len(self._models) < MODELS:
            self._models.add(model)
            return model
        return OTHER


def counted(counter: Counter, before: int, now: int) -> int:
    """Bring a counter up to a total that is kept elsewhere, and may begin anew; gives that total."""
    counter.inc(now - before if now >= before else now)
    return now
