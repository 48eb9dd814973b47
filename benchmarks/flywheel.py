"""The loop on real tweets: traffic, a student, its certificate, the cascade, then a planted drift. Last line: JSON.

The upstream is a real model in a process of its own (embedded.py), which judges whether a tweet is positive; people's
judgements come with the tweets. An application sends LEARN of them through `aasut gateway`, which records. `aasut run
--from-traffic` makes a student, with no call for what was recorded; `aasut certify` says which of its answers may go
out, by people's judgements of other tweets. The gateway then runs with the student, FRESH tweets that nothing has seen
come, and the answers that clients got are held against people's. At last the inputs drift, and requests are counted
until the alarm turns the student off: complaints come under a campaign's cheerful hashtag, which a student of words
takes for the tweet's own, and the teacher less so. Beside it, on a copy of the record, each tweet ends with a cheerful
line, by which the teacher is fooled as well: audits that ask it see nothing, and that is reported too.

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
import shutil
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
from openai import AsyncOpenAI, OpenAI

from aasut.gateway import traffic
from aasut.prompts import PromptTemplate
from aasut.types import Example

LEARN, GOLD, FRESH = 1500, 1100, 632
SMALL = 4  # times fewer
TARGETS, SMALL_TARGETS, LEVEL = (0.05, 0.10), (0.3,), 0.05
AUDITS = 0.1  # of the student's answers; 2 % is what a gateway does if it is not told otherwise
HIJACKED = "#lovemygreatphone #thanks "  # before complaints; chosen on the tweets that may be looked at
SIGNED = " Love it, thanks for the great news!"  # after any tweet
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
            found |= cascade(folder, url, template, fresh, gold)
        return found


def cascade(folder: Path, url: str, template: str, fresh: Sequence[Example], gold: Sequence[Example]) -> dict[str, Any]:
    """The gateway with the student: fresh inputs, then drifted ones until the alarm."""
    began = time.time()

    def behind() -> None:
        with OpenAI(base_url=url, api_key="none", timeout=600) as client:
            client.chat.completions.create(model=NAME, messages=[{"role": "user", "content": filled(template, "ok")}])

    student = ["--student", "tweets", "--set", f"student.audit_share={AUDITS}"]
    with gateway(folder, url, *student) as (address, state):
        answers = asyncio.run(ask(address, template, texts(fresh)))
        before = settled(state, behind)
    own = [(got, row) for got, row in zip(answers, fresh, strict=True) if got.by == "student"]
    wrong = sum(got.label != row.answer for got, row in own)
    errors = sum(got.label != row.answer for got, row in zip(answers, fresh, strict=True))
    seen = list(traffic.exchanges(folder / "traffic", since=began))
    paid, saved = sum(one.usd for one in seen), sum(one.saved_usd for one in seen)
    say(f"{len(own)} of {len(fresh)} fresh requests answered by the student, {wrong} of them wrong")
    shutil.copytree(folder / "traffic", folder / "signed")
    angry = [row for row in (*fresh, *gold) if row.answer == "negative"]  # none of them was learned from
    complaints = [(HIJACKED + row.slots["text"], str(row.answer)) for row in angry]
    with gateway(folder, url, *student) as (address, state):
        seen_by_audits = asyncio.run(drift(address, template, complaints, state, behind))
    signed = [(row.slots["text"] + SIGNED, str(row.answer)) for row in fresh]
    with gateway(folder, url, *student, "--store", "signed") as (address, state):
        unseen = asyncio.run(drift(address, template, signed, state, behind))
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
        "requests_until_alarm": seen_by_audits["requests"] if seen_by_audits["alarm"] else None,
        "drift": seen_by_audits,
        "drift_that_fools_the_teacher_too": unseen,
    }


async def drift(
    address: str, template: str, inputs: Sequence[tuple[str, str]], state: Any, behind: Any
) -> dict[str, Any]:
    """What becomes of drifted inputs, with what is right of each, up to the alarm, which is looked for every STEP."""
    found: list[Answered] = []
    began = state()["monitor"]
    for start in range(0, len(inputs), STEP):
        found += await ask(address, template, [text for text, _ in inputs[start : start + STEP]])
        if settled(state, behind)["alarm"]:
            break
    now = state()
    own = [(got, right) for got, (_, right) in zip(found, inputs, strict=False) if got.by == "student"]
    return {
        "alarm": now["alarm"],
        "requests": len(found),
        "answered_by_student": len(own),
        "true_error": round(sum(got.label != right for got, right in own) / len(own), 4) if own else None,
        "audits": now["monitor"]["audits"] - began["audits"],
        "differed": now["monitor"]["errors"] - began["errors"],
    }


def settled(state: Any, behind: Any) -> Any:
    """The student's state once audits under way are in.

    An audit is sent right after the client has its answer. The upstream works one batch after another, so that a
    question put to it now is answered after all audits that it was sent before.
    """
    time.sleep(0.3)
    behind()
    time.sleep(0.3)
    return state()


async def ask(address: str, template: str, inputs: Sequence[str]) -> list[Answered]:
    """The answers to all inputs, AT_ONCE at a time, by the official client."""
    gate = asyncio.Semaphore(AT_ONCE)
    async with AsyncOpenAI(base_url=address, api_key="none", max_retries=0, timeout=600) as client:

        async def one(text: str) -> Answered:
            async with gate:
                raw = await client.chat.completions.with_raw_response.create(
                    model=NAME, messages=[{"role": "user", "content": filled(template, text)}], temperature=0
                )
            return Answered(raw.parse().choices[0].message.content or "", raw.headers["x-aasut-answered-by"])

        return await asyncio.gather(*map(one, inputs))


def filled(template: str, text: str) -> str:
    """What the application sends for a tweet."""
    return PromptTemplate.of(template).render({"text": text})[0].content


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
        ended = process.poll()
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        if ended is not None:
            say(f"{' '.join(command)} had ended by itself with {ended}")


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
