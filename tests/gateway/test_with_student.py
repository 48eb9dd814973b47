"""The whole gateway with a certified student: who answers, what is recorded, audits, alarm, the student killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from running import Running, gateway, until

import small_run
from aasut.gateway import traffic
from aasut.teacher.server import ScriptedServer
from command_line import command

SURE = [row["text"] for row in small_run.sentences(200, seed=5)]
OPPOSITE = dict.fromkeys(small_run.WORDS["positive"], "negative") | {"": "positive"}
PRICES = ("--set", "upstream.prices={'*': {input: 1000000, output: 2000000}}")


def ask(running: Running, text: str, **more: Any) -> tuple[str, str]:
    """What was answered, and by whom."""
    with running.client() as client:
        raw = client.chat.completions.with_raw_response.create(
            model="big", messages=[{"role": "user", "content": f"Text: {text}"}], **more
        )
    return str(raw.parse().choices[0].message.content), raw.headers["x-aasut-answered-by"]


def student(root: Path, *more: str) -> tuple[str, ...]:
    return ("--student", "words", "--root", str(root), *PRICES, *more)


def child(running: Running) -> int:
    """The number of the student's process, 0 where there is none."""
    words = ["pgrep", "-P", str(running.process.pid), "-f", "gateway.worker"]
    return int(subprocess.run(words, capture_output=True, text=True).stdout.split()[:1][0] or 0)


def test_the_student_answers_what_it_may_and_all_is_accounted_for(root: Path, tmp_path: Path) -> None:
    with (
        ScriptedServer(small_run.RULES) as server,
        gateway(
            tmp_path / "traffic", "--upstream", server.url, *student(root), "--set", "student.audit_share=1"
        ) as run,
    ):
        assert ask(run, SURE[1])[1] == "student"
        assert ask(run, SURE[1], n=2)[1] == "upstream"
        with run.client() as client:
            other = client.chat.completions.with_raw_response.create(
                model="big", messages=[{"role": "user", "content": "Something else: great"}]
            )
        assert other.headers["x-aasut-answered-by"] == "upstream"
        until(lambda: any(e.beside for e in run._recorded(0, True)), "the audit is recorded")
        every = run.recorded(4, beside=True)
        first = next(e for e in every if e.by == "student")
        audit = next(e for e in every if e.beside)
        others = [e for e in every if e.by == "upstream" and not e.beside]
        assert (first.usd, first.saved_usd > 0, first.counted) == (0.0, True, True)
        assert first.decision is not None
        assert (first.decision.run, first.decision.mode, first.decision.reason) == ("words", "certified", "")
        assert (audit.beside, audit.by, audit.usd > 0, audit.key) == (first.id, "upstream", True, "")
        assert audit.decision is not None
        assert audit.decision.audit == "agreed"
        assert [e.decision.reason for e in others if e.decision] == ["cannot_honour:n", "other_prompt"]
        state = json.loads(command("gateway", "status", "--store", run.store, "--json")[1])
        assert (state["requests"], state["by"]) == (3, {"student": 1, "upstream": 2})
        assert state["share_answered_by_student"] == pytest.approx(1 / 3)
        assert [(a["audits"], a["differed"], a["monitor"]["alarm"]) for a in state["audits"]] == [(1, 0, False)]
        health = run.get("/health")
        assert (health["student"]["on"], health["student"]["answered"]) == (True, 1)


def test_a_drift_turns_the_student_off_for_good(root: Path, tmp_path: Path) -> None:
    store = tmp_path / "traffic"
    flags = (*student(root), "--set", "student.audit_share=1")
    with ScriptedServer(OPPOSITE) as server:
        with gateway(store, "--upstream", server.url, *flags) as run:
            by = []
            for text in SURE:
                by.append(ask(run, text)[1])
                if by[-1] == "upstream" and run.events("alarm"):
                    break
            assert by[0] == "student"
            assert by[-1] == "upstream"
            (alarm,) = run.events("alarm")
            assert "turned off" in alarm
            assert "words" in alarm
            until(lambda: any("The student is off" in line for line in run.said), "the log says so")
            assert run.recorded(len(by))[-1].decision.reason == "alarm"  # type: ignore[union-attr]
            run.stop()
        with gateway(store, "--upstream", server.url, *flags) as run:
            assert ask(run, SURE[0])[1] == "upstream"
            assert not run.get("/health")["student"]["on"]
        state = json.loads(command("gateway", "status", "--store", store, "--json")[1])
        assert state["audits"][0]["monitor"]["alarm"]
        assert state["alarms"]
        assert "Alarm" in command("gateway", "status", "--store", store)[1]


def test_a_killed_student_drops_no_request(root: Path, tmp_path: Path) -> None:
    with (
        ScriptedServer(small_run.RULES) as server,
        gateway(tmp_path / "traffic", "--upstream", server.url, *student(root)) as run,
    ):
        by = []
        for number, text in enumerate(SURE[:120]):
            if number in (20, 60):
                os.kill(child(run), signal.SIGKILL)
            by.append(ask(run, text)[1])
        assert {"student", "upstream"} == set(by)
        until(lambda: run.get("/health")["student"]["process"] == "up", "there is another one")
        assert ask(run, SURE[1])[1] == "student"
        assert len(run.events("student_down")) == 2
        assert all(e.status == 200 and not e.fault for e in run.recorded(121))


def test_a_new_student_is_taken_while_it_runs_and_a_worse_one_is_not(root: Path, tmp_path: Path) -> None:
    with (
        ScriptedServer(small_run.RULES) as server,
        gateway(tmp_path / "traffic", "--upstream", server.url, *student(root)) as run,
    ):
        before = child(run)
        assert command("gateway", "reload", "--store", run.store)[0] == 0
        until(lambda: run.events("reload") and child(run) not in (0, before), "the student is loaded again")
        assert ask(run, SURE[1])[1] == "student"
        certificate = root / "words" / "certificate.json"
        plain = json.loads(certificate.read_text(encoding="utf-8"))
        certificate.write_text(json.dumps(plain | {"certified": False}), encoding="utf-8")
        command("gateway", "reload", "--store", run.store)
        (why,) = until(lambda: run.events("reload_failed"), "the certificate is refused")
        assert "certifies nothing" in why
        assert ask(run, SURE[1])[1] == "student"


def test_in_shadow_the_upstream_answers_and_both_are_kept(root: Path, tmp_path: Path) -> None:
    with (
        ScriptedServer(small_run.RULES) as server,
        gateway(tmp_path / "traffic", "--upstream", server.url, *student(root, "--mode", "shadow")) as run,
    ):
        said, by = ask(run, SURE[1], stream=False)
        with run.client() as client:
            asked: Any = [{"role": "user", "content": f"Text: {SURE[0]}"}]
            list(client.chat.completions.create(model="big", messages=asked, stream=True))
        found = run.recorded(4, beside=True)
        shadows = [e for e in found if e.beside]
        assert by == "upstream"
        assert {e.by for e in shadows} == {"student"}
        assert [e.decision.audit for e in shadows if e.decision] == ["agreed", "agreed"]
        assert said in [e.decision.answer for e in shadows if e.decision]
        assert len(traffic.audits(run.store, shadows[0].decision.certificate)) == 2  # type: ignore[union-attr]
