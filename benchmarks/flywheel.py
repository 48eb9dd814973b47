"""The loop on real tweets: traffic, a student, its certificate, the cascade, then a planted drift. Last line: JSON.

The upstream is a real model in a process of its own (embedded.py), which judges whether a tweet is positive; people's
judgements come with the tweets. An application sends LEARN of them through `aasut gateway`, which records. `aasut run
--from-traffic` makes a student, with no call for what was recorded; `aasut certify` says which of its answers may go
out, by people's judgements of other tweets. The gateway then runs with the student, FRESH tweets that nothing has seen
come, and the answers that clients got are held against people's. At last the inputs drift: the application begins to
end each tweet with a cheerful line, which a student of words takes for the tweet's own. Requests are counted until
the alarm turns the student off.

What is promised is the first of TARGETS that can be: the most of the student's own answers that are wrong. All of them
share one level, LEVEL, so that the second try costs what it should. dev/LOG.md says what was looked at before they were
settled. With --small: a quarter of the tweets, and a promise that is worth little: it shows that all of it runs.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from embedded import LABELS, NAME, prompt, tweets
from openai import AsyncOpenAI

from aasut.gateway import traffic
from aasut.types import Example

LEARN, GOLD, FRESH = 1500, 1100, 632
SMALL = 4  # times fewer
TARGETS, SMALL_TARGETS, LEVEL = (0.05, 0.10), (0.3,), 0.05
AUDITS = 0.1  # of the student's answers; 2 % is what a gateway does if it is not told otherwise
SIGNED = " Love it, thanks for the great news!"
AT_ONCE, STEP = 32, 8  # requests in flight; in the drift, after which the alarm is looked for
PRICES = {NAME: {"input": 0.15, "output": 0.60}}  # dollars a million tokens
PATIENCE_S = 180  # for a process to be ready
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Answered:
    """What a client got, and who answered."""

    label: str
    by: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="Show that it runs.")
    small = parser.parse_args().small
    part = SMALL if small else 1
    rows = tweets()[1]
    learn, gold = rows[: LEARN // part], rows[LEARN : LEARN + GOLD // part]
    fresh = rows[LEARN + GOLD :][: FRESH // part]
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = turn(Path(folder), learn, gold, fresh, SMALL_TARGETS if small else TARGETS)
    print(json.dumps(found | {"seconds": round(time.perf_counter() - began, 1), "small": small}))


def turn(
    folder: Path, learn: list[Example], gold: list[Example], fresh: list[Example], targets: Sequence[float]
) -> dict[str, Any]:
    """One turn of the flywheel in an empty folder; targets: risks to promise, of which the first that can be is."""
    template = prompt()
    (folder / "prompt.txt").write_text(template, encoding="utf-8")
    with upstream(folder) as url:
        with gateway(folder, url) as (address, _):
            say(f"{len(learn)} requests are recorded")
            asyncio.run(ask(address, template, texts(learn)))
        write_recipe(folder, url, template, gold)
        ran = aasut(folder, "run", "recipe.yaml", "--from-traffic", "--json")
        confidence, tried = 1 - LEVEL / len(targets), []
        for target in targets:
            certificate = aasut(folder, "certify", "tweets", "--risk", target, "--confidence", confidence, "--json")
            say(certificate["sentence"])
            tried.append({"risk": target, "certified": certificate["certified"]})
            if certificate["certified"]:
                break
        again = aasut(folder, "run", "recipe.yaml", "--from-traffic", "--json")
        found = {
            "target": target,
            "targets_tried": tried,
            "confidence_of_each": confidence,
            "certified": certificate["certified"],
            "recorded": ran["ledger"]["calls_recorded"],
            "calls_for_recorded": ran["calls_made_now"] - ran["verdict"]["n"],  # `test` was never asked before
            "second_run_calls": again["calls_made_now"],
            "verdict": ran["verdict"]["result"],
            "accuracy_student": ran["student"]["accuracy"],
            "accuracy_teacher": ran["teacher"]["accuracy"],
            "certified_on": certificate["n"],
            "share_certified_on_test": certificate["coverage"] and certificate["coverage"]["value"],
        }
        if certificate["certified"]:
            found |= cascade(folder, url, template, fresh)
        return found


def cascade(folder: Path, url: str, template: str, fresh: Sequence[Example]) -> dict[str, Any]:
    """The gateway with the student: fresh inputs, then drifted ones until the alarm."""
    began = time.time()
    student = ["--student", "tweets", "--set", f"student.audit_share={AUDITS}"]
    with gateway(folder, url, *student) as (address, state):
        answers = asyncio.run(ask(address, template, texts(fresh)))
        before = settled(state)
    own = [(got, row) for got, row in zip(answers, fresh, strict=True) if got.by == "student"]
    wrong = sum(got.label != row.answer for got, row in own)
    errors = sum(got.label != row.answer for got, row in zip(answers, fresh, strict=True))
    seen = list(traffic.exchanges(folder / "traffic", since=began))
    paid, saved = sum(one.usd for one in seen), sum(one.saved_usd for one in seen)
    say(f"{len(own)} of {len(fresh)} fresh requests answered by the student, {wrong} of them wrong")
    with gateway(folder, url, *student) as (address, state):
        drifted, state_then = asyncio.run(drift(address, template, texts(fresh), state))
    lost = [(got, row) for got, row in zip(drifted, fresh, strict=False) if got.by == "student"]
    alarm = state_then["alarm"]
    return {
        "share_answered_by_student": round(len(own) / len(fresh), 4),
        "true_error": round(wrong / len(own), 4) if own else None,
        "n_answered": len(own),
        "n_fresh": len(fresh),
        "error_of_all_answers": round(errors / len(fresh), 4),
        "cost_share_saved": round(saved / (saved + paid), 4),
        "audit_share": AUDITS,
        "alarm_before_drift": before["alarm"],
        "audits_before_drift": before["monitor"]["audits"],
        "audited_risk": round(before["monitor"]["risk"], 4),
        "requests_until_alarm": len(drifted) if alarm else None,
        "audits_until_alarm": state_then["monitor"]["audits"] - before["monitor"]["audits"],
        "true_error_in_drift": round(sum(got.label != row.answer for got, row in lost) / max(len(lost), 1), 4),
        "answered_by_student_in_drift": len(lost),
        "drifted": len(drifted),
    }


async def drift(address: str, template: str, inputs: Sequence[str], state: Any) -> tuple[list[Answered], Any]:
    """The answers to drifted inputs up to the alarm, and the student's state then."""
    found: list[Answered] = []
    for start in range(0, len(inputs), STEP):
        found += await ask(address, template, [text + SIGNED for text in inputs[start : start + STEP]])
        if settled(state)["alarm"]:
            break
    return found, state()


