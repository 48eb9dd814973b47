"""How the gateway's folder keeps traffic: the tables of traffic.db, and exchanges as rows of them.

`exchange` is narrow, so that counting is fast; what was asked and answered stands in `body`, which retention empties.
`total` sums by hour and is kept up by the writer in the same transaction. Rows are numbered `n` in the order in which
they were written, and never renumbered.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from aasut.errors import DataError, StoreError
from aasut.files import connect, connect_read_only, disk_errors
from aasut.gateway.exchange import Decision, Exchange

FILE = "traffic.db"
AUDITED = "audit IN ('agreed', 'differed')"

# Append-only: never edit an entry, add one.
MIGRATIONS = (
    """
    CREATE TABLE exchange (
        n INTEGER PRIMARY KEY, id TEXT NOT NULL, at REAL NOT NULL, path TEXT NOT NULL, key TEXT NOT NULL,
        model TEXT NOT NULL, status INTEGER NOT NULL, streamed INTEGER NOT NULL, by TEXT NOT NULL,
        prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
        counted INTEGER NOT NULL, usd REAL NOT NULL, saved_usd REAL NOT NULL, first_byte_s REAL NOT NULL,
        latency_s REAL NOT NULL, fault TEXT NOT NULL, beside TEXT NOT NULL,
        run TEXT, certificate TEXT, mode TEXT, score REAL, accepted INTEGER, reason TEXT, audit TEXT
    );
    CREATE INDEX exchange_at ON exchange (at, beside);
    CREATE INDEX exchange_audit ON exchange (certificate, audit) WHERE audit IN ('agreed', 'differed');
    CREATE TABLE body (n INTEGER PRIMARY KEY, request BLOB, response BLOB, answer TEXT NOT NULL);
    CREATE TABLE event (n INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL);
    CREATE TABLE total (
        hour INTEGER NOT NULL, key TEXT NOT NULL, model TEXT NOT NULL, by TEXT NOT NULL, mode TEXT NOT NULL,
        requests INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
        cached_tokens INTEGER NOT NULL, usd REAL NOT NULL, saved_usd REAL NOT NULL, failed INTEGER NOT NULL,
        audits INTEGER NOT NULL, differed INTEGER NOT NULL,
        PRIMARY KEY (hour, key, model, by, mode)
    ) WITHOUT ROWID;
    CREATE TABLE promise (
        certificate TEXT PRIMARY KEY, run TEXT NOT NULL, risk REAL NOT NULL, confidence REAL NOT NULL,
        at REAL NOT NULL
    );
    """,
)

COLUMNS = (
    "id, at, path, key, model, status, streamed, by, prompt_tokens, completion_tokens, cached_tokens, counted, usd, "
    "saved_usd, first_byte_s, latency_s, fault, beside, run, certificate, mode, score, accepted, reason, audit"
)
_SUMS = "requests, prompt_tokens, completion_tokens, cached_tokens, usd, saved_usd, failed, audits, differed"
_INSERT = f"INSERT INTO exchange (n, {COLUMNS}) VALUES ({', '.join('?' * (COLUMNS.count(',') + 2))})"
_INSERT_BODY = "INSERT INTO body (n, request, response, answer) VALUES (?, ?, ?, ?)"
_ADD = (
    f"INSERT INTO total (hour, key, model, by, mode, {_SUMS}) VALUES ({', '.join('?' * 14)}) ON CONFLICT DO UPDATE SET "
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in _SUMS.split(", "))
)

Body = tuple[bytes, bytes, str]  # request, response, the student's answer
Event = tuple[float, str, str]  # when, kind, text
Promise = tuple[str, float, float, float]  # run, risk, confidence, when
Row = tuple[Any, ...]
UNFIT = (ValueError, TypeError, OverflowError, sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.DataError,
         sqlite3.IntegrityError)  # fmt: skip


def open_to_write(folder: Path) -> sqlite3.Connection:
    """The store of a gateway's folder, made where there is none; transactions are begun and ended by the caller.

    A commit outlives the process, however it ends; a power cut may take the last ones, and breaks nothing. Raises
    StoreError where the file cannot be made, written or understood.
    """
    path = folder / FILE
    with disk_errors(path):
        if not path.exists() or not path.stat().st_size:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # SQLite's other files are as open as this one
            new = sqlite3.connect(path)
            try:  # has to come before the first page is written
                new.execute("PRAGMA auto_vacuum = INCREMENTAL")
                new.execute("PRAGMA journal_mode = WAL")
            finally:
                new.close()
    database = connect(path, MIGRATIONS)
    database.isolation_level = None
    for pragma in (
        "busy_timeout = 2000",
        "synchronous = NORMAL",
        "secure_delete = ON",
        "journal_size_limit = 16777216",
    ):
        database.execute(f"PRAGMA {pragma}")
    return database


def open_to_read(folder: Path) -> sqlite3.Connection:
    """The same, beside a gateway that writes, so that nothing can be changed. Raises DataError where there is none."""
    path = folder / FILE
    if not path.is_file():
        raise DataError(f"There is no traffic in {folder}.", "Name the gateway's folder with --store.")
    database = connect_read_only(path, MIGRATIONS)
    if database is None:
        raise StoreError(f"{path} was written by an older aasut.", "Start the gateway on it once, which brings it up.")
    return database


def insert(
    database: sqlite3.Connection,
    rows: Sequence[tuple[Exchange, Body | None]],
    events: Sequence[Event] = (),
    promises: Mapping[str, Promise] = MappingProxyType({}),
) -> None:
    """Write all of it, or nothing; the bodies given stand for those of the exchange. Raises what UNFIT names where
    a value fits no column, sqlite3.Error where the file cannot be written."""
    database.execute("BEGIN IMMEDIATE")
    try:
        first = 1 + database.execute("SELECT COALESCE(MAX(n), 0) FROM exchange").fetchone()[0]
        database.executemany(_INSERT, [row_of(n, exchange) for n, (exchange, _) in enumerate(rows, first)])
        database.executemany(_INSERT_BODY, [(n, *body) for n, (_, body) in enumerate(rows, first) if body is not None])
        database.executemany(_ADD, _sums(exchange for exchange, _ in rows))
        database.executemany("INSERT INTO event (at, kind, text) VALUES (?, ?, ?)", events)
        database.executemany("REPLACE INTO promise VALUES (?, ?, ?, ?, ?)", [(c, *p) for c, p in promises.items()])
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def row_of(n: int, x: Exchange) -> Row:
    """An exchange as a row of `exchange`."""
    d = x.decision
    return (
        n, x.id, x.at, x.path, x.key, x.model, x.status, x.streamed, x.by, x.prompt_tokens, x.completion_tokens,
        x.cached_tokens, x.counted, x.usd, x.saved_usd, x.first_byte_s, x.latency_s, x.fault, x.beside,
        *((None,) * 7 if d is None else (d.run, d.certificate, d.mode, d.score, d.accepted, d.reason, d.audit)),
    )  # fmt: skip


def exchange_of(row: Row) -> Exchange:
    """The exchange in a row of COLUMNS, request, response, answer."""
    (id, at, path, key, model, status, streamed, by, prompt, completion, cached, counted, usd, saved, first, latency,
     fault, beside, run, certificate, mode, score, accepted, reason, audit, *bodies) = row  # fmt: skip
    request, response, answer = bodies
    decision = None
    if run is not None:
        decision = Decision(run, certificate, mode, score, bool(accepted), reason, answer or "", audit)
    return Exchange(
        path, key, model, request or b"", response or b"", status, bool(streamed), by, prompt, completion, cached,
        bool(counted), usd, saved, first, latency, fault, beside, decision, id=id, at=at,
    )  # fmt: skip


def _sums(exchanges: Iterable[Exchange]) -> list[Row]:
    """Rows to add to `total`."""
    found: dict[Row, list[Any]] = {}
    for x in exchanges:
        d = x.decision
        place = (int(x.at // 3600), x.key, x.model, x.by, d.mode if d else "")
        sums = found.get(place)
        if sums is None:
            sums = found[place] = [0, 0, 0, 0, 0.0, 0.0, 0, 0, 0]
        sums[0] += not x.beside
        sums[1] += x.prompt_tokens
        sums[2] += x.completion_tokens
        sums[3] += x.cached_tokens
        sums[4] += x.usd
        sums[5] += x.saved_usd
        sums[6] += not x.beside and (x.status >= 400 or x.fault != "")
        if d and d.audit:
            sums[7] += d.audit in ("agreed", "differed")
            sums[8] += d.audit == "differed"
    return [(*place, *sums) for place, sums in found.items()]
