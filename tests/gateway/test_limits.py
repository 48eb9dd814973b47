from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from typing import Any

import pytest

from aasut.gateway.keys import Key
from aasut.gateway.limits import Hold, Limited, Limits
from aasut.serve.protocol import Refusal

NOON = datetime(2026, 2, 28, 12, tzinfo=UTC).timestamp()
HASH = "0" * 64


def key(name: str = "shop", **limits: Any) -> Key:
    return Key.model_validate(
        {"name": name, "secrets": [{"id": "0" * 12, "sha256": HASH}], "created": NOON - 9e6, **limits}
    )


class Clock:
    """Both clocks, put forward together."""

    def __init__(self, at: float = NOON) -> None:
        self.at = at

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at - NOON + 77.0


def limits(clock: Clock) -> Limits:
    return Limits(now=clock.now, monotonic=clock.monotonic)


def refused(book: Limits, one: Key, model: str = "m", tokens: int = 0, usd: float = 0.0) -> Limited:
    with pytest.raises(Limited) as caught:
        book.admit(one, model, tokens, usd)
    return caught.value


def error(refusal: Refusal) -> tuple[int, str, str]:
    told = refusal.body["error"]
    return refusal.status, told["type"], told["code"]


def test_without_a_key_nothing_is_limited() -> None:
    with Limits().admit(None, "m", 10**9, 1e9) as hold:
        hold.reserve(1e9)
        hold.settle(5, 1e9)
        assert hold.headers() == {}


def test_a_key_that_is_over_is_refused() -> None:
    clock = Clock()
    for one in (key(disabled=True), key(expires=NOON)):
        with pytest.raises(Refusal) as caught:
            limits(clock).admit(one, "m")
        assert error(caught.value) == (401, "invalid_request_error", "invalid_api_key")
    limits(clock).admit(key(expires=NOON + 1), "m")


def test_a_model_that_is_not_allowed_is_refused() -> None:
    book, one = limits(Clock()), key(models=["small*"])
    assert error(refused(book, one, "large")) == (403, "invalid_request_error", "model_not_found")
    book.admit(one, "small-1")
    assert book.running("shop") == 1


def test_requests_per_minute() -> None:
    clock, one = Clock(), key(requests_per_minute=3)
    book = limits(clock)
    for _ in range(3):
        with book.admit(one, "m") as hold:
            hold.settle(1, 0.0)
        clock.at += 10
    told = refused(book, one)
    assert error(told) == (429, "requests", "rate_limit_exceeded")
    assert told.headers == {
        "retry-after": "30",
        "x-ratelimit-limit-requests": "3",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "50s",
    }
    clock.at += 30
    hold = book.admit(one, "m")
    assert hold.headers()["x-ratelimit-remaining-requests"] == "0"
    assert hold.headers()["x-ratelimit-reset-requests"] == "1m0s"
    refused(book, one)
    book.admit(key("other", requests_per_minute=1), "m")


def test_refused_requests_do_not_count() -> None:
    clock, one = Clock(), key(requests_per_minute=2, tokens_per_minute=10)
    book = limits(clock)
    for _ in range(5):
        refused(book, one, tokens=11)
    book.admit(one, "m", 10)
    for _ in range(5):
        assert error(refused(book, one, tokens=1))[1] == "tokens"
    clock.at += 60
    book.admit(one, "m", 1)
    book.admit(one, "m", 1)


def test_tokens_per_minute_are_reserved_and_settled() -> None:
    clock, one = Clock(), key(tokens_per_minute=1000)
    book = limits(clock)
    hold = book.admit(one, "m", 800)
    told = refused(book, one, tokens=300)
    assert error(told) == (429, "tokens", "rate_limit_exceeded")
    assert told.headers["retry-after"] == "60"
    assert told.headers["x-ratelimit-remaining-tokens"] == "200"
    hold.settle(100, 0.0)
    second = book.admit(one, "m", 900)
    second.settle(2000, 0.0)  # more than was thought: what comes next waits
    refused(book, one, tokens=1)
    clock.at += 60
    book.admit(one, "m", 1000)


def test_what_can_never_be_let_in_says_so() -> None:
    told = refused(limits(Clock()), key(tokens_per_minute=1000), tokens=1001)
    assert error(told) == (429, "tokens", "rate_limit_exceeded")
    assert "retry-after" not in told.headers
    assert told.headers["x-should-retry"] == "false"
    assert "Request too large" in str(told)


def test_concurrency() -> None:
    book, one = limits(Clock()), key(concurrency=2)
    first, _second = book.admit(one, "m"), book.admit(one, "m")
    told = refused(book, one)
    assert error(told) == (429, "requests", "rate_limit_exceeded")
    assert told.headers["retry-after"] == "1"
    first.settle(1, 0.0)
    first.settle(1, 0.0)  # once is enough
    book.admit(one, "m")
    refused(book, one)


@pytest.mark.parametrize("window", ["day", "month"])
def test_dollars_are_hard(window: str) -> None:
    clock, one = Clock(), key(**{f"usd_per_{window}": 1.0})
    book = limits(clock)
    first = book.admit(one, "m", usd=0.6)
    told = refused(book, one, usd=0.5)
    assert error(told) == (429, "usd", "rate_limit_exceeded")  # the one in flight may turn out cheaper
    assert told.headers["retry-after"] == "1"
    first.settle(1, 0.5)
    second = book.admit(one, "m", usd=0.5)
    second.settle(1, 0.5)
    told = refused(book, one, usd=0.000001)
    assert error(told) == (429, "insufficient_quota", "insufficient_quota")
    assert told.headers == {"x-should-retry": "false", "retry-after": str(12 * 3600)}  # the month ends that day too
    told = refused(book, one, usd=1.01)
    assert "retry-after" not in told.headers
    book.admit(one, "m", usd=0.0).settle(1, 0.0)  # what costs nothing goes on
    clock.at += 12 * 3600
    book.admit(one, "m", usd=1.0)


