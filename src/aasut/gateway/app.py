"""The gateway's ASGI application: who may ask what, and where it goes.

POST /v1/chat/completions   to the student where it may answer, else upstream
     /v1/*                  upstream: embeddings, responses, models and whatever else the API has
GET  /health                is it up, does it record, is the student on
GET  /metrics               for Prometheus
GET  /openapi.json          this API
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import traceback
from collections.abc import MutableMapping, Sequence
from typing import Any

from aasut.gateway import openapi
from aasut.gateway.deployment import Deployment
from aasut.gateway.exchange import Exchange
from aasut.gateway.http import ClientGone, Http, Receive, Send
from aasut.gateway.keys import Key, Keys
from aasut.gateway.limits import Limited, Limits
from aasut.gateway.observe import Observer
from aasut.gateway.passing import Passing
from aasut.gateway.recording import Recording
from aasut.gateway.tokens import most_answered
from aasut.serve.protocol import Refusal

COSTED = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")  # their answers count tokens
METHODS = ("GET", "POST", "DELETE")


class Gateway:
    """Answers requests with a deployment, which may be replaced while it does."""

    def __init__(
        self, deployment: Deployment, recorder: Recording, keys: Keys, limits: Limits, observer: Observer
    ) -> None:
        self.deployment, self.recorder = deployment, recorder
        self.keys, self.limits, self.observer = keys, limits, observer
        self.stopping = False

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        http = Http(scope, receive, send)
        try:
            await self._route(http)
        except ClientGone:
            pass
        except Refusal as refusal:
            await self._refuse(http, refusal)
        except Exception as error:
            # The reason goes to standard error; the client learns only that it happened.
            traceback.print_exception(error, file=sys.stderr)
            if http.begun:
                raise
            message = "The gateway failed on this request."
            await self._refuse(http, Refusal(message, status=500, kind="server_error", code="internal_error"))

    async def _route(self, http: Http) -> None:
        path = http.path
        if path.startswith("/v1/"):
            return await self._pass(http)
        if path in ("/health", "/metrics", "/openapi.json"):
            _check_method(http, ("GET", "HEAD"))
        if path == "/health":
            return await http.json(200, self.health())
        if path == "/openapi.json":
            return await http.json(200, openapi.gateway(keyed=self.keys.wanted))
        if path == "/metrics" and self.deployment.settings.observe.metrics:
            self._who(http)
            kind = [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")]
            return await http.whole(200, kind, self.observer.render())
        raise Refusal(f"Unknown request URL: {http.method} {path}.", status=404, code="unknown_url")

    async def _pass(self, http: Http) -> None:
        try:
            _check_way(http)
            key = self._who(http)
        except Refusal as refusal:  # told of, and not recorded: who has no key writes nothing to the disk
            code = str(refusal.body["error"]["code"])
            self.observer.done(Exchange(http.path, by="gateway", status=refusal.status, fault=code))
            raise
        with self.deployment as deployment:
            listen = deployment.settings.listen
            exchange = Exchange(http.path, key.name if key else "")
            exchange.trace = self.observer.begin(http.header(b"traceparent"), http.header(b"tracestate"))
            began = time.monotonic()
            try:
                exchange.request = await http.body(listen.body_mb << 20, listen.header_timeout_s)
                chat = _decoded(http, exchange, once=key is not None)
                await self._admitted(deployment, http, exchange, chat, key)
            except Refusal as refusal:
                if not exchange.status:
                    exchange.by, exchange.status, exchange.request = "gateway", refusal.status, b""
                    exchange.fault = str(refusal.body["error"]["code"])
                    exchange.latency_s = time.monotonic() - began
                    deployment.keep(exchange)
                raise

    async def _admitted(
        self, deployment: Deployment, http: Http, exchange: Exchange, chat: dict[str, Any] | None, key: Key | None
    ) -> None:
        if deployment.settings.record.strict and self.recorder.failing:
            message = f"The gateway answers nothing that it cannot record: {self.recorder.failing}"
            raise Refusal(message, status=503, kind="server_error", code="not_recorded")
        if key is None:
            return await Passing(deployment, http, exchange, chat).run()
        limited = key.usd_per_day is not None or key.usd_per_month is not None
        if limited and http.path not in COSTED and http.method == "POST":
            message = f"This API key has a limit in dollars, and what {http.path} costs is not known."
            raise Refusal(message, status=403, code="not_allowed")
        price = deployment.settings.upstream.price(exchange.model)
        most = most_answered(chat)
        worst = price.usd(len(exchange.request), most)  # a token is a byte at least
        about = deployment.estimate.tokens(exchange.model, len(exchange.request)) + most
        with self.limits.admit(key, exchange.model, about, worst) as hold:
            told = [(name.encode(), value.encode()) for name, value in hold.headers().items()]
            try:
                await Passing(deployment, http, exchange, chat, told).run()
            finally:
                hold.settle(exchange.prompt_tokens + exchange.completion_tokens, exchange.usd)
        return None

    def _who(self, http: Http) -> Key | None:
        """The key of a request, None where none are asked for. Raises Refusal."""
        if not self.keys.wanted:
            if self.deployment.upstream.key and http.header(b"origin"):  # any page could spend the upstream's key
                message = "A web page needs a key of this gateway: aasut gateway keys add NAME."
                raise Refusal(message, status=403, code="origin_not_allowed")
            return None
        return self.keys.identify(http.header(b"authorization"), http.header(b"api-key") or http.header(b"x-api-key"))

    async def _refuse(self, http: Http, refusal: Refusal) -> None:
        if not http.begun:
            told = refusal.headers if isinstance(refusal, Limited) else {}
            await http.json(refusal.status, refusal.body, [(n.encode(), v.encode()) for n, v in told.items()])

    def health(self) -> dict[str, Any]:
        """What GET /health says; `status` is `ok`, or `failing` where nothing is recorded."""
        cascade = self.deployment.cascade
        return {
            "status": "failing" if self.recorder.failing else "ok",
            "recording": {"failing": self.recorder.failing, "lost": self.recorder.lost},
            "student": None if cascade is None else cascade.state(),
        }


def _check_way(http: Http) -> None:
    """Refuse a path that could lead out of the upstream's base address, and methods that no API has."""
    raw = http.scope.get("raw_path") or http.path.encode()
    parts = http.path.split("/")
    upward = any(part.partition(";")[0] in (".", "..") for part in parts)
    if b"%" in raw or "" in parts[1:-1] or upward or "\\" in http.path:
        raise Refusal("This path cannot be passed on.", status=404, code="unknown_url")
    _check_method(http, METHODS)


