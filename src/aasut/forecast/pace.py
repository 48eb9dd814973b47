"""Seconds that a unit of work takes on this machine, and how each of them is known.

Taken from earlier runs in the same folder, else measured by a short probe with the real models where
they are here; what the probe leaves out follows from what it measured, by ratios that were measured
once. Without a probe: from numbers of parameters and a test of how fast this machine multiplies matrices.
"""

from __future__ import annotations

import random
import sqlite3
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from aasut.data import split
from aasut.forecast import history, probe
from aasut.forecast.rehearse import Rehearsal
from aasut.forecast.work import Work
from aasut.progress import Progress
from aasut.store import Artefact
from aasut.student import train
from aasut.types import Request

# Of the time that writing a model's GGUF takes; SmolLM2-135M on 2 cores: 2.6 s to write, and in those terms
EXPORT = 3.4  # writing it, reading it back, comparing weights, two engines in float32
SERVED_LOAD = 3.7  # OpenVINO's graph from it, compiled
COPY = 0.4  # a copy of the weights, hashed
FLOAT32 = 1.5  # a token's seconds in float32 over bfloat16
LINEAR_FIT_S, LINEAR_CHARACTER_S, LINEAR_SCORE_S = 0.6, 2.5e-5, 1.5e-6  # scikit-learn's two times eleven fits
REPORT_S = 2.0
EARLIER = "earlier runs of the same model in this folder"
START_S = 1.2  # a Python process that reads a recipe and opens a store
LATENCY_S = 1.0  # of a call to an endpoint that was never asked
CALL_S = 0.0015  # this side's work for a call
DOWNLOAD_BYTES_S = 10e6
IMPORT_S = 4.0  # of PyTorch and transformers
PROJECTED = 1.5  # a token's seconds with its logits over those without, in a small model
DECODE = 4.0  # a written token's seconds over a read one's, many rows at once
FLOPS_TOKEN = 2  # floating-point operations a parameter and token; training takes three times that
EFFICIENCY = 0.5  # of a plain matrix product's speed, in a whole model


@dataclass
class Pace:
    """`seconds` by unit; `how` says, by kind of work, where they come from."""

    seconds: dict[str, float] = field(default_factory=dict)
    how: dict[str, str] = field(default_factory=dict)
    teacher: dict[str, float] = field(default_factory=dict)  # what the probes found
    student: dict[str, float] = field(default_factory=dict)
    probe_s: float = 0.0

    def of(self, units: Mapping[str, float]) -> float:
        """Seconds of some work."""
        return sum(self.seconds.get(unit, 0.0) * count for unit, count in units.items())


def find(
    rehearsal: Rehearsal, done: dict[str, Artefact], work: Work, *, probing: bool, latency_s: float | None,
    progress: Progress,
) -> Pace:  # fmt: skip
    """The pace of all units of `work`. Raises what a probe raises."""
    pace = Pace({"rehearsal": 1.0, "start": START_S, "report": REPORT_S, "linear.fit": LINEAR_FIT_S})
    pace.seconds |= {"linear.characters": LINEAR_CHARACTER_S, "linear.scored": LINEAR_SCORE_S}
    began = time.perf_counter()
    if work.total("teacher.load"):
        _teacher(rehearsal, work, pace, probing, progress)
    if work.total("endpoint.calls"):
        _endpoint(rehearsal, pace, latency_s)
    if work.judges or work.others:
        _judges(work, pace, latency_s)
    if any(work.total(unit) for unit in ("train.positions", "student.load", "export.student", "copy.source_gb")):
        _student(rehearsal, done, work, pace, probing, progress)
    pace.probe_s = time.perf_counter() - began
    return pace


def _teacher(rehearsal: Rehearsal, work: Work, pace: Pace, probing: bool, progress: Progress) -> None:
    wanted = rehearsal.recipe.teacher
    folder = rehearsal.folder_of(wanted.model)
    batches = [batch for name in ("label", "choose", "evaluate") if name in work.asked
               for batch in work.asked[name].batches]  # fmt: skip
    before, texts = history.teacher(rehearsal.store, rehearsal.recipe), not rehearsal.recipe.task.build().answers
    if before:
        found = _guess(folder, 270e6) | before
        found |= {"written": before["request"], "answer_tokens": 0.0} if texts else {}
        how = EARLIER
    elif not (probing and folder is not None and batches):
        found = _guess(folder, 270e6)
        found["whole"] = found["tokens"]
        if texts:
            found["written"] = found["tokens"] * DECODE * rehearsal.recipe.task.build().max_tokens / 2
        how = "guess from the number of parameters and a matrix product's speed"
    else:
        progress.say("trying the teacher on some of the run's prompts")
        job = {"kind": "teacher", "path": str(folder), "engine": wanted.engine, "precision": wanted.precision}
        found = probe.measure({**job, "batches": [[r.body() for r in batch] for batch in _sample(batches)]})
        how = "probe of the real model on the run's prompts"
    pace.teacher = found
    pace.how["teacher"] = how
    pace.seconds["teacher.load"] = found["load"] + found["import"]
    pace.seconds["teacher.read"] = found.get("tokens") or _guess(folder, 270e6)["tokens"]
    if "answer_tokens" in found:  # a written answer's seconds have its prompt's in them
        pace.seconds["teacher.written"] = found["written"]
        return
    pace.seconds |= {f"teacher.{unit}": found.get(unit, 0.0) for unit in ("tokens", "whole", "written")}