def test_more_can_be_reserved_on_the_way() -> None:
    book, one = limits(Clock()), key(usd_per_day=1.0)
    with book.admit(one, "m") as hold:
        hold.reserve(0.7)
        with pytest.raises(Limited):
            hold.reserve(0.7)
        hold.reserve(0.3)
        refused(book, one, usd=0.01)
        hold.settle(1, 0.2)
    assert book.spent("shop") == (0.2, 0.2)
    book.admit(one, "m", usd=0.8)


def test_a_call_belongs_to_the_day_it_came_on() -> None:
    clock, one = Clock(NOON + 12 * 3600 - 1), key(usd_per_day=1.0)
    book = limits(clock)
    late = book.admit(one, "m", usd=1.0)
    refused(book, one, usd=0.1)
    clock.at += 2
    today = book.admit(one, "m", usd=1.0)
    late.settle(1, 1.0)
    today.settle(1, 0.25)
    assert book.spent("shop") == (0.25, 0.25)
    clock.at -= 10  # a clock that is put back gives nothing back
    assert book.spent("shop") == (0.25, 0.25)


def test_a_hold_that_is_not_settled_leaves_nothing_behind() -> None:
    book = limits(Clock())
    one = key(usd_per_day=1.0, tokens_per_minute=100, concurrency=1)
    for _ in range(50):
        with pytest.raises(ZeroDivisionError), book.admit(one, "m", 100, 1.0):
            _ = 1 / 0
    assert book.running("shop") == 0
    assert book.spent("shop") == (0.0, 0.0)
    book.admit(one, "m", 100, 1.0)


def test_spending_goes_on_after_a_restart_in_mid_window() -> None:
    clock, one = Clock(), key(usd_per_day=1.0, usd_per_month=5.0)
    kept = [(NOON - 3600, 0.75), (NOON - 13 * 3600, 4.0), (NOON - 40 * 86400, 99.0)]

    def spent(since: float) -> dict[str, float]:
        return {"shop": sum(usd for at, usd in kept if at >= since)}

    book = Limits.resumed(spent, clock.now, clock.monotonic)
    assert book.spent("shop") == (0.75, 4.75)
    assert error(refused(book, one, usd=0.26))[1] == "insufficient_quota"  # the month's: 4.75 + 0.26
    hold = book.admit(one, "m", usd=0.25)
    kept.append((clock.at, 0.25))
    hold.settle(1, 0.25)
    again = Limits.resumed(spent, clock.now, clock.monotonic)
    assert again.spent("shop") == book.spent("shop") == (1.0, 5.0)
    refused(again, one, usd=0.000001)


@pytest.mark.parametrize("usd", [float("inf"), float("nan"), 1e300])
def test_a_price_that_no_number_can_say_fits_no_limit(usd: float) -> None:
    assert error(refused(limits(Clock()), key(usd_per_day=1e9), usd=usd))[1] == "insufficient_quota"
    hold = limits(Clock()).admit(key(), "m", usd=usd)
    hold.settle(1, usd)


def test_limits_that_change_are_taken_up() -> None:
    clock, book = Clock(), limits(Clock())
    for _ in range(5):
        book.admit(key(requests_per_minute=10, usd_per_day=9.0), "m", usd=0.1).settle(1, 0.1)
    told = refused(book, key(requests_per_minute=3, usd_per_day=9.0))
    assert told.headers["x-ratelimit-remaining-requests"] == "0"
    assert error(refused(book, key(usd_per_day=0.5), usd=0.1))[1] == "insufficient_quota"
    assert clock.at == NOON


@pytest.mark.parametrize("seed", range(5))
def test_many_requests_at_one_time_never_pass_a_limit(seed: int) -> None:
    """Calls of random price and length, some failing, some dropped: at no moment does spending pass a limit."""
    draw, book = random.Random(seed), Limits()
    one = key(usd_per_day=1.0, usd_per_month=1.0, concurrency=40)
    paid, most, in_flight = 0.0, 0, 0

    async def request() -> str:
        nonlocal paid, most, in_flight
        worst = draw.uniform(0, 0.02)
        try:
            with book.admit(one, "m", usd=worst) as hold:
                in_flight += 1
                most = max(most, in_flight)
                try:
                    await asyncio.sleep(draw.uniform(0, 0.002))
                    if draw.random() < 0.1:
                        raise TimeoutError
                    usd = worst * draw.random()
                    paid += usd
                    hold.settle(1, usd)
                finally:
                    in_flight -= 1
                return "done"
        except TimeoutError:
            return "failed"
        except Limited as refusal:
            return str(refusal.body["error"]["code"])
        finally:
            assert paid <= 1.0

    async def many() -> list[str]:
        found: list[str] = []
        for _ in range(30):
            found += await asyncio.gather(*(request() for _ in range(100)))
        return found

    found = asyncio.run(many())
    assert most == 40
    assert 0.95 < paid <= 1.0
    assert {"done", "failed", "rate_limit_exceeded", "insufficient_quota"} == set(found)
    assert book.running("shop") == 0
    assert book.spent("shop")[0] == pytest.approx(paid, abs=1e-9)


def test_sums_do_not_drift() -> None:
    book, one = limits(Clock()), key(usd_per_day=1.0)
    for _ in range(1000):
        book.admit(one, "m", usd=0.001).settle(1, 0.001)
    assert book.spent("shop") == (1.0, 1.0)
    assert isinstance(book.admit(one, "m"), Hold)
    refused(book, one, usd=1e-12)
