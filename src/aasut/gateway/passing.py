"""One request on its way: to the student where it may answer, or to the upstream and back, and into the record."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from aasut.gateway import beside, sse
from aasut.gateway.beside import completion, count, decoded
from aasut.gateway.cascade import Cascade
from aasut.gateway.deployment import Deployment
from aasut.gateway.exchange import Exchange
from aasut.gateway.http import EVENTS, JSON, ClientGone, Http
from aasut.gateway.upstream import Broken, Call, Headers
from aasut.serve.protocol import Refusal

CHAT = "/v1/chat/completions"
OBJECTS = ("/v1/completions", "/v1/embeddings", "/v1/responses")  # other APIs whose answers are JSON objects
KEPT = 16 << 20  # bytes of an answer that are recorded
SAID = b"x-aasut-answered-by"


class Passing:
    """Answers one request. `chat` is its body decoded, None where it is no JSON object; `told` goes with the answer."""

    def __init__(
        self,
        of: Deployment,
        http: Http,
        exchange: Exchange,
        chat: dict[str, Any] | None,
        told: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        self.of, self.http, self.exchange, self.chat = of, http, exchange, chat
        self.body = exchange.request
        self.is_chat = http.path == CHAT and chat is not None
        query = http.scope["query_string"].decode("latin-1")
        self.path = http.path.removeprefix("/v1") + ("?" + query if query else "")
        self._began = time.monotonic()
        self._kept = False
        self._told = told
        self._passed = traced(http.headers, exchange)

    async def run(self) -> None:
        """Answer and record, whatever happens. Raises Refusal where the client gets an error object, ClientGone."""
        cascade = self.of.cascade
        self.http.watch()
        try:
            if cascade is None or not self.is_chat:
                await self._ask()
            elif cascade.wanted.mode == "shadow":
                await self._ask()
                assert self.chat is not None
                self.of.beside(beside.shadow(self.of, cascade, self.chat, self.exchange))
            elif not await self._student(cascade):
                await self._ask()
        except Broken as broken:
            self._failed(broken.fault, broken.status)
            raise Refusal(broken.message, status=broken.status, kind="upstream_error", code=broken.fault) from None
        except asyncio.CancelledError:
            if not self.http.gone:
                self._failed("stopped", 503)
                raise
            self._failed("client_gone", 499)
            raise ClientGone from None
        finally:
            self.http.unwatch()

    async def _student(self, cascade: Cascade) -> bool:
        """Does the student answer? Then it has."""
        chat, exchange = self.chat, self.exchange
        assert chat is not None
        offer = await cascade.offer(chat)
        exchange.decision = replace(offer.decision)
        if offer.decision.reason:
            return False
        exchange.by, exchange.counted = "student", True
        exchange.prompt_tokens, exchange.completion_tokens = offer.usage.prompt_tokens, offer.usage.completion_tokens
        spared = self.of.estimate.tokens(exchange.model, len(self.body))
        price = self.of.settings.upstream.price(exchange.model)
        exchange.saved_usd = price.usd(spared, offer.usage.completion_tokens)
        exchange.first_byte_s = time.monotonic() - self._began
        exchange.streamed = bool(chat.get("stream"))
        if exchange.streamed:
            exchange.response = "".join(offer.events()).encode()
        else:
            exchange.response = json.dumps(offer.whole(), ensure_ascii=False).encode()
        await self._record(200)
        kind = EVENTS if exchange.streamed else JSON
        await self.http.whole(200, [*kind, *self._about("student")], exchange.response)
        if offer.audit:
            self.of.beside(beside.audit(self.of, cascade, offer, self.http.headers, chat, exchange))
        return True

    async def _ask(self) -> None:
        """Ask the upstream, and pass its answer on."""
        body, hides = self._counting() if self.is_chat else (self.body, False)
        call = await self._begin(body)
        try:
            raw = None
            if hides and call.status == 400 and b"stream_options" in (raw := await call.read()):
                call.close()  # an API that counts no streams
                raw, hides, call = None, False, await self._begin(self.body)
            if call.status == 200 and call.streams:
                await self._stream(call, sse.Stream(chat=self.http.path == CHAT, hide_usage=hides))
            else:
                await self._whole(call, await call.read() if raw is None else raw)
        finally:
            call.close()

    async def _begin(self, body: bytes) -> Call:
        return await self.of.upstream.begin(self.http.method, self.path, self._passed, body or None)

    def _counting(self) -> tuple[bytes, bool]:
        """The body to send, and whether it asks for a count that the client did not ask for."""
        chat = self.chat
        assert chat is not None
        options = chat.get("stream_options")
        if chat.get("stream") is not True or not self.of.settings.upstream.count_streams:
            return self.body, False
        if options is not None and (not isinstance(options, dict) or options.get("include_usage")):
            return self.body, False
        if "stream_options" not in chat:  # all else stays as it came, to the byte
            return self.body.replace(b"{", b'{"stream_options": {"include_usage": true}, ', 1), True
        return json.dumps(chat | {"stream_options": (options or {}) | {"include_usage": True}}).encode(), True

    async def _whole(self, call: Call, raw: bytes) -> None:
        exchange, headers = self.exchange, call.headers()
        exchange.first_byte_s = time.monotonic() - self._began
        exchange.response = raw[:KEPT]
        if 300 <= call.status < 400:
            raise Broken("upstream_redirects", f"The upstream answered {call.status}, which would lead elsewhere.")
        if call.status >= 400:
            raw, headers = _as_error(call, raw, headers)
        elif self.is_chat:
            found = completion(raw)
            if found is None:
                raise Broken("upstream_garbage", "The upstream's answer is no chat completion.")
            count(self.of, exchange, found, self.body)
        elif self.chat is not None:
            said = decoded(raw)
            if said is None and self.http.path in OBJECTS:
                raise Broken("upstream_garbage", "The upstream's answer is no JSON object.")
            count(self.of, exchange, said, self.body)
        await self._record(call.status)
        await self.http.whole(call.status, [*headers, *self._about("upstream")], raw)

    async def _stream(self, call: Call, stream: sse.Stream) -> None:
        http, exchange = self.http, self.exchange
        exchange.streamed = True
        headers = [*call.headers(), *self._about("upstream")]
        kept: list[bytes] = []
        size, broken = 0, None
        try:
            async for part in call.pieces():
                if not kept:
                    exchange.first_byte_s = time.monotonic() - self._began
                size += len(part)
                if size <= KEPT:
                    kept.append(part)
                passed = stream.take(part)
                if passed:
                    if not http.begun:
                        await http.begin(200, headers)
                    await http.write(passed)
                if stream.broken:
                    raise Broken("upstream_garbage", f"The upstream sent {stream.broken}.")
            if not stream.whole:
                raise Broken("upstream_cut", "The upstream's answer ended in the middle.")
        except Broken as error:
            broken = error
        finally:
            exchange.response = b"".join(kept)
            count(self.of, exchange, {"usage": stream.usage}, self.body)
            if not exchange.counted:
                exchange.completion_tokens = stream.pieces
                beside.price(self.of, exchange)
        if broken is not None:
            return await self._cut(broken)
        if not http.begun:
            await http.begin(200, headers)
        await self._record(200)
        return await http.end(stream.last)

    async def _cut(self, broken: Broken) -> None:
        """Tell a client that has a part of the answer already. Where it has none, the error is the answer."""
        if not self.http.begun:
            raise broken
        self._failed(broken.fault, 200)
        refusal = Refusal(broken.message, status=broken.status, kind="upstream_error", code=broken.fault)
        await self.http.end(sse.error_event(refusal.body))

    def _about(self, who: str) -> Headers:
        return [(SAID, who.encode()), (b"x-aasut-request-id", self.exchange.id.encode()), *self._told]

    async def _record(self, status: int) -> None:
        """Record the exchange; where recording is strict, wait until it is on the disk. Raises Refusal."""
        exchange = self.exchange
        exchange.status, exchange.latency_s = status, time.monotonic() - self._began
        self._kept = True
        written = self.of.keep(exchange)
        if written is not None and (why := await written):
            message = f"The gateway answers nothing that it cannot record: {why}"
            refusal = Refusal(message, status=503, kind="server_error", code="not_recorded")
            if not self.http.begun:
                raise refusal
            await self.http.end(sse.error_event(refusal.body))
            raise ClientGone

    def _failed(self, fault: str, status: int) -> None:
        """Record that no whole answer was given; what may have been paid counts."""
        if self._kept:
            return
        self._kept = True
        exchange = self.exchange
        exchange.fault, exchange.status = fault, status
        exchange.latency_s = time.monotonic() - self._began
        if not exchange.prompt_tokens and fault != "upstream_unreachable" and self.chat is not None:
            count(self.of, exchange, None, self.body)
        self.of.keep(exchange)


def traced(headers: Headers, exchange: Exchange) -> Headers:
    """A client's headers, with the gateway's span in the place of its own where there is one."""
    if exchange.trace is None:
        return headers
    own = [(name.encode(), value.encode()) for name, value in exchange.trace.headers().items()]
    return [pair for pair in headers if pair[0] not in (b"traceparent", b"tracestate")] + own


def _as_error(call: Call, raw: bytes, headers: Headers) -> tuple[bytes, Headers]:
    """An upstream's refusal as OpenAI's error object, whatever page it came as; `Retry-After` stays."""
    found = decoded(raw)
    if found is not None and "error" in found:
        return raw, headers
    refusal = Refusal(f"The upstream answered {call.status}.", kind="upstream_error", code="upstream_error")
    kept = [(name, value) for name, value in headers if name != b"content-type"]
    return json.dumps(refusal.body).encode(), [*JSON, *kept]