def _sample(batches: Sequence[list[Request]], count: int = 8) -> list[list[Request]]:
    """Batches from all over the stage, the same ones every time."""
    full = [batch for batch in batches if len(batch) >= max(map(len, batches)) / 2]
    return random.Random(7).sample(full, min(count, len(full)))


def _endpoint(rehearsal: Rehearsal, pace: Pace, latency_s: float | None) -> None:
    """Seconds a call: by --latency-s, by the times of earlier calls in the ledger, or assumed."""
    endpoint = rehearsal.recipe.teacher.endpoint
    assert endpoint is not None
    known = seconds_a_call(rehearsal.store.root / "ledger.db", rehearsal.stand_in.identity)
    if latency_s is None and known is not None:
        pace.seconds["endpoint.calls"] = known
        pace.how["endpoint"] = "times of earlier calls in the ledger"
        return
    latency = LATENCY_S if latency_s is None else latency_s
    pace.seconds["endpoint.calls"] = max(latency / endpoint.concurrency, CALL_S)
    given = "declared" if latency_s is not None else "assumed"
    pace.how["endpoint"] = f"{given} latency of {latency:g} s a call, {endpoint.concurrency} at a time"


def _judges(work: Work, pace: Pace, latency_s: float | None) -> None:
    """Of judges and other teachers: calls to endpoints by their latency; local models by their number of parameters."""
    pace.seconds["judge.calls"] = LATENCY_S if latency_s is None else latency_s
    pace.seconds["judge.load"] = IMPORT_S
    if work.total("judge.products"):
        pace.seconds["judge.products"] = FLOPS_TOKEN / (EFFICIENCY * flops())
    pace.how["judges and other teachers" if work.others else "judges"] = (
        "guess from the latency of a call, or the number of parameters"
    )


