"""Trains a model folder on rows, for tests: by itself, or as one of the processes that torchrun starts.

Its arguments: the model's folder, and a JSON list of objects {"folder", "settings", "kind", "stop"}, one a training.
Each writes out.safetensors (weights) and report.json into its folder; `stop` is the step after which all is killed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from aasut.engine.torch import load_model
from aasut.engine.tree import build
from aasut.formats.tokenizer import Tokenizer
from aasut.progress import Progress
from aasut.recipe import ModelAddress, Student
from aasut.student import parallel
from aasut.student.initialize import copy_model
from aasut.student.losses import cross_entropy
from aasut.student.objective import Labels, Row, Text
from aasut.student.teaching import Right
from aasut.student.trainer import Trainer
from aasut.student.upcycle import upcycle

ANSWERS = [" negative", " positive"]


def rows_of(kind: str, tokenizer: Tokenizer, count: int) -> list[Row]:
    """Rows of lengths that differ."""
    draw = random.Random(3)
    rows = []
    for number in range(count):
        ids = tokenizer.encode(" ".join(draw.choices(["battery", "great", "review", "A", "B"], k=draw.randint(1, 9))))
        if kind == "labels":
            rows.append(Row(ids, (0.8, 0.2) if number % 2 else (0.1, 0.9)))
        else:
            answer = tokenizer.encode(" the battery is great"[: draw.randint(2, 20)])
            rows.append(Row([*ids, *answer, 1], answer=len(answer) + 1, own=1))
    return rows


def train(model: Path, wanted: dict[str, Any]) -> None:
    folder = Path(wanted["folder"])
    tokenizer = Tokenizer.load(model)
    plain = {"epochs": 2, "batch_examples": 7, "checks": 3, "learning_rate": 1e-3, "precision": "float32"}
    settings = Student(model=ModelAddress(address="file:model"), **(plain | wanted["settings"]))
    tree = build([tokenizer.encode(answer) for answer in ANSWERS], tokenizer.eos_id)
    kind = wanted["kind"]
    objective = Labels(tree, cross_entropy) if kind == "labels" else Text(cross_entropy, Right())
    if settings.experts is not None:
        start = folder / f"start-{os.environ.get('RANK', '0')}"
        copy_model(model, start)
        upcycle(start, settings.experts, 3)
        model = start
    made = Trainer(load_model(model, getattr(torch, settings.precision)), objective, settings, seed=5)
    if stop := wanted.get("stop"):
        save = made._save

        def once(folder: Path, step: int, *rest: Any) -> None:
            save(folder, step, *rest)
            if step == stop:
                made.team.led(True)  # the file is there, whoever wrote it
                os.kill(os.getpid(), signal.SIGKILL)

        made._save = once
    rows = rows_of(kind, tokenizer, 36)
    report = made.fit(rows[6:], rows[:5], folder, Progress(quiet=True))
    tensors = made.weights.tensors()
    if made.team.leads:
        save_file(
            {name: t.contiguous() for name, t in tensors.items() if name != "lm_head.weight"},
            folder / "out.safetensors",
        )
        (folder / "report.json").write_text(json.dumps(asdict(report) | {"processes": made.team.size}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    for one in json.loads(sys.argv[2]):
        train(Path(sys.argv[1]), one)
    parallel.leave()
