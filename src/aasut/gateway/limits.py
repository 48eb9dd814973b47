"""Limits of virtual keys: asked before a request is sent, settled when it has ended.

Requests and tokens: a sliding window, so no 60 seconds hold more than the limit, whatever moment they begin at. Tokens
are counted when a request comes, by an estimate that its true count replaces. Refused requests count for nothing.
Dollars: calendar days and months of UTC, by the moment when a request came. They are hard: a call in flight counts at
its worst case, so spending never passes a limit as long as no call costs more than was said of it.

A restart begins with the dollars that were recorded, and with an empty minute. Nothing here waits or awaits, so that
requests of one event loop cannot come between a look and a reservation; it is not for several threads.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType

from aasut.gateway.keys import Key, closed
from aasut.gateway.windows import PICO, Entry, Money, Sliding, day_start, month_end, month_start
from aasut.serve.protocol import Refusal

_NEVER = {"x-should-retry": "false"}  # official clients would ask again and again
_NO_LIMIT = 10**30  # PICO dollars


class Limited(Refusal):
    """A refusal by a key's limits, with headers that say when to come again."""

    def __init__(self, message: str, status: int, kind: str, code: str, headers: Mapping[str, str] = {}) -> None:
        super().__init__(message, status=status, kind=kind, code=code)
        self.headers = dict(headers)


@dataclass(slots=True)
class _State:
    """What a key has used and uses."""

    day: Money
    month: Money
    requests: Sliding = field(default_factory=Sliding)
    tokens: Sliding = field(default_factory=Sliding)
    running: int = 0


