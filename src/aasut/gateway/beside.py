"""Asking both: the upstream beside the student's own answers, as an audit, and the student beside the upstream's.

No client waits for either, and no key pays for it. What comes of it is an exchange of its own, `beside` the client's.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

from aasut.gateway import tokens
from aasut.gateway.assemble import whole
from aasut.gateway.cascade import Cascade, Offer
from aasut.gateway.deployment import Deployment
from aasut.gateway.exchange import Exchange
from aasut.gateway.upstream import Broken, Headers


async def audit(
    of: Deployment, cascade: Cascade, offer: Offer, headers: Headers, chat: dict[str, Any], was: Exchange
) -> None:
    """Ask the upstream what the student has answered already, and let the cascade compare."""
    body = json.dumps(cascade.audit(chat)).encode()
    other = Exchange(was.path, model=was.model, request=body, beside=was.id)
    began, found = time.monotonic(), None
    try:
        call = await of.upstream.begin("POST", was.path.removeprefix("/v1"), headers, body)
        try:
            other.status, other.response = call.status, await call.read()
        finally:
            call.close()
        found = completion(other.response) if other.status == 200 else None
        other.fault = "" if found or other.status != 200 else "upstream_garbage"
        count(of, other, found, body)
    except Broken as broken:
        other.fault, other.status = broken.fault, broken.status
    await cascade.heard(offer, found)
    other.decision, other.latency_s = replace(offer.decision), time.monotonic() - began
    of.keep(other)


async def shadow(of: Deployment, cascade: Cascade, chat: dict[str, Any], was: Exchange) -> None:
    """Ask the student what the upstream has answered already, and let the cascade compare."""
    began = time.monotonic()
    offer = await cascade.offer(chat)
    answered = None
    if was.status == 200 and not was.fault:
        answered = whole(was.response) if was.streamed else completion(was.response)
    await cascade.heard(offer, answered)
    other = Exchange(was.path, model=was.model, by="student", beside=was.id)
    other.latency_s = time.monotonic() - began
    other.request, other.status, other.decision = was.request, 200, replace(offer.decision)
    if offer.decision.answer:
        other.response = json.dumps(offer.whole(), ensure_ascii=False).encode()
        other.prompt_tokens, other.completion_tokens = offer.usage.prompt_tokens, offer.usage.completion_tokens
        other.counted = True
    of.keep(other)


def completion(raw: bytes) -> dict[str, Any] | None:
    """The chat completion in an answer, None where it is none."""
    found = decoded(raw)
    return found if found is not None and isinstance(found.get("choices"), list) else None


def decoded(raw: bytes) -> dict[str, Any] | None:
    """The JSON object in a body, None where it is none."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def count(of: Deployment, exchange: Exchange, found: dict[str, Any] | None, body: bytes) -> None:
    """Tokens and dollars of an upstream's answer: as it counted them, or about."""
    if tokens.counted(exchange, (found or {}).get("usage")):
        of.estimate.learn(exchange.model, len(body), exchange.prompt_tokens)
    else:
        exchange.prompt_tokens = of.estimate.tokens(exchange.model, len(body))
    price(of, exchange)


def price(of: Deployment, exchange: Exchange) -> None:
    """Dollars of an exchange's tokens."""
    found = of.settings.upstream.price(exchange.model)
    exchange.usd = found.usd(exchange.prompt_tokens, exchange.completion_tokens, exchange.cached_tokens)
