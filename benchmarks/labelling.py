"""The labelling stage against the bare engine, and labelling that is killed. The last line is one JSON object.

1. Rows a second of the stage `label`, through the ledger, as a share of what the same prompts take without it: of
   SmolLM2-135M's `score` in the same batches, and of a plain aiohttp client that makes the same calls of the scripted
   teacher's server with as many at a time. Interleaved; the median of five ratios each.
2. `aasut run` labels by that server, with planned faults, and is killed 20 times at random. Counted: calls whose answer
   stood in the ledger at a kill and that were made again, and rows that are neither labelled nor counted as failed.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
import yaml

from aasut import recipe as recipes
from aasut.data import label, split
from aasut.data.panel import Panel, draw_shots
from aasut.engine.base import Engine, load
from aasut.progress import Progress
from aasut.recipe import Recipe
from aasut.sources import models
from aasut.store import digest
from aasut.tasks import answer_text
from aasut.teacher.base import Keep
from aasut.teacher.faults import Fault, Plan
from aasut.teacher.ledger import Ledger
from aasut.teacher.local import LocalTeacher, plain_text
from aasut.teacher.openai import OpenAiTeacher
from aasut.teacher.server import ScriptedServer
from aasut.types import Completion, Example, Message, Request

REVIEWS = Path(__file__).parents[1] / "examples" / "reviews" / "recipe.yaml"
RULES = dict.fromkeys(("good", "great", "love", "nice", "excellent", "easy", "perfect"), "positive") | {"": "negative"}
ROWS, REMOTE_ROWS, ROUNDS, KILLS = 192, 960, 5, 20
CONCURRENCY = 16
LATENCY_S = 0.1
QUIET = Progress(quiet=True)
FAULTS = (
    Fault(fault=429, share=0.03, retry_after_s=0.1),
    Fault(fault=429, share=0.02),
    Fault(fault=500, share=0.03),
    Fault(fault=503, share=0.02),
    Fault(fault="half", share=0.02),
    Fault(fault="half_chunked", share=0.01),
    Fault(fault="hang_up", share=0.02),
    Fault(fault="stall", share=0.01, seconds=3),
    Fault(fault="freeze", share=0.01, seconds=3),
    Fault(fault="drip", share=0.02, seconds=0.3),
    Fault(fault="slow", share=0.02, seconds=0.3),
    Fault(fault="garbage", share=0.004),
    Fault(fault="no_usage", share=0.02),
)


def recipe(teacher: dict[str, Any]) -> dict[str, Any]:
    """The reviews recipe with another teacher and a student that trains in no time, as plain data."""
    plain = yaml.safe_load(REVIEWS.read_text(encoding="utf-8"))
    student = {"initialise": "linear"}
    return {"name": "labelling", "task": plain["task"], "data": plain["data"], "teacher": teacher, "student": student}


class Recorder(LocalTeacher):
    """A local teacher that notes the batches it is asked."""

    def __init__(self, engine: Engine, revision: str) -> None:
        super().__init__(engine, revision)
        self.batches: list[list[Request]] = []

    def complete(self, requests: Sequence[Request], keep: Keep | None = None) -> list[Completion]:
        self.batches.append(list(requests))
        return super().complete(requests, keep)


Cost = tuple[float, float]  # seconds on the clock, and of this process's processor time


def cost(work: Callable[[], object]) -> Cost:
    started, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - started, time.process_time() - used


def stage(wanted: Recipe, panel: Panel, pool: list[Example], teacher: Any) -> Cost:
    """The stage `label` with an empty ledger."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(teacher, Path(folder) / "ledger.db")
        taken = cost(lambda: label.build(wanted, panel, pool, [], ledger, Path(folder), QUIET))
        ledger._database.close()
    return taken


def ratios(name: str, staged: Callable[[], Cost], bare: Callable[[], Cost], rows: int) -> dict[str, float]:
    """Both once to warm up, then by turns. `share_cpu` compares processor time, which a busy machine blurs less."""
    staged(), bare()
    pairs = [(bare(), staged()) if turn % 2 else (staged(), bare())[::-1] for turn in range(ROUNDS)]
    found = {
        "bare_rows_per_s": round(rows / median(one[0] for one, _ in pairs), 1),
        "stage_rows_per_s": round(rows / median(two[0] for _, two in pairs), 1),
        "share": round(median(one[0] / two[0] for one, two in pairs), 4),
        "share_cpu": round(median(one[1] / two[1] for one, two in pairs), 4),
    }
    print(json.dumps({name: found}), flush=True)
    return found


def local(pool: list[Example], tune: list[Example]) -> dict[str, float]:
    """The stage against the engine's `score` on the same prompts in the same batches."""
    plain = recipe({"model": yaml.safe_load(REVIEWS.read_text("utf-8"))["student"]["model"]})
    plain["teacher"]["prompt"] = "Review: {text}\nSentiment:"
    wanted = recipes.parse(plain, "labelling")
    assert wanted.teacher.model is not None
    model = models.fetch(wanted.teacher.model, base=Path(), progress=QUIET)
    engine = load("auto", model.path, precision="auto")
    panel = Panel.plain([draw_shots(tune, wanted.task.build().answers, 6, 0)], 2)
    recorder = Recorder(engine, model.sha256)
    stage(wanted, panel, pool, recorder)
    calls = []
    for batch in recorder.batches:
        texts = [plain_text(request.messages) for request in batch]
        answers = [answer_text("".join(texts[0]), choice) for choice in batch[0].choices]
        calls.append((texts[0][0], [before + question for before, question in texts], answers))

    def bare() -> None:
        for prefix, prompts, answers in calls:
            engine.score(prompts, answers, prefix=prefix)

    teacher = LocalTeacher(engine, model.sha256)
    found = ratios("local", lambda: stage(wanted, panel, pool, teacher), lambda: cost(bare), len(pool))
    engine.close()
    return found