class Limits:
    """Limits of all keys of one gateway. `today`, `this_month`: dollars that each key name has spent already, UTC."""

    def __init__(
        self,
        today: Mapping[str, float] = {},
        this_month: Mapping[str, float] = {},
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.now, self.monotonic = now, monotonic
        self._states: dict[str, _State] = {}
        for name in today.keys() | this_month.keys():
            state = self._state(name)
            state.day.spent = _pico(today.get(name, 0.0))
            state.month.spent = _pico(this_month.get(name, 0.0))

    @classmethod
    def resumed(
        cls,
        spent: Callable[[float], Mapping[str, float]],
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> Limits:
        """Limits after a restart; `spent(since)` says what each key name has spent from a moment on, in dollars."""
        at = now()
        return cls(spent(day_start(at)), spent(month_start(at)), now, monotonic)

    def admit(self, key: Key | None, model: str, tokens: int = 0, usd: float = 0.0) -> Hold:
        """Reserve a request's place. `tokens`, both ways, is an estimate; `usd` the most that it can cost upstream.

        What it returns is closed by `settle`, or by leaving its `with` block. Without a key nothing is limited.
        Raises Refusal 401 or 403, or Limited 429, and then nothing is reserved.
        """
        if key is None:
            return Hold()
        if (refusal := closed(key, self.now())) is not None:
            raise refusal
        if not key.allows(model):
            raise Limited(
                f"This API key does not have access to model {model[:100]!r}.",
                403,
                "invalid_request_error",
                "model_not_found",
            )
        tokens, worst = max(tokens, 0), _pico(usd, math.ceil)
        state, now = self._state(key.name), self.monotonic()
        if key.concurrency is not None and state.running >= key.concurrency:
            raise _too_many(f"concurrent requests: limit {key.concurrency}", "requests", 1.0)
        if key.requests_per_minute is not None and state.requests.room(key.requests_per_minute, now) < 1:
            wait = state.requests.wait(1, key.requests_per_minute, now)
            raise _too_many(
                f"requests per min: limit {key.requests_per_minute}", "requests", wait, _headers(key, state, now)
            )
        if key.tokens_per_minute is not None and state.tokens.room(key.tokens_per_minute, now) < tokens:
            limit = key.tokens_per_minute
            said, headers = f"tokens per min: limit {limit}, requested {tokens}", _headers(key, state, now)
            longest = None if tokens > limit else state.tokens.wait(tokens, limit, now)
            raise _too_many(said, "tokens", longest, headers)
        self._check_usd(key, (state.day, state.month), worst)
        if key.requests_per_minute is not None:
            state.requests.add(1, now)
        entry = state.tokens.add(tokens, now) if key.tokens_per_minute is not None else None
        state.running += 1
        hold = Hold(self, key, state, entry, tokens)
        hold._keep(worst)
        return hold

    def spent(self, name: str) -> tuple[float, float]:
        """Dollars that a key name has spent today and this month, calls in flight not counted."""
        state = self._state(name)
        return state.day.spent / PICO, state.month.spent / PICO

    def running(self, name: str) -> int:
        """A key name's requests in flight."""
        return self._state(name).running

    def _state(self, name: str) -> _State:
        """A key name's use, in the day and month that it is."""
        now = self.now()
        state = self._states.get(name)
        if state is None:
            state = self._states[name] = _State(Money(day_start(now) + 86400), Money(month_end(now)))
        # Only forward: a clock that is put back gives nobody's dollars back.
        if now >= state.day.end:
            state.day = Money(day_start(now) + 86400)
        if now >= state.month.end:
            state.month = Money(month_end(now))
        return state

    def _check_usd(self, key: Key, money: tuple[Money, ...], worst: int) -> None:
        """Raise Limited where a call at its worst could pass a limit in dollars; what costs nothing always fits."""
        for used, usd, window in zip(money, (key.usd_per_day, key.usd_per_month), ("day", "month"), strict=True):
            if usd is None or worst == 0:
                continue
            limit = _pico(usd, math.floor)
            if used.fits(worst, limit):
                continue
            if used.spent + worst <= limit:
                raise _too_many(f"dollars per {window} that calls in flight could use up: limit {usd:g}", "usd", 1.0)
            again = {} if worst > limit else {"retry-after": str(max(math.ceil(used.end - self.now()), 1))}
            raise Limited(
                f"You exceeded your current quota: this API key may cost ${usd:g} a {window}, "
                f"${used.spent / PICO:.4f} are spent, and this request may cost ${worst / PICO:.4f}.",
                429,
                "insufficient_quota",
                "insufficient_quota",
                _NEVER | again,
            )


class Hold:
    """One request's place among the limits of its key; leaving its `with` block unsettled gives it back."""

    __slots__ = ("_entry", "_key", "_limits", "_money", "_open", "_state", "_tokens", "_worst")

    def __init__(
        self,
        limits: Limits | None = None,
        key: Key | None = None,
        state: _State | None = None,
        entry: Entry | None = None,
        tokens: int = 0,
    ) -> None:
        self._limits, self._key, self._state, self._entry = limits, key, state, entry
        self._tokens = tokens  # that the entry was added by
        self._money = () if state is None else (state.day, state.month)
        self._worst = 0  # in PICO of a dollar
        self._open = True

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.settle(0, 0.0)

    def reserve(self, usd: float) -> None:
        """Set more dollars aside, as before a second call upstream. Raises Limited where they could pass a limit."""
        if self._open and self._limits is not None and self._key is not None:
            worst = _pico(usd, math.ceil)
            self._limits._check_usd(self._key, self._money, worst)
            self._keep(worst)

    def settle(self, tokens: int, usd: float) -> None:
        """Replace what was reserved by what it was, in the end. The first time counts; later ones change nothing."""
        if not self._open:
            return
        self._open = False
        if self._state is not None:
            self._state.running -= 1
            if self._entry is not None:
                self._state.tokens.correct(self._entry, self._tokens, max(tokens, 0))
        spent = _pico(usd) if math.isfinite(usd) else self._worst
        for money in self._money:
            money.held -= self._worst
            money.spent += spent

    def _keep(self, worst: int) -> None:
        for money in self._money:
            money.held += worst
        self._worst += worst

    def headers(self) -> dict[str, str]:
        """OpenAI's x-ratelimit headers for the answer; none without limits a minute."""
        if self._limits is None or self._key is None or self._state is None:
            return {}
        return _headers(self._key, self._state, self._limits.monotonic())


def _headers(key: Key, state: _State, now: float) -> dict[str, str]:
    shown = {}
    for what, limit, used in (
        ("requests", key.requests_per_minute, state.requests),
        ("tokens", key.tokens_per_minute, state.tokens),
    ):
        if limit is not None:
            shown[f"x-ratelimit-limit-{what}"] = str(limit)
            shown[f"x-ratelimit-remaining-{what}"] = str(max(used.room(limit, now), 0))
            shown[f"x-ratelimit-reset-{what}"] = _duration(used.reset(now))
    return shown


def _too_many(said: str, kind: str, wait_s: float | None, headers: Mapping[str, str] = {}) -> Limited:
    """A refusal for now; None: it can never be let in, as it is too large by itself."""
    if wait_s is None:
        return Limited(f"Request too large on {said}.", 429, kind, "rate_limit_exceeded", {**headers, **_NEVER})
    again = {"retry-after": str(max(math.ceil(wait_s), 1))}
    message = f"Rate limit reached on {said}. Please try again in {_duration(wait_s)}."
    return Limited(message, 429, kind, "rate_limit_exceeded", {**headers, **again})


def _duration(seconds: float) -> str:
    """As OpenAI writes it: 250ms, 1.5s, 1m0s."""
    thousandths = math.ceil(seconds * 1000)
    if 0 < thousandths < 1000:
        return f"{thousandths}ms"
    minutes, rest = divmod(thousandths / 1000, 60)
    return (f"{minutes:.0f}m" if minutes else "") + f"{rest:.3f}".rstrip("0").rstrip(".") + "s"


def _pico(usd: float, rounded: Callable[[float], int] = round) -> int:
    """Dollars in whole PICO; what no number can say is more than any limit."""
    return rounded(max(usd, 0.0) * PICO) if math.isfinite(usd * PICO) else _NO_LIMIT