def _check_method(http: Http, methods: Sequence[str]) -> None:
    if http.method not in methods:
        message = f"Not allowed to {http.method} {http.path}."
        told = {"allow": ", ".join(methods)}
        raise Limited(message, 405, "invalid_request_error", "method_not_allowed", told)


def _decoded(http: Http, exchange: Exchange, *, once: bool) -> dict[str, Any] | None:
    """The body where it is a JSON object, and its model into the exchange. Raises Refusal for bad JSON.

    `once`: refuse a field that stands twice, since the upstream might read another model than the limits did.
    """
    if http.method != "POST" or (http.path not in COSTED and "json" not in http.header(b"content-type")):
        return None
    try:
        chat = json.loads(exchange.request.decode(), object_pairs_hook=_once if once else None)
    except (ValueError, RecursionError) as error:
        reason = str(error).partition(":")[0]
        raise Refusal(f"The body is no JSON: {reason}.", code="invalid_json") from None
    if not isinstance(chat, dict):
        raise Refusal("The body is no JSON object.", code="invalid_type")
    model = chat.get("model")
    exchange.model = model if isinstance(model, str) else ""
    return chat


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a field stands twice")
    return fields


def keeper(recorder: Recording, observer: Observer, *, strict: bool) -> Any:
    """What a deployment records with."""

    def keep(exchange: Exchange) -> asyncio.Future[str] | None:
        observer.done(exchange)
        if not strict:
            recorder.put(exchange)
            return None
        loop = asyncio.get_running_loop()
        written: asyncio.Future[str] = loop.create_future()

        def tell(why: str) -> None:
            loop.call_soon_threadsafe(lambda: None if written.done() else written.set_result(why))

        recorder.put(exchange, tell)
        return written

    return keep
