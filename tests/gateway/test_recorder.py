"""The recorder: what is put is on the disk a moment later, whatever ends the process; requests never wait for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

import gateway_traffic
from aasut.errors import StoreError
from aasut.gateway import schema, traffic
from aasut.gateway.exchange import Exchange
from aasut.gateway.recorder import Recorder
from aasut.gateway.settings import Record
from gateway_traffic import answer, asked, body, stream


@contextmanager
def recording(
    folder: Path, *, secrets: tuple[str, ...] = (), record: Record | None = None, **more: Any
) -> Iterator[Recorder]:
    recorder = Recorder(folder, record or Record(), secrets, **more)
    try:
        yield recorder
    finally:
        recorder.close()


def until(true: Callable[[], object]) -> None:
    """Wait for a condition."""
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def kept(folder: Path) -> list[Exchange]:
    return list(traffic.exchanges(folder))


def test_what_is_put_is_read_back_as_it_was(tmp_path: Path) -> None:
    put = [asked(), asked(decision=None, fault="client_gone", key=""), asked(by="student", beside="req_1")]
    with recording(tmp_path / "new" / "traffic") as recorder:
        for exchange in put:
            recorder.put(exchange)
    assert kept(tmp_path / "new" / "traffic") == put
    assert (recorder.written, recorder.lost, recorder.waiting, recorder.failing) == (3, 0, 0, "")


def test_it_is_written_without_closing_and_told_of_afterwards(tmp_path: Path) -> None:
    told: list[tuple[str, int, str]] = []
    with recording(tmp_path) as recorder:
        here = threading.current_thread().name
        recorder.put(asked(), lambda why: told.append((why, len(kept(tmp_path)), threading.current_thread().name)))
        until(lambda: told)
        assert told == [("", 1, "recorder")]
        assert here != "recorder"
        recorder.put(asked())
        until(lambda: len(kept(tmp_path)) == 2)


def test_what_a_caller_raises_does_not_end_it(tmp_path: Path) -> None:
    def raises(why: str) -> None:
        raise RuntimeError(why)

    with recording(tmp_path) as recorder:
        recorder.put(asked(), raises)
        until(lambda: recorder.written == 1)
        recorder.put(asked())
    assert len(kept(tmp_path)) == 2


def test_a_second_recorder_goes_on_in_the_same_store(tmp_path: Path) -> None:
    for _ in range(2):
        with recording(tmp_path) as recorder:
            recorder.put(asked())
    assert len(kept(tmp_path)) == 2


def test_secrets_reach_neither_the_database_nor_its_log(tmp_path: Path) -> None:
    secret, key, declared = 'our pass"phrase', "sk-live0123456789abcdef", "C-12345"
    exchange = asked(
        request=body(f"{secret} {key} {declared}"), response=answer(f"{secret} {key} {declared}"), model=key,
        path=f"/v1/chat/completions?key={key}", fault=f"upstream said {key}",
    )  # fmt: skip
    assert exchange.decision
    exchange.decision.answer = f"{secret} {key} {declared}"
    with recording(tmp_path, secrets=(secret,), record=Record(redact=[r"C-\d+"])) as recorder:
        recorder.put(exchange)
        recorder.event("note", f"{key} {declared}")
        until(lambda: len(kept(tmp_path)) == 1)
        raw = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        for hidden in ("pass", "sk-live", "C-12345"):
            assert hidden.encode() not in raw
        assert b"[redacted]" in raw
    (found,) = kept(tmp_path)
    assert json.loads(found.request)["messages"][0]["content"] == "[redacted] [redacted] [redacted]"
    assert found.decision
    assert found.decision.answer == "[redacted] [redacted] [redacted]"
    assert key in exchange.model  # the caller's stays


def test_streams_are_kept_in_one_piece_and_blotted_across_chunks(tmp_path: Path) -> None:
    put = [
        asked(streamed=True, response=stream("the key is sk-live01", "23456789", "abcdef!")),
        asked(streamed=True, response=stream("cut sho", "rt", done=False), fault="upstream_cut"),
        asked(streamed=True, response=b'{"error": {"message": "no such model"}}', status=404),
        asked(streamed=True, response=b"data: garbage sk-live0123456789abcdef\n\n", fault="upstream_garbage"),
    ]
    with recording(tmp_path) as recorder:
        for exchange in put:
            recorder.put(exchange)
    whole, cut, error, garbage = (exchange.response for exchange in kept(tmp_path))
    assert json.loads(whole)["choices"][0]["message"]["content"] == "the key is [redacted]!"
    assert json.loads(whole)["object"] == "chat.completion"
    assert json.loads(cut)["choices"][0]["message"]["content"] == "cut short"
    assert json.loads(error)["error"]["message"] == "no such model"
    assert garbage == b""


def test_without_bodies_nothing_of_them_is_written(tmp_path: Path) -> None:
    with recording(tmp_path, record=Record(bodies=False)) as recorder:
        recorder.put(asked(request=body("zebra"), response=answer("zebra")))
    (found,) = kept(tmp_path)
    assert (found.request, found.response, found.usd) == (b"", b"", 0.25)
    assert found.decision
    assert found.decision.answer == ""
    assert not any(b"zebra" in file.read_bytes() for file in tmp_path.iterdir())


def test_what_fits_no_column_is_lost_alone(tmp_path: Path) -> None:
    told: list[str] = []
    with recording(tmp_path) as recorder:
        with recorder._keeper.writing:  # so that all go into one commit, after the first
            recorder.put(asked())
            until(lambda: not recorder._queue)
            recorder.put(asked(prompt_tokens=1 << 70), told.append)
            recorder.put(asked(key="\ud800"), told.append)
            recorder.put(asked(model="half \ud800"), told.append)
        until(lambda: len(told) == 3)
        assert (recorder.written, recorder.lost, recorder.failing) == (2, 2, "")
    assert ["cannot be written" in why for why in told] == [True, True, False]
    assert [exchange.model for exchange in kept(tmp_path)] == ["big-1", "half ?"]


def test_what_does_not_fit_is_counted_and_raises_the_alarm(tmp_path: Path) -> None:
    told: list[str] = []
    with recording(tmp_path, most_waiting=3) as recorder:
        with recorder._keeper.writing:
            for _ in range(3):
                recorder.put(asked())
            recorder.put(asked(), told.append)
            assert (recorder.lost, recorder.waiting) == (1, 3)
            assert recorder.failing == told[0] == "more comes than can be written"
        until(lambda: not recorder.failing)
        recorder.put(asked())
    assert len(kept(tmp_path)) == 4
    assert [(event.kind, event.text) for event in traffic.events(tmp_path)] == [
        ("recording_failed", "more comes than can be written"),
        ("recording_again", "1 exchanges were lost meanwhile."),
    ]


def test_waiting_is_bounded_by_bytes_too(tmp_path: Path) -> None:
    with recording(tmp_path, most_bytes=50_000) as recorder, recorder._keeper.writing:
        recorder.put(asked(response=b"x" * 100_000))  # alone it may
        recorder.put(asked())
        assert (recorder.waiting, recorder.lost) == (1, 1)
    assert len(kept(tmp_path)) == 1


FULL_DISK = """
import json, resource, sys, time
from pathlib import Path
from aasut.gateway import traffic
from aasut.gateway.recorder import Recorder
from aasut.gateway.settings import Record
from gateway_traffic import asked

