"""Reading the store while a gateway writes to it; exports that are read again as a table."""

from __future__ import annotations

import gzip
import json
import sqlite3
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import read_table
from aasut.errors import DataError, StoreError
from aasut.gateway import schema, traffic
from aasut.gateway.exchange import Decision, Exchange
from aasut.prompts import PromptTemplate
from aasut.tasks import Classify
from gateway_traffic import answer, asked, body, store


def test_what_is_asked_for_comes_in_order(tmp_path: Path) -> None:
    made = [
        asked(at=float(n), key="ab"[n % 2], model=f"m{n % 3}", by=("student", "upstream")[n % 5 > 0])
        for n in range(1200)
    ]
    made[7].at = 999.5
    store(tmp_path, made)
    assert list(traffic.exchanges(tmp_path)) == made
    for wish, true in (
        ({"since": 600.0}, lambda x: x.at >= 600),
        ({"since": 600.0, "until": 1000.0}, lambda x: 600 <= x.at < 1000),
        ({"model": "m1"}, lambda x: x.model == "m1"),
        ({"key": "a", "by": "student"}, lambda x: x.key == "a" and x.by == "student"),
        ({"since": 5000.0}, lambda x: x.at >= 5000),
    ):
        assert list(traffic.exchanges(tmp_path, **wish)) == [x for x in made if true(x)]  # type: ignore[arg-type]


def test_reading_ends_where_it_was_at_the_call_and_keeps_no_lock(tmp_path: Path) -> None:
    store(tmp_path, [asked() for _ in range(600)])
    reading = traffic.exchanges(tmp_path)
    next(reading)
    store(tmp_path, [asked()])
    with closing(schema.open_to_write(tmp_path)) as database:
        busy, log, moved = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert (busy, log, moved) == (0, 0, 0)
    assert len(list(reading)) == 599


def test_audits_are_those_of_one_certificate_in_order(tmp_path: Path) -> None:
    said = ["agreed", "differed", "", "failed", "agreed", "differed"]
    store(tmp_path, [asked(decision=Decision("mail", "c1", audit=audit)) for audit in said])  # type: ignore[arg-type]
    store(tmp_path, [asked(decision=Decision("mail", "c2", audit="agreed")), asked(decision=None)])
    assert traffic.audits(tmp_path, "c1") == [False, True, False, True]
    assert traffic.audits(tmp_path, "c3") == []


def test_events_are_read_from_a_time_or_the_last_ones(tmp_path: Path) -> None:
    store(tmp_path, [], events=[(float(n), "note", str(n)) for n in range(5)])
    assert [event.text for event in traffic.events(tmp_path, since=2.0)] == ["2", "3", "4"]
    assert traffic.events(tmp_path, last=1) == [traffic.Event(4.0, "note", "4")]


@pytest.mark.parametrize("since", [0.0, 1.0, 3599.0, 3600.0, 5000.0, 7200.0, 7201.0, 1e9])
def test_spent_is_exact_within_hours(tmp_path: Path, since: float) -> None:
    made = [asked(at=float(at), key=key, usd=0.5) for at in (0, 1, 3599, 3600, 5400, 7199, 7200, 7201) for key in "ab"]
    made.append(asked(at=5000.0, key="a", usd=2.0, beside="req_1"))
    store(tmp_path, made)
    expected: dict[str, tuple[float, int, int]] = {}
    for x in made:
        if x.at >= since:
            usd, tokens, requests = expected.get(x.key, (0.0, 0, 0))
            expected[x.key] = (usd + x.usd, tokens + 10, requests + (not x.beside))
    assert traffic.spent(tmp_path, since) == expected


def test_nothing_is_spent_where_nothing_was_recorded(tmp_path: Path) -> None:
    assert traffic.spent(tmp_path, 0.0) == {}