def remote(pool: list[Example]) -> dict[str, float]:
    """The stage against a plain client with as many calls at a time; the server runs in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        rules, plan = Path(folder) / "rules.json", Path(folder) / "plan.json"
        rules.write_text(json.dumps(RULES))
        plan.write_text(json.dumps({"latency_s": LATENCY_S}))
        command = [sys.executable, "-m", "aasut", "teacher", str(rules), "--faults", str(plan), "--port", "0"]
        server = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        try:
            assert server.stderr is not None
            url = next(word for word in server.stderr.readline().split() if word.startswith("http"))
            endpoint = {"base_url": url, "model": "m", "api_key_env": "", "concurrency": CONCURRENCY}
            wanted = recipes.parse(recipe({"endpoint": endpoint}), "labelling")
            assert wanted.teacher.endpoint is not None
            teacher = OpenAiTeacher(wanted.teacher.endpoint)
            panel, task = Panel.plain([()], 2), wanted.task.build()
            bodies = [teacher.body(panel.requests(task.prompt, task, example.slots)[0]) for example in pool]
            taken = ratios(
                "http",
                lambda: stage(wanted, panel, pool, teacher),
                lambda: cost(lambda: asyncio.run(_client(url, bodies))),
                len(pool),
            )
            teacher.close()
            return taken
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(30)


async def _client(url: str, bodies: list[dict[str, Any]]) -> None:
    waiting = iter(bodies)
    async with aiohttp.ClientSession() as session:

        async def work() -> None:
            for body in waiting:
                async with session.post(url + "/chat/completions", json=body) as response:
                    (await response.json())["choices"][0]["message"]["content"]

        await asyncio.gather(*(work() for _ in range(CONCURRENCY)))


def kills() -> dict[str, Any]:
    """`aasut run`, killed at random moments of labelling, then left to end."""
    draw = random.Random(7)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder, ScriptedServer(RULES, Plan(latency_s=0.02, faults=FAULTS)) as server:
        endpoint = {"base_url": server.url, "model": "m", "api_key_env": "", "concurrency": CONCURRENCY}
        endpoint |= {"first_byte_timeout_s": 1, "stall_timeout_s": 1, "usd_per_million_input_tokens": 1.0}
        plain = recipe({"endpoint": endpoint, "max_usd": 1000})
        path, root = Path(folder) / "recipe.yaml", Path(folder) / "runs"
        path.write_text(yaml.safe_dump(plain, sort_keys=False))
        wanted = recipes.parse(plain, "labelling").teacher.endpoint
        assert wanted is not None
        body = OpenAiTeacher(wanted).body
        command = [sys.executable, "-m", "aasut", "run", str(path), "--root", str(root), "--json", "--quiet"]
        committed: dict[str, int] = {}  # call to how often it had been asked when it was first seen in the ledger
        landed = 0
        for _ in range(KILLS):
            process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            target = server.requests + draw.randint(1, 60)
            while server.requests < target and process.poll() is None:
                time.sleep(0.001)
            time.sleep(draw.uniform(0, 0.05))
            process.kill()
            process.communicate()
            landed += process.returncode == -signal.SIGKILL
            time.sleep(0.2)  # what was sent before the kill is counted by the server
            for key in _ledger(root, body):
                committed.setdefault(key, server.asked[key])
        finished = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
        report = json.loads(finished.stdout)
        kept = _ledger(root, body)
        rows = report["conservation"]["label"]
        labels = next((root / ".store" / "artefacts").glob("*/labels.jsonl")).read_text().splitlines()
        lost = rows["in"] - len(labels) - sum(rows["failed"].values()) + len(set(committed) - set(kept))
        return {
            "calls_repeated": sum(server.asked[key] - times for key, times in committed.items()),
            "rows_lost": lost,
            "kills": landed,
            "committed_at_kills": len(committed),
            "answered_to_the_dead": server.stats()["answered_again"],  # calls in flight at the kills
            "rows": rows,
            "server": server.stats(),
        }


def _ledger(root: Path, body: Callable[[Request], dict[str, Any]]) -> list[str]:
    """What stands in the ledger, as the server names calls."""
    path = root / ".store" / "ledger.db"
    if not path.exists():
        return []
    with closing(sqlite3.connect(path)) as database:
        plain = [json.loads(row[0]) for row in database.execute("SELECT request FROM call")]
    found = []
    for one in plain:
        messages = tuple(Message(role, content) for role, content in one.pop("messages"))
        found.append(digest(body(Request(messages, **one | {"choices": tuple(one["choices"])}))))
    return found


def main() -> None:
    wanted = recipes.parse(recipe({"scripted": RULES}), "labelling")
    with tempfile.TemporaryDirectory() as folder:
        split.build(wanted, REVIEWS.parent, Path(folder), QUIET)
        pool, tune = split.load(Path(folder), "pool"), split.load(Path(folder), "tune")
    killed = kills()
    print(json.dumps({"kills": killed}), flush=True)
    over_http = remote(pool[:REMOTE_ROWS])
    engine = local(pool[:ROWS], tune)
    print(
        json.dumps(
            {
                # Over HTTP the processor is no limit; the engine is one, on the clock and in processor time.
                "share_of_engine": min(engine["share"], engine["share_cpu"], over_http["share"]),
                "calls_repeated": killed["calls_repeated"],
                "rows_lost": killed["rows_lost"],
                "kills": killed["kills"],
                "local": engine,
                "http": over_http,
            }
        )
    )


if __name__ == "__main__":
    main()