folder, told, put = Path(sys.argv[1]), [], 0
recorder = Recorder(folder, Record(), most_waiting=300)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
def until(true):
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)
def more(count, kept=None):
    global put
    for _ in range(count):
        recorder.put(asked(), kept)
        put += 1
more(5)
until(lambda: recorder.written == 5)
# Room for what recording.json holds already, and for no page of the database.
resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
more(1, told.append)
until(lambda: recorder.failing)
until(lambda: told)
more(400)
full = {"failing": recorder.failing, "waiting": recorder.waiting, "lost": recorder.lost, "written": recorder.written,
    "put": put, "told": told}
def said():
    return json.loads((folder / "recording.json").read_text())
until(lambda: said()["failing"])
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
until(lambda: not recorder.failing and not recorder.waiting)
more(1)
recorder.close()
print(json.dumps({"full": full, "written": recorder.written, "lost": recorder.lost, "put": put,
    "stored": len(list(traffic.exchanges(folder))), "events": [e.kind for e in traffic.events(folder)]}))
"""


def run(code: str, *args: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, env=environment(), timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


def test_a_full_disk_is_told_of_and_what_waits_is_written_later(tmp_path: Path) -> None:
    found = run(FULL_DISK, str(tmp_path))
    full = found["full"]
    assert "traffic.db" in full["failing"]
    assert len(full["told"]) == 1
    assert "traffic.db" in full["told"][0]
    assert (full["written"], full["waiting"], full["lost"], full["put"]) == (5, 300, 101, 406)
    assert (found["put"], found["lost"]) == (407, 101)
    assert found["stored"] == found["written"] == 5 + 300 + 1
    assert found["events"] == ["recording_failed", "recording_again"]


def test_a_store_that_was_deleted_is_begun_anew(tmp_path: Path) -> None:
    folder = tmp_path / "traffic"
    with recording(folder) as recorder:
        recorder.put(asked())
        until(lambda: recorder.written == 1)
        moved = folder.rename(tmp_path / "moved")
        second = asked()
        recorder.put(second)
        until(lambda: recorder.failing)
        assert "was deleted or moved" in recorder.failing
        folder.mkdir()
        until(lambda: recorder.written == 2)
    assert kept(folder) == [second]
    assert len(kept(moved)) == 1


def test_a_deleted_file_is_seen_at_once(tmp_path: Path) -> None:
    with recording(tmp_path) as recorder:
        recorder.put(asked())
        until(lambda: recorder.written == 1)
        for path in tmp_path.glob("traffic.db*"):
            path.unlink()
        second = asked()
        recorder.put(second)
        until(lambda: recorder.written == 2)
    assert kept(tmp_path) == [second]


def test_a_store_that_another_process_keeps_locked_makes_it_wait(tmp_path: Path) -> None:
    with recording(tmp_path) as recorder:
        with closing(schema.open_to_write(tmp_path)) as other:
            other.execute("BEGIN IMMEDIATE")
            recorder.put(asked())
            until(lambda: recorder.failing)
            assert "locked" in recorder.failing
            other.execute("ROLLBACK")
        until(lambda: recorder.written == 1)


def test_what_cannot_be_written_before_the_end_is_lost(tmp_path: Path) -> None:
    folder, told = tmp_path / "traffic", list[str]()
    with recording(folder) as recorder:
        folder.rename(tmp_path / "moved")
        with recorder._keeper.writing:
            recorder.put(asked(), told.append)
            recorder.put(asked())
    assert (recorder.lost, recorder.waiting, len(told)) == (2, 0, 1)
    recorder.put(asked(), told.append)
    assert told[1:] == ["the recorder is closed"]
    assert recorder.lost == 3


def test_a_store_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        Recorder(tmp_path / "file", Record())
    (tmp_path / "traffic.db").write_text("this is no database, but text that is long enough to look like a file")
    with pytest.raises(StoreError, match="cannot be opened"):
        Recorder(tmp_path, Record())


def test_promises_and_events_are_written(tmp_path: Path) -> None:
    with recording(tmp_path) as recorder:
        recorder.promise("c1", "mail", 0.05, 0.95)
        recorder.promise("c1", "mail", 0.04, 0.95)
        recorder.event("start", "half \ud800")
    with closing(schema.open_to_read(tmp_path)) as database:
        assert database.execute("SELECT certificate, run, risk, confidence FROM promise").fetchall() == [
            ("c1", "mail", 0.04, 0.95)
        ]
    assert [(event.kind, event.text) for event in traffic.events(tmp_path)] == [("start", "half ?")]


def kill_once(folder: Path, lines: int) -> tuple[int, list[str]]:
    """Kill a process that puts exchanges once it acknowledged so many: how many count, and which are missing."""
    process = subprocess.Popen(
        [sys.executable, gateway_traffic.__file__, str(folder)], stdout=subprocess.PIPE, text=True, env=environment()
    )
    acknowledged: list[tuple[str, float]] = []
    assert process.stdout is not None
    for line in process.stdout:
        name, at = line.split()
        acknowledged.append((name, float(at)))
        if len(acknowledged) == lines:
            break
    killed = time.monotonic()
    process.kill()
    for line in process.stdout:
        name, _, at = line.strip().partition(" ")
        if at.count(".") == 1 and len(name) == len(acknowledged[0][0]):
            acknowledged.append((name, float(at)))
    process.wait()
    counted = sum(at < killed - gateway_traffic.GRACE_S for _, at in acknowledged)
    return counted, gateway_traffic.missing(folder, acknowledged, killed)


def test_a_kill_takes_the_last_moment_alone(tmp_path: Path) -> None:
    def rounds(worker: int) -> list[tuple[int, list[str]]]:
        return [kill_once(tmp_path / str(worker), 300 + 97 * n + 23 * worker) for n in range(10)]

    with ThreadPoolExecutor(2) as pool:
        kills = [kill for found in pool.map(rounds, range(2)) for kill in found]
    assert len(kills) == 20
    assert sum(counted for counted, _ in kills) > 1000
    assert [lost for _, lost in kills] == [[]] * 20