def settled(state: Any) -> Any:
    """The student's state once audits under way are in: what is counted does not change for a moment."""
    found = state()
    while True:
        time.sleep(0.3)
        before, found = found, state()
        if before["audits"] == found["audits"]:
            return found


async def ask(address: str, template: str, inputs: Sequence[str]) -> list[Answered]:
    """The answers to all inputs, AT_ONCE at a time, by the official client."""
    gate = asyncio.Semaphore(AT_ONCE)
    async with AsyncOpenAI(base_url=address, api_key="none", max_retries=0, timeout=600) as client:

        async def one(text: str) -> Answered:
            content = template.replace("{{", "{").replace("}}", "}").replace("{text}", text)
            async with gate:
                raw = await client.chat.completions.with_raw_response.create(
                    model=NAME, messages=[{"role": "user", "content": content}], temperature=0
                )
            return Answered(raw.parse().choices[0].message.content or "", raw.headers["x-aasut-answered-by"])

        return await asyncio.gather(*map(one, inputs))


def texts(rows: Sequence[Example]) -> list[str]:
    return [row.slots["text"] for row in rows]


def write_recipe(folder: Path, url: str, template: str, gold: Sequence[Example]) -> None:
    """A recipe with people's judgements alone; its inputs are the traffic."""
    with (folder / "people.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "sentiment"])
        writer.writerows([row.id, row.slots["text"], row.answer] for row in gold)
    gold_table = {"source": "people.csv", "slots": {"text": "text"}, "id": "id", "role": "gold"}
    plain = {
        "name": "tweets",
        "task": {"kind": "classify", "labels": list(LABELS), "prompt": template},
        "data": {
            "tables": [gold_table | {"label": {"column": "sentiment"}}],
            "split": {"tune": 100, "calibrate": 500, "test": 500},
            "overlap": "drop",
        },
        "teacher": {"endpoint": {"base_url": url, "model": NAME, "api_key_env": ""}},
        "student": {"initialise": "linear"},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")


def aasut(folder: Path, *words: object) -> Any:
    """What a command prints as JSON."""
    say("aasut " + " ".join(map(str, words)))
    command = [sys.executable, "-m", "aasut", *map(str, words)]
    return json.loads(subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE).stdout)


@contextmanager
def upstream(folder: Path) -> Iterator[str]:
    """The embedded model's address."""
    port = free_port()
    command = [sys.executable, str(HERE / "embedded.py"), str(folder / "prompt.txt"), str(port)]
    with running(command, f"http://127.0.0.1:{port}/health"):
        yield f"http://127.0.0.1:{port}/v1"


@contextmanager
def gateway(folder: Path, url: str, *more: str) -> Iterator[tuple[str, Any]]:
    """The gateway's address, and what tells the student's state."""
    port = free_port()
    settings = folder / "gateway.yaml"
    settings.write_text(yaml.safe_dump({"upstream": {"base_url": url, "prices": PRICES}}), encoding="utf-8")
    command = [sys.executable, "-m", "aasut", "gateway", "--config", str(settings), "--port", str(port), *more]
    health = f"http://127.0.0.1:{port}/health"
    with running(command, health, folder):
        yield f"http://127.0.0.1:{port}/v1", lambda: get(health)["student"]


@contextmanager
def running(command: list[str], health: str, folder: Path | None = None) -> Iterator[None]:
    """A process that answers at `health`, stopped as a user would."""
    process = subprocess.Popen(command, cwd=folder, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    patience = time.monotonic() + PATIENCE_S
    try:
        while True:
            if process.poll() is not None or time.monotonic() > patience:
                raise SystemExit(f"{' '.join(command)} is not ready; its exit code is {process.returncode}.")
            try:
                get(health)
                break
            except OSError:
                time.sleep(0.1)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as reply:
        return json.loads(reply.read())


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
