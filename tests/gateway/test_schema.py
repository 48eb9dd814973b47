"""The store's tables: sums agree with rows, a write is whole or not at all, and a commit stays."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from aasut.errors import StoreError
from aasut.gateway import schema
from aasut.gateway.exchange import Decision
from gateway_traffic import asked


def test_totals_are_the_sums_of_the_rows(tmp_path: Path) -> None:
    made = [
        asked(
            at=3600.0 * hour, key=key, by=by, beside=beside, status=status,
            decision=Decision("r", "c", "shadow", audit=audit),
        )
        for hour in (1, 2) for key in ("a", "b") for by in ("student", "upstream") for beside in ("", "req_1")
        for status in (200, 500) for audit in ("", "agreed", "differed", "failed")
    ]  # fmt: skip
    with closing(schema.open_to_write(tmp_path)) as database:
        for place in range(0, len(made), 7):
            schema.insert(database, [(exchange, None) for exchange in made[place : place + 7]])
        rows = """SELECT CAST(at / 3600 AS INTEGER) AS hour, key, model, by, mode, SUM(beside = ''), SUM(prompt_tokens),
            SUM(completion_tokens), SUM(cached_tokens), SUM(usd), SUM(saved_usd), SUM(status >= 400 AND beside = ''),
            SUM(audit IN ('agreed', 'differed')), SUM(audit = 'differed')
            FROM exchange GROUP BY hour, key, model, by, mode ORDER BY hour, key, model, by, mode"""
        assert database.execute("SELECT * FROM total").fetchall() == database.execute(rows).fetchall()
        assert len(database.execute("SELECT * FROM total").fetchall()) == 8


def test_a_write_is_whole_or_not_at_all(tmp_path: Path) -> None:
    with closing(schema.open_to_write(tmp_path)) as database:
        with pytest.raises(schema.UNFIT):
            schema.insert(
                database, [(asked(), (b"", b"", "")), (asked(usd=1 << 70), None), (asked(key="\ud800"), None)]
            )
        for table in ("exchange", "body", "total"):
            assert database.execute(f"SELECT COUNT(*) FROM {table}").fetchone() == (0,)
        schema.insert(database, [(asked(), (b"", b"", ""))])
        assert database.execute("SELECT n FROM exchange").fetchall() == [(1,)]


def test_space_can_be_given_back(tmp_path: Path) -> None:
    for _ in range(2):
        with closing(schema.open_to_write(tmp_path)) as database:
            assert database.execute("PRAGMA auto_vacuum").fetchone() == (2,)
            assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_others_cannot_read_the_store(tmp_path: Path) -> None:
    with closing(schema.open_to_write(tmp_path)) as database:
        schema.insert(database, [(asked(), None)])
        for path in tmp_path.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_who_only_reads_can_change_nothing(tmp_path: Path) -> None:
    schema.open_to_write(tmp_path).close()
    with closing(schema.open_to_read(tmp_path)) as database, pytest.raises(sqlite3.OperationalError):
        database.execute("DELETE FROM exchange")


def test_what_is_no_store_is_said_so(tmp_path: Path) -> None:
    (tmp_path / schema.FILE).write_bytes(b"no database" * 100)
    for open_it in (schema.open_to_write, schema.open_to_read):
        with pytest.raises(StoreError, match="cannot be opened"):
            open_it(tmp_path)
