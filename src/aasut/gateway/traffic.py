"""Reading what a gateway recorded, also while it goes on recording."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from aasut.errors import DataError
from aasut.files import disk_errors
from aasut.gateway import keeper, schema
from aasut.gateway.exchange import Exchange

WINDOW = 500  # rows read at once: no long reading keeps the writer's log from beginning anew

_READ = (
    f"SELECT e.n, {', '.join('e.' + name for name in schema.COLUMNS.split(', '))}, b.request, b.response, b.answer "
    "FROM exchange e LEFT JOIN body b ON b.n = e.n WHERE e.n > ? AND e.n <= ?"
)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to the gateway; `at` in seconds since 1970."""

    at: float
    kind: str
    text: str


def exchanges(
    folder: Path,
    *,
    since: float | None = None,
    until: float | None = None,
    model: str | None = None,
    key: str | None = None,
    by: str | None = None,
) -> Iterator[Exchange]:
    """Exchanges in the order in which they were recorded, up to the last one at the call; bodies as they are kept.

    since, until: when they came, in seconds since 1970, from and before. Raises DataError where there is no traffic.
    """
    wanted = [("e.at >= ?", since), ("e.at < ?", until), ("e.model = ?", model), ("e.key = ?", key), ("e.by = ?", by)]
    given = [(test, value) for test, value in wanted if value is not None]
    query = " AND ".join([_READ, *(test for test, _ in given)]) + " ORDER BY e.n"
    with closing(schema.open_to_read(folder)) as database:
        last = _first(database, since) - 1
        end = database.execute("SELECT COALESCE(MAX(n), 0) FROM exchange").fetchone()[0]
        while last < end:
            upto = min(last + WINDOW, end)
            for row in database.execute(query, (last, upto, *(value for _, value in given))).fetchall():
                yield schema.exchange_of(row[1:])
            last = upto


def audits(folder: Path, certificate: str) -> list[bool]:
    """The audits of answers that a certificate let through, in order: did the upstream's answer differ?"""
    with closing(schema.open_to_read(folder)) as database:
        found = database.execute(
            f"SELECT n, audit FROM exchange WHERE certificate = ? AND {schema.AUDITED}", (certificate,)
        )
        return [audit == "differed" for _, audit in sorted(found)]


def events(folder: Path, *, since: float | None = None, last: int | None = None) -> list[Event]:
    """What happened, oldest first; of many the `last`."""
    with closing(schema.open_to_read(folder)) as database:
        found = database.execute(
            "SELECT at, kind, text FROM event WHERE at >= ? ORDER BY n DESC LIMIT ?",
            (since or 0.0, -1 if last is None else last),
        )
        return [Event(*row) for row in found][::-1]


def spent(folder: Path, since: float) -> dict[str, tuple[float, int, int]]:
    """By key since a time: dollars, tokens of prompts and answers, requests. Whole hours come from their sums."""
    hour = int(since // 3600) + 1
    query = """
        SELECT key, SUM(usd), SUM(tokens), SUM(requests) FROM (
            SELECT key, usd, prompt_tokens + completion_tokens AS tokens, requests FROM total WHERE hour >= ?
            UNION ALL
            SELECT key, usd, prompt_tokens + completion_tokens, beside = '' FROM exchange WHERE at >= ? AND at < ?
        ) GROUP BY key"""
    if not (folder / schema.FILE).exists():
        return {}
    with closing(schema.open_to_read(folder)) as database:
        return {
            key: (usd, tokens, requests)
            for key, usd, tokens, requests in database.execute(query, (hour, since, hour * 3600))
        }


def forget(folder: Path, days: float) -> int:
    """Delete the bodies of exchanges older than this many days; how many. What is counted stays."""
    if not (folder / schema.FILE).is_file():
        raise DataError(f"There is no traffic in {folder}.", "Name the gateway's folder with --store.")
    with disk_errors(folder / schema.FILE), closing(schema.open_to_write(folder)) as database:
        return keeper.forget(database, time.time() - days * 86400)


def _first(database: sqlite3.Connection, since: float | None) -> int:
    """The first number from this time on."""
    if since is None:
        return 1
    found = database.execute("SELECT MIN(n) FROM exchange INDEXED BY exchange_at WHERE at >= ?", (since,)).fetchone()[0]
    return int(found) if found is not None else 1 << 62
