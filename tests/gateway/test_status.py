"""What the store says of a gateway: figures, audits, alarms, and the picture of them."""

from __future__ import annotations

import io
import os
import pty
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from aasut.errors import DataError
from aasut.evaluate.monitor import Monitor
from aasut.gateway import status
from aasut.gateway.exchange import Decision
from aasut.gateway.recorder import Recorder
from aasut.gateway.settings import Record
from aasut.lock import take
from gateway_traffic import asked, store


def decided(audit: Any = "", certificate: str = "c1", **more: Any) -> Any:
    return asked(
        by="student", usd=0.0, decision=Decision("mail", certificate, "certified", 0.9, True, audit=audit), **more
    )


def shown(found: dict[str, Any]) -> str:
    out = io.StringIO()
    Console(file=out, width=120).print(status.render(found))
    return out.getvalue()


def test_figures_of_a_store(tmp_path: Path) -> None:
    made = [
        *(decided(latency_s=0.1 * n) for n in range(1, 7)),
        *(asked(key="b", saved_usd=0.0, decision=None, latency_s=1.0) for _ in range(2)),
        asked(by="gateway", status=401, usd=0.0, saved_usd=0.0, decision=None, latency_s=9.0),
        asked(beside="req_1", usd=1.0, saved_usd=0.0, decision=None, latency_s=9.0),
        asked(
            at=time.time() - 7200, decision=None, usd=0.0, saved_usd=0.0, fault="gone", status=502, latency_s=2.0
        ),
    ]  # fmt: skip
    store(tmp_path, made)
    found = status.state(tmp_path)
    assert (found["requests"], found["failed"], found["by"]) == (10, 2, {"student": 6, "upstream": 3, "gateway": 1})
    assert found["share_answered_by_student"] == pytest.approx(6 / 9)
    assert (found["usd"], found["saved_usd"], found["running"]) == (1.5, 3.0, False)
    assert found["requests_per_s"] == pytest.approx(9 / 60)
    assert (found["latency_p50_s"], found["latency_p95_s"]) == (pytest.approx(0.5), 2.0)
    assert [(row["key"], row["requests"], row["by_student"]) for row in found["keys"]] == [("team", 8, 6), ("b", 2, 0)]
    assert [(row["mode"], row["requests"]) for row in found["modes"]] == [("certified", 6)]
    text = shown(found)
    for said in (
        "Requests 10 (gateway 1, student 6, upstream 3), 2 failed",
        "66.7 %",
        "Paid $1.50, saved $3.00",
        "team",
    ):
        assert said in text


def test_an_empty_store_is_shown_too(tmp_path: Path) -> None:
    store(tmp_path, [])
    found = status.state(tmp_path)
    assert (found["requests"], found["share_answered_by_student"], found["latency_p50_s"]) == (0, None, None)
    assert "Requests 0 (none yet)" in shown(found)
    with pytest.raises(DataError, match="There is no traffic"):
        status.state(tmp_path / "other")


def test_audits_are_judged_by_what_was_promised_and_read_on(tmp_path: Path) -> None:
    store(tmp_path, [decided("agreed"), decided("differed"), decided("failed"), decided("agreed", "old")])
    with closing(status.Look(tmp_path)) as look:
        first = look.state()["audits"]
        assert [(a["certificate"], a["audits"], a["differed"], a["monitor"]) for a in first] == [
            ("c1", 2, 1, None), ("old", 1, 0, None),
        ]  # fmt: skip
        store(tmp_path, [], promises={"old": ("mail", 0.1, 0.9, 1.0), "c1": ("mail", 0.05, 0.95, 2.0)})
        latest, older = look.state()["audits"]
        assert (latest["certificate"], older["certificate"], latest["run"]) == ("c1", "old", "mail")
        store(tmp_path, [decided("differed")] * 5)
        monitor = Monitor.begin(0.05, 0.95, "differed").saw([False, True] + [True] * 5)
        found = look.state()
        assert found["audits"][0]["monitor"] == monitor.as_dict()
        assert monitor.alarm
        assert found["alarms"] == [monitor.sentence()]
        assert status.state(tmp_path)["audits"] == found["audits"]
    assert "! Alarm: 6 of 7 audited answers" in " ".join(shown(found).split())