@pytest.mark.parametrize(
    "read",
    [
        lambda folder: list(traffic.exchanges(folder)), lambda folder: traffic.audits(folder, "c"), traffic.events,
        lambda folder: traffic.forget(folder, 1), lambda folder: traffic.export(folder, folder / "a.jsonl"),
    ],
)  # fmt: skip
def test_a_folder_without_traffic_is_said_to_have_none(tmp_path: Path, read: Any) -> None:
    with pytest.raises(DataError, match=r"There is no traffic in .*--store"):
        read(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_store_of_a_newer_or_older_aasut_is_not_read(tmp_path: Path) -> None:
    store(tmp_path, [])
    for version, said in ((99, "newer"), (0, "older")):
        with closing(sqlite3.connect(tmp_path / schema.FILE)) as database:
            database.execute(f"PRAGMA user_version = {version}")
        with pytest.raises(StoreError, match=said):
            list(traffic.exchanges(tmp_path))


LEFT_OUT = [
    asked(path="/v1/embeddings", request=b'{"model": "e", "input": "x"}'),
    asked(by="gateway", status=401),
    asked(request=b""),
    asked(request=b"no json"),
]


def texts(count: int) -> list[Exchange]:
    made = [
        asked(request=body(f"Mail: नमस्ते {n}\nb"), response=answer("spam"), at=1_000_000.5 + n) for n in range(count)
    ]
    made[1].decision = None
    made[2].response, made[2].status, made[2].fault = b"", 504, "upstream_timeout"
    return made


def read_lines(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        rows = pq.read_table(path).to_pylist()
        nested = ("request", "response", "decision")
        return [row | {name: row[name] and json.loads(row[name]) for name in nested} for row in rows]
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("name", ["a.jsonl", "new/A.JSONL", "a.jsonl.gz", "a.parquet"])
def test_exports_hold_chat_completions(tmp_path: Path, name: str) -> None:
    made = texts(5)
    store(tmp_path, [*made, *LEFT_OUT])
    path = tmp_path / name
    assert traffic.export(tmp_path, path) == {"exported": 5, "other_paths": 1, "refused": 1, "no_request": 2}
    first, second, third, *_ = lines = read_lines(path)
    assert first == {
        "id": made[0].id, "at": "1970-01-12T13:46:40.500Z", "key": "team", "model": "big-1",
        "request": json.loads(made[0].request), "response": json.loads(made[0].response), "by": "upstream",
        "beside": "", "status": 200, "prompt_tokens": 7, "completion_tokens": 3, "cached_tokens": 2, "usd": 0.25,
        "saved_usd": 0.5, "latency_s": 0.02, "fault": "", "decision": asdict(made[0].decision),  # type: ignore[arg-type]
    }  # fmt: skip
    assert second["decision"] is None
    assert (third["response"], third["status"], third["fault"]) == (None, 504, "upstream_timeout")
    assert [line["id"] for line in lines] == [x.id for x in made]
    assert traffic.export(tmp_path, path, since=1_000_002.5)["exported"] == 3
    assert len(read_lines(path)) == 3


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_exports_are_tables_of_the_format_chat(tmp_path: Path, name: str) -> None:
    store(tmp_path, [*texts(4), *LEFT_OUT])
    traffic.export(tmp_path, tmp_path / name)
    task = Classify(("spam", "ham"), PromptTemplate.of("Mail: {text}"))
    rows = read_table.read(tmp_path, name, None, task=task, format="chat", id="id", slots={})
    assert read_table.texts(rows) == [f"नमस्ते {n}\nb" for n in range(4)]
    assert sum(rows.failed.values()) == 0


def test_half_characters_and_numbers_that_json_lacks_make_no_broken_line(tmp_path: Path) -> None:
    store(tmp_path, [asked(request=body("half \ud800", big=float("inf")))])
    traffic.export(tmp_path, tmp_path / "a.jsonl")
    traffic.export(tmp_path, tmp_path / "a.parquet")
    (line,) = (tmp_path / "a.jsonl").read_bytes().splitlines()
    assert json.loads(line)["request"]["messages"][0]["content"] == "half \ud800"
    assert b"Infinity" not in line
    assert len(read_lines(tmp_path / "a.parquet")) == 1


def test_parquet_is_written_in_groups(tmp_path: Path) -> None:
    store(tmp_path, texts(4500))
    traffic.export(tmp_path, tmp_path / "a.parquet")
    with pq.ParquetFile(tmp_path / "a.parquet") as file:
        assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [2000, 2000, 500]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
def test_a_broken_store_leaves_the_file_that_was_there(tmp_path: Path, name: str) -> None:
    store(tmp_path, texts(1200))
    (tmp_path / name).write_text("old")
    with closing(sqlite3.connect(tmp_path / schema.FILE)) as database:
        database.execute("UPDATE exchange SET at = 1e300 WHERE n = 700")
        database.commit()
    with pytest.raises((ValueError, OverflowError)):
        traffic.export(tmp_path, tmp_path / name)
    assert (tmp_path / name).read_text() == "old"
    assert not list(tmp_path.glob("*.partial"))


def test_other_files_are_refused(tmp_path: Path) -> None:
    store(tmp_path, [])
    with pytest.raises(DataError, match=r"a\.csv.*\.jsonl, \.jsonl\.gz, \.parquet"):
        traffic.export(tmp_path, tmp_path / "a.csv")
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(StoreError, match="folder"):
        traffic.export(tmp_path, tmp_path / "folder.jsonl")
