"""How many calls may be in flight at once, and when: what an endpoint bears is found out, not configured.

The limit starts low, grows by one an answer until the first refusal, then by one a round trip, and
halves where the endpoint is overloaded (additive increase, multiplicative decrease: Chiu and Jain
1989, as in TCP). It holds still while answers take several times as long as they could.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from statistics import median
from typing import Literal

START = 4  # calls in flight at first
SLOWER = 4.0  # times the best latency, from which more calls would only queue
NOISE_S = 0.05  # differences of latency below this say nothing
DRIFT = 1.002  # a round trip, by which the best latency is forgotten, as endpoints get slower for good
LONGEST_PAUSE_S = 30.0
DOWN = 8  # failures in a row, at least, from which one call at a time asks, less and less often

Outcome = Literal["answered", "overloaded", "broken"]


class Limit:
    """Calls in flight at most, between 1 and `most`. Times are in seconds of one clock."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.now = float(min(START, most))
        self._steep = True  # until the first refusal
        self._cut_at = -math.inf
        self.begin()

    def begin(self) -> None:
        """Forget latencies: calls of another kind follow."""
        self._best, self._last = math.inf, 0.0
        self._turn()

    @property
    def crowded(self) -> bool:
        """Whether answers came so late in the last round trip that more calls would only wait longer."""
        return self._last > SLOWER * max(self._best, NOISE_S)

    def answered(self, started: float, ended: float, in_flight: int) -> None:
        """A call came back; `in_flight` counts it too. Grows where the limit is what holds calls back."""
        self._round.append(ended - started)
        if len(self._round) >= self._calls:
            self._last = median(self._round)
            self._best = min(self._best * DRIFT, self._last)
            self._turn()
        if not self.crowded and 2 * in_flight >= self.now:
            self.now = min(float(self.most), self.now + (1.0 if self._steep else 1.0 / self.now))

    def overloaded(self, started: float, ended: float) -> None:
        """A call was refused for load, or timed out. Halves once a round trip: calls sent before a cut say nothing."""
        if started < self._cut_at:
            return
        self.now = max(1.0, self.now / 2)
        self._cut_at, self._steep = ended, False
        self._turn()

    def _turn(self) -> None:
        """Begin to watch another round trip."""
        self._round: list[float] = []
        self._calls = int(self.now)


class Pace:
    """Lets calls through: at most `limit` at a time, and none during a pause that the endpoint asked for.

    An answer on `hold` keeps a place, of the most that there are, until it is `entered`: what has to be asked
    again after a kill is then never more than the most calls in flight.

    `pause_s` is the mean pause before a second attempt, doubled for each further one, at random
    between zero and twice that (full jitter). `patience_s`: seconds without any answer that are borne.
    For one event loop; `clock` and `draw` (uniform between two numbers) can be given for trials.
    """

    def __init__(
        self,
        most: int,
        *,
        pause_s: float = 1.0,
        patience_s: float = 120.0,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.limit = Limit(most)
        self.pause_s, self.patience_s = pause_s, patience_s
        self.in_flight = self.unentered = self.answers = self.retries = 0
        self._clock, self._draw = clock, draw
        self._closed_until = self._failing_since = -math.inf
        self._failures = 0  # in a row
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def enter(self, *, again: bool = False) -> float:
        """Wait for a place; the time at which the call may go out. Further attempts come before first ones."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        (self._waiting.appendleft if again else self._waiting.append)(turn)
        self._wake()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # its place is another's
                self.in_flight -= 1
                self._wake()
            raise
        return self._clock()

    def leave(self, started: float, outcome: Outcome, wait_s: float | None = None) -> None:
        """A call that went out at `started` came back; `wait_s` is what the endpoint asks all calls to wait."""
        now = self._clock()
        if outcome == "answered":
            self.limit.answered(started, now, self.in_flight)
            self.answers += 1
            self._failures = 0
        else:
            if not self._failures:
                self._failing_since = now
            self._failures += 1
            if self._down >= 0:
                wait_s = max(wait_s or 0.0, self._draw(0.0, self._longest(self._down)))
            if outcome == "overloaded":
                self.limit.overloaded(started, now)
        if wait_s is not None:
            self._closed_until = max(self._closed_until, now + wait_s)
        self.in_flight -= 1
        self._wake()

    def hold(self) -> None:
        """Keep a place for an answer until it is entered; for calling before `leave`."""
        self.unentered += 1

    def entered(self, answers: int) -> None:
        """So many answers are where nothing can lose them."""
        self.unentered = max(self.unentered - answers, 0)
        self._wake()

    def begin(self) -> None:
        """Forget what was seen of an endpoint of which nothing was asked for a while."""
        self._failures = 0
        self.limit.begin()

    def pause(self, attempt: int) -> float:
        """Seconds to wait before attempt 1, 2, … after the first."""
        self.retries += 1
        return self._draw(0.0, self._longest(attempt))

    def gives_up(self, wait_s: float | None = None) -> str:
        """Why no further attempt makes sense, after a call failed; empty where one does."""
        if wait_s is not None and wait_s > self.patience_s:
            return f"it asks to wait {wait_s:.0f} s, and {self.patience_s:g} s are allowed"
        if self._failures and self._clock() - self._failing_since >= self.patience_s:
            return f"nothing was answered for {self.patience_s:g} s"
        return ""

    @property
    def _down(self) -> int:
        """Failures since the endpoint is taken to be down; negative where it is not."""
        return self._failures - max(DOWN, self.limit.most)

    def _longest(self, attempt: int) -> float:
        return min(self.pause_s * 2.0 ** min(attempt, 30), LONGEST_PAUSE_S)

    def _wake(self) -> None:
        left = self._closed_until - self._clock()
        if left > 0:
            if self._waiting and self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(left, self._reopen)
            return
        room = 1 if self._down >= 0 else int(self.limit.now)
        while self._waiting and self.in_flight < min(room, self.limit.most - self.unentered):
            turn = self._waiting.popleft()
            if not turn.done():
                self.in_flight += 1
                turn.set_result(None)

    def _reopen(self) -> None:
        self._timer = None
        self._wake()


def wait_of(header: str | None, now: float) -> float | None:
    """Seconds that a Retry-After asks for (seconds, or a date; RFC 9110, 10.2.3); None where there is none.

    `now` is the time of day in seconds since 1970. Dates in the past ask for nothing.
    """
    if header is None or not header.strip():
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            date = parsedate_to_datetime(header)
            seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now
        except (ValueError, TypeError, OverflowError):
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None
