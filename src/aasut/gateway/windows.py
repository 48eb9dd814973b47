"""What limits count in: the last 60 seconds, and a day or month of UTC."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime

MINUTE = 60.0
GRAIN_S = 0.1  # what comes within it is one entry, so that a busy minute has no more than 600
PICO = 10**12  # dollars are summed in whole millionths of a millionth: sums are exact, in any order


def day_start(now: float) -> float:
    """The beginning of a moment's day in UTC, seconds since 1970."""
    return now - now % 86400


def month_start(now: float) -> float:
    """The beginning of a moment's month in UTC, seconds since 1970."""
    return datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp()


def month_end(now: float) -> float:
    """The beginning of the month after a moment's in UTC, seconds since 1970."""
    return month_start(month_start(now) + 32 * 86400)


@dataclass(slots=True)
class Entry:
    """So much from `began` to `at`, on the monotonic clock and at most GRAIN_S apart; `counts` until `at` is old."""

    began: float
    at: float
    amount: int
    counts: bool = True


@dataclass(slots=True)
class Sliding:
    """The last 60 seconds. No 60 seconds hold more than was let in, whatever the moment they begin at."""

    total: int = 0
    _entries: deque[Entry] = field(default_factory=deque)

    def room(self, limit: int, now: float) -> int:
        """How much still fits below `limit` at a moment."""
        entries = self._entries
        while entries and entries[0].at <= now - MINUTE:
            gone = entries.popleft()
            gone.counts = False
            self.total -= gone.amount
        return limit - self.total

    def add(self, amount: int, now: float) -> Entry:
        self.total += amount
        if self._entries and now - self._entries[-1].began < GRAIN_S:
            entry = self._entries[-1]
            entry.at = now
            entry.amount += amount
        else:
            entry = Entry(now, now, amount)
            self._entries.append(entry)
        return entry

    def correct(self, entry: Entry, was: int, amount: int) -> None:
        """Replace what was added to an entry by what it was in the end; nothing where its minute is over."""
        if entry.counts:
            self.total += amount - was
            entry.amount += amount - was

    def wait(self, amount: int, limit: int, now: float) -> float:
        """Seconds until `amount` fits below `limit`, if nothing else comes; it must be at most `limit`."""
        short, free_at = amount - self.room(limit, now), now
        for entry in self._entries:
            if short <= 0:
                break
            short -= entry.amount
            free_at = entry.at + MINUTE
        return max(free_at - now, 0.0)

    def reset(self, now: float) -> float:
        """Seconds until nothing counts any more."""
        return max(self._entries[-1].at + MINUTE - now, 0.0) if self._entries else 0.0


@dataclass(slots=True)
class Money:
    """What was spent in one day or month, and what calls in flight cost at most, in PICO of a dollar.

    `end` is seconds since 1970. A call stays with the window that it began in: the next one begins with nothing held.
    """

    end: float
    spent: int = 0
    held: int = 0

    def fits(self, usd: int, limit: int) -> bool:
        return self.spent + self.held + usd <= limit
