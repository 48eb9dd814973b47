"""Upkeep: bodies go when their time has come and give their space back; the log of commits does not grow for ever."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from aasut.gateway import keeper, schema, traffic
from aasut.gateway.recorder import Recorder
from aasut.gateway.settings import Record
from gateway_traffic import answer, asked, store

DAY = 86400.0


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def size(folder: Path) -> int:
    with closing(schema.open_to_write(folder)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return (folder / schema.FILE).stat().st_size


def test_old_bodies_go_and_their_space_comes_back_while_counts_stay(tmp_path: Path) -> None:
    now = time.time()
    made = [
        asked(at=now - (10 if n < 2000 else 1) * DAY, response=answer(f"zebra{n} " + "x" * 3000)) for n in range(2200)
    ]
    made[2100].at = now - 10 * DAY - 60
    store(tmp_path, made)
    before = size(tmp_path)
    assert traffic.forget(tmp_path, 5) == 2001
    assert size(tmp_path) < before / 4
    found = list(traffic.exchanges(tmp_path))
    assert [bool(x.request or x.response) for x in found[:2100]] == [False] * 2000 + [True] * 100
    assert found[0].usd == 0.25
    assert found[0].decision
    assert found[0].decision.answer == ""
    assert b"zebra7 " not in (tmp_path / schema.FILE).read_bytes()
    assert traffic.forget(tmp_path, 5) == 0
    assert sum(requests for _, _, requests in traffic.spent(tmp_path, 0.0).values()) == 2200


def test_one_that_was_written_late_goes_too(tmp_path: Path) -> None:
    now = time.time()
    made = [asked(at=now - DAY + 600 + n) for n in range(keeper.WINDOW + 50)]
    made[-1].at, made[-1].request = now - DAY - 60, b"zebra"
    store(tmp_path, made)
    assert traffic.forget(tmp_path, 1) == 1
    size(tmp_path)
    assert b"zebra" not in (tmp_path / schema.FILE).read_bytes()  # nor in what is left of a page
    assert not list(traffic.exchanges(tmp_path))[-1].request


def test_forgetting_goes_on_beside_a_writer(tmp_path: Path) -> None:
    store(tmp_path, [asked(at=0.0) for _ in range(3000)])
    recorder, stop = Recorder(tmp_path, Record()), threading.Event()
    put = []

    def write() -> None:
        while not stop.is_set():
            put.append(asked())
            recorder.put(put[-1])
            time.sleep(0.002)

    writer = threading.Thread(target=write)
    writer.start()
    assert traffic.forget(tmp_path, 1) == 3000
    stop.set()
    writer.join()
    recorder.close()
    assert (recorder.lost, recorder.failing) == (0, "")
    assert [x.id for x in traffic.exchanges(tmp_path) if x.request] == [x.id for x in put]


def test_a_recorder_forgets_by_itself(tmp_path: Path) -> None:
    store(tmp_path, [asked(at=time.time() - 3 * DAY), asked()])
    recorder = Recorder(tmp_path, Record(keep_days=2))
    until(lambda: [bool(x.request) for x in traffic.exchanges(tmp_path)] == [False, True])
    recorder.close()


def test_the_log_of_commits_begins_anew(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, Record())
    log = tmp_path / f"{schema.FILE}-wal"
    large = asked(response=answer("x" * 100_000))
    for _ in range(80):
        recorder.put(large)
    until(lambda: recorder.waiting == 0)
    written = (tmp_path / schema.FILE).stat().st_size
    until(lambda: (tmp_path / schema.FILE).stat().st_size > max(written, 4 << 20))
    grown = log.stat().st_size
    for _ in range(20):
        recorder.put(large)
        until(lambda: recorder.waiting == 0)
    assert log.stat().st_size <= grown
    recorder.close()


def test_it_says_how_the_recording_goes(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, Record())
    assert (tmp_path / keeper.STATE).stat().st_size == keeper.STATE_BYTES  # at once: later the disk may be full
    recorder.put(asked())

    def said() -> dict[str, object]:
        path = tmp_path / keeper.STATE
        return dict(json.loads(path.read_text())) if path.exists() else {}

    until(lambda: said().get("written") == 1)
    assert said()["running"] is True
    recorder.close()
    assert said() | {"at": 0, "pid": 0} == {
        "pid": 0, "at": 0, "failing": "", "written": 1, "lost": 0, "waiting": 0, "running": False,
    }  # fmt: skip