def seconds_a_call(ledger: Path, identity: str) -> float | None:
    """Mean seconds from one answer of this teacher to the next, pauses aside; None where the ledger has under 20."""
    if not ledger.exists():
        return None
    database = sqlite3.connect(ledger)
    try:
        rows = database.execute("SELECT at FROM call WHERE teacher = ? ORDER BY at", (identity,)).fetchall()
    finally:
        database.close()
    times = [row[0] for row in rows][-2000:]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    if len(gaps) < 20:
        return None
    longest = 1.0 + 3 * sorted(gaps)[len(gaps) * 98 // 100]  # longer ones are pauses between stages and runs
    return statistics.fmean(gap for gap in gaps if gap <= longest)


def _student(
    rehearsal: Rehearsal, done: dict[str, Artefact], work: Work, pace: Pace, probing: bool, progress: Progress
) -> None:
    settings, task = rehearsal.recipe.student, rehearsal.recipe.task.build()
    folder = rehearsal.folder_of(settings.model)
    before = history.student(rehearsal.store, rehearsal.recipe)
    if before:
        found = _guess(folder, 135e6) | before
        found |= {"score": before["tokens"], "write": before["export"] / (EXPORT + 0.5), "influence": 0.1}
        found |= {} if task.answers else {"token": before["request"] / max(_answer_tokens(work, task.max_tokens), 1)}
        pace.how["student"] = EARLIER
    elif not (probing and folder is not None):
        found = _guess(folder, 135e6)
        found |= {"position": 3 * found["tokens"], "forward": found["tokens"], "score": found["tokens"]}
        if not task.answers:
            found["token"] = DECODE * found["tokens"]
        found |= {"first": 3.0, "write": 20 * 2e-9 * found["parameters"] / 2, "influence": found["tokens"] * 40}
        pace.how["student"] = "guess from the number of parameters and a matrix product's speed"
    else:
        progress.say("trying the student: a few steps of training on some of the run's inputs")
        found = probe.measure(_student_job(rehearsal, done, work, folder))
        pace.how["student"] = "probe of the real model on the run's inputs"
    pace.student = found
    pace.seconds |= {
        "source.load": found["load"],
        "student.load": found["load"],
        "influence.prompts": found.get("influence", 0.0),
        "calibration.prompts": found["score"] * _mean([row.ids for row in work.rows], 40),
        "train.first": found.get("first", 0.0),
        "train.positions": found.get("position", 0.0),
        "train.forward": found.get("forward", 0.0),
        "train.written": found.get("token", 0.0) * _answer_tokens(work, task.max_tokens),
        "untrained.tokens": found["score"],
        "untrained.written": found.get("token", 0.0) * task.max_tokens,
        "copy.source_gb": COPY * found["write"],
        "write.student_gb": COPY * found["write"],
        "export.student": EXPORT * found["write"],
        "export.q8_0": found["write"],
        "export.prompts": 2 * FLOAT32 * found["score"] * _mean([row.ids for row in work.rows], 40),
    }
    if work.total("heal.learned"):
        _heal(folder, found, pace)
    torch_served = rehearsal.recipe.export.serve == "safetensors" or rehearsal.recipe.export.engine == "torch"
    served = found["load"] if torch_served else SERVED_LOAD * found["write"]
    pace.seconds["served.load"] = found.get("served_load", served)
    pace.seconds["served.tokens"] = found.get("served_score", found["score"])
    written = found.get("served_token", found.get("token", 0.0))
    pace.seconds["served.written"] = written * _answer_tokens(work, task.max_tokens)
    if "token" in found:  # a written answer's seconds have its prompt's in them
        pace.seconds |= {"untrained.tokens": 0.0, "served.tokens": 0.0}


def _heal(folder: Path | None, found: Mapping[str, float], pace: Pace) -> None:
    """Of text that is healed on: the whole model's share by its size, and every token is projected, unlike a task's."""
    whole, student = _guess(folder, 135e6), found["parameters"]
    read = found.get("forward") or found["score"]
    pace.seconds["heal.learned"] = PROJECTED * (found.get("position") or 3 * read)
    pace.seconds["heal.forward"] = PROJECTED * read
    pace.seconds["heal.read"] = read * max(whole["parameters"] / student, 1.0)


def _answer_tokens(work: Work, most: int) -> float:
    """Mean tokens of the answers that the student learns."""
    return _mean([row.ids[-row.answer :] for row in work.rows if row.answer], most / 2)


def _mean(rows: Sequence[Sequence[int]], otherwise: float) -> float:
    return statistics.fmean(map(len, rows)) if rows else otherwise


def _student_job(rehearsal: Rehearsal, done: dict[str, Artefact], work: Work, folder: Path) -> dict[str, Any]:
    recipe = rehearsal.recipe
    pool = split.load(done["data"].path, "pool")
    draw = random.Random(7)
    rows = draw.sample(work.rows, min(len(work.rows), probe.STEPS * recipe.student.batch_examples))
    prompts = train.prompts_of(recipe, draw.sample(pool, min(len(pool), 64)))
    wanted = recipe.student.initialise == "pruned" and not done["initialise"].reused
    task = recipe.task.build()
    return {
        "kind": "student", "path": str(folder), "settings": recipe.student.model_dump(mode="json", exclude_unset=True),
        "rows": [asdict(row) for row in rows], "prompts": prompts, "answers": train.answer_texts(recipe),
        "influence": prompts[:8] if wanted else [], "max_tokens": task.max_tokens, "schema": task.schema,
        "plain": bool(task.tools),
        "served": "torch" if recipe.export.serve == "safetensors" else recipe.export.engine,
        "precision": recipe.export.precision,
    }  # fmt: skip


def _guess(folder: Path | None, otherwise: float) -> dict[str, float]:
    """Seconds to load a model and a token's, from its size in bfloat16; `otherwise`: parameters if it is not here."""
    sizes = [path.stat().st_size for path in folder.glob("*.safetensors")] if folder is not None else []
    parameters = sum(sizes) / 2 if sizes else otherwise
    return {
        "parameters": parameters,
        "import": IMPORT_S,
        "load": 1.0 + parameters * 2 / 2e8,
        "tokens": FLOPS_TOKEN * parameters / (EFFICIENCY * flops()),
    }


def flops() -> float:
    """Floating-point operations a second of a matrix product in bfloat16 where the processor has it."""
    import torch

    from aasut.engine.torch import choose_precision

    one = torch.ones(1024, 1024, dtype=choose_precision("auto"))
    one @ one
    began = time.perf_counter()
    for _ in range(5):
        one @ one
    return 5 * 2 * 1024**3 / (time.perf_counter() - began)
