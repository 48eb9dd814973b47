"""Reading what a gateway recorded, also while it goes on recording, and writing it out as a log of chat."""

from __future__ import annotations

import gzip
import json
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from aasut.errors import DataError
from aasut.files import disk_errors
from aasut.gateway import keeper, schema
from aasut.gateway.exchange import Exchange
from aasut.gateway.redact import dumped

ENDINGS = (".jsonl", ".jsonl.gz", ".parquet")
GROUP, GROUP_BYTES = 2000, 16 << 20  # rows of a Parquet file that are held at once, and their size about
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


def export(folder: Path, path: Path, *, since: float | None = None) -> dict[str, int]:
    """Write chat completions to a file for `sources` and others to read: .jsonl, .jsonl.gz or .parquet.

    One object each: id, at, key, model, request, response, by, beside, status, tokens, dollars, latency_s, fault and
    decision; in Parquet request, response and decision are texts of JSON. The file is written whole, or not at all.
    Gives counts of what was `exported`, and of what was left out: `other_paths`, `refused` by the gateway itself, and
    those of which `no_request` is kept. Raises DataError for another ending, or where there is no traffic.
    """
    write = next((writer for ending, writer in _WRITERS.items() if path.name.lower().endswith(ending)), None)
    if write is None:
        raise DataError(f"It cannot be told what {path} is to be.", f"Let it end in {', '.join(ENDINGS)}.")
    counts = Counter(dict.fromkeys(("exported", "other_paths", "refused", "no_request"), 0))

    def lines() -> Iterator[dict[str, Any]]:
        for exchange in exchanges(folder, since=since):
            found = _line(exchange)
            counts[found if isinstance(found, str) else "exported"] += 1
            if not isinstance(found, str):
                yield found

    schema.open_to_read(folder).close()  # says that there is none before a file is begun
    partial = path.with_name(path.name + ".partial")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                write(file, lines())
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
    return dict(counts)


def _line(x: Exchange) -> dict[str, Any] | str:
    """One line of an export, or why there is none."""
    if not x.path.partition("?")[0].rstrip("/").endswith("/chat/completions"):
        return "other_paths"
    if x.by == "gateway":
        return "refused"
    request = _object(x.request)
    if request is None:
        return "no_request"
    return {
        "id": x.id, "at": datetime.fromtimestamp(x.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "key": x.key, "model": x.model, "request": request, "response": _object(x.response), "by": x.by,
        "beside": x.beside, "status": x.status, "prompt_tokens": x.prompt_tokens,
        "completion_tokens": x.completion_tokens, "cached_tokens": x.cached_tokens, "usd": x.usd,
        "saved_usd": x.saved_usd, "latency_s": x.latency_s, "fault": x.fault,
        "decision": None if x.decision is None else asdict(x.decision),
    }  # fmt: skip


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _write_jsonl(file: IO[bytes], lines: Iterable[dict[str, Any]]) -> None:
    for line in lines:
        file.write(_text(line) + b"\n")


def _write_gzip(file: IO[bytes], lines: Iterable[dict[str, Any]]) -> None:
    with gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
        _write_jsonl(packed, lines)  # type: ignore[arg-type]


def _write_parquet(file: IO[bytes], lines: Iterable[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64(), dict: pa.string()}
    example = _line(Exchange("/v1/chat/completions", request=b"{}", response=b"{}"))
    assert isinstance(example, dict)
    columns = pa.schema([(name, kinds.get(type(value), pa.string())) for name, value in example.items()])
    rows: list[dict[str, Any]] = []
    size = 0
    with pq.ParquetWriter(file, columns, compression="zstd") as writer:
        for line in lines:
            packed = {name: _text(line[name]).decode() for name in _NESTED if line[name] is not None}
            rows.append(line | dict.fromkeys(_NESTED) | packed)
            size += sum(map(len, packed.values()))
            if len(rows) >= GROUP or size >= GROUP_BYTES:
                writer.write_table(pa.Table.from_pylist(rows, columns))
                rows, size = [], 0
        if rows:
            writer.write_table(pa.Table.from_pylist(rows, columns))


def _text(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:  # half a character, or a number that JSON cannot say
        return dumped(value)


_NESTED = ("request", "response", "decision")
_WRITERS: dict[str, Callable[[IO[bytes], Iterable[dict[str, Any]]], None]] = {
    ".jsonl": _write_jsonl,
    ".jsonl.gz": _write_gzip,
    ".parquet": _write_parquet,
}