def test_an_alarm_of_a_certificate_that_was_replaced_is_over(tmp_path: Path) -> None:
    store(
        tmp_path, [decided("differed")] * 9, promises={"c1": ("mail", 0.05, 0.95, 1.0)}, events=[(1.0, "alarm", "off")]
    )
    assert status.state(tmp_path)["alarms"] != []
    store(tmp_path, [], promises={"c2": ("mail", 0.05, 0.95, 2.0)})
    assert status.state(tmp_path)["alarms"] == []


@pytest.mark.parametrize(
    ("kinds", "alarms"),
    [
        (["start", "student_down"], ["student down: 1"]),
        (["student_down", "student_up"], []),
        (["student_down", "student_up", "student_down"], ["student down: 2"]),
        (["recording_failed"], ["recording failed: 0"]),
        (["recording_failed", "recording_again"], []),
        (["reload_failed"], ["reload failed: 0"]),
        (["reload_failed", "reload"], []),
        (["alarm", "start"], ["alarm: 0"]),
        (["start", "stop", "keys"], []),
    ],
)
def test_events_that_need_someone_stand_until_they_are_over(
    tmp_path: Path, kinds: list[str], alarms: list[str]
) -> None:
    store(tmp_path, [], events=[(float(n), kind, str(n)) for n, kind in enumerate(kinds)])
    found = status.state(tmp_path)
    assert found["alarms"] == alarms
    assert [event["kind"] for event in found["events"]] == kinds


def test_a_gateway_that_runs_is_seen_and_how_it_records(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, Record(), most_waiting=1)
    lock = take(tmp_path / status.LOCK)
    assert lock is not None
    with lock:
        with recorder._keeper.writing:
            for _ in range(3):
                recorder.put(asked())
            end = time.monotonic() + 30
            while not (found := status.state(tmp_path))["alarms"] and time.monotonic() < end:
                time.sleep(0.05)
        assert (found["running"], found["process"]) == (True, f"process {os.getpid()}")
        assert found["recording"]["failing"] == "more comes than can be written"
        assert found["alarms"] == [
            "Recording fails: more comes than can be written",
            "2 exchanges were not recorded since the gateway was started.",
        ]  # fmt: skip
        assert "Recording: failing" in shown(found)
    recorder.close()
    assert not status.state(tmp_path)["running"]


def test_names_cannot_steer_the_terminal(tmp_path: Path) -> None:
    store(tmp_path, [asked(model="\x1b[2J[bold]big[/bold]", key="[red]")], events=[(1.0, "start", "\x1b]0;title\x07")])
    text = shown(status.state(tmp_path))
    assert "\x1b" not in text
    assert "[bold]big[/bold]" in text
    assert "[red]" in text


def test_many_models_are_shown_in_short(tmp_path: Path) -> None:
    store(tmp_path, [asked(model=f"model-{n:02}") for n in range(20)])
    text = shown(status.state(tmp_path))
    assert "model-11" in text
    assert "model-12" not in text
    assert "and 8 more" in text


def test_it_is_shown_live_until_interrupted(tmp_path: Path) -> None:
    store(tmp_path, [asked()])
    code = (
        "import sys, pathlib; from aasut.gateway import status as s; s.watch(pathlib.Path(sys.argv[1]), every_s=0.05)"
    )
    ours, theirs = pty.openpty()
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "TERM": "xterm",
        "COLUMNS": "120",
        "LINES": "40",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    seen = b""
    while b"Requests 1 (" not in seen:
        seen += os.read(ours, 4096)
    store(tmp_path, [asked()])
    while b"Requests 2 (" not in seen:
        seen += os.read(ours, 4096)
    process.send_signal(signal.SIGINT)
    while process.poll() is None:
        try:
            os.read(ours, 4096)
        except OSError:
            break
    assert process.wait(30) == 0
    os.close(ours)
