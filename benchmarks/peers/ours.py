"""Our trainer on one job: with the teacher alongside, or from a logit cache that is written first.

Called with `live` or `cached`, the job, a folder and the number of threads. The last line is one JSON object; its
time is that of the training, the writing of the cache counted.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers.models.llama.modeling_llama  # noqa: F401 - or memory would count the import

from aasut.engine.torch import load_model
from aasut.formats import safetensors
from aasut.progress import Progress
from aasut.recipe import Student
from aasut.student import logit_cache, losses, schedule, score_logits
from aasut.student.initialize import copy_model
from aasut.student.objective import Row, Text
from aasut.student.teaching import Cached, Live
from aasut.student.trainer import Trainer
from peers.job import Job
from peers.meter import Meter

QUIET = Progress(quiet=True)
SEED = 0


def settings_of(job: Job) -> Student:
    """A recipe's section `student`, which keeps the last weights."""
    names = ("epochs", "batch_examples", "learning_rate", "warmup", "weight_decay", "clip_norm", "frozen_embeddings")
    plain = {name: job.settings[name] for name in names} | {"checks": 1, "checkpoint_s": 1e6, "precision": "bfloat16"}
    return Student.model_validate(plain | {"model": {"address": f"file:{job.student}"}, "loss": "forward_kl"})


def write_cache(teacher: Any, rows: list[Row], folder: Path) -> logit_cache.Cache:
    """The teacher's distributions over the rows' answers, on disk."""
    asked = [score_logits.Asked(row.key, row.asked, row.ids[len(row.ids) - row.answer :]) for row in rows]
    vocabulary = int(teacher.config.vocab_size)
    binding = logit_cache.Binding("one", "one", "one", vocabulary, settings=score_logits.settings(SEED))
    folder.mkdir()
    score_logits.write(teacher, asked, folder, binding, QUIET)
    return logit_cache.Cache.open(folder, binding)


def train(kind: str, job: Job, folder: Path) -> dict[str, float]:
    settings = settings_of(job)
    rows = [
        Row(row.ids, answer=row.answer, key=str(number), asked=row.ids[: len(row.ids) - row.answer])
        for number, row in enumerate(job.rows)
    ]
    lengths = [len(row.ids) for row in rows]
    assert schedule.steps(lengths, settings.epochs, settings.batch_examples, SEED, mixed=True) == job.batches
    assert [schedule.rate(n, len(job.rates), settings) for n in range(len(job.rates))] == job.rates
    more: dict[str, float] = {}
    meter = Meter()
    teacher = load_model(Path(job.teacher), torch.bfloat16)
    teaching: Live | Cached = Live(teacher, settings.micro_tokens)
    if kind == "cached":
        meter.start()
        cache = write_cache(teacher, rows, folder / "cache")
        meter.stop()
        more = {"cache_s": meter.seconds, "bytes_per_token": cache.bytes_per_token}
        teaching = Cached(cache.batch)
        del teacher
    model = load_model(Path(job.student), torch.bfloat16)
    trainer = Trainer(model, Text(losses.get(settings.loss), teaching), settings, SEED)
    meter.start()
    teaching.foresee(rows)
    report = trainer.fit(rows, [], folder, QUIET)
    meter.stop()
    found = meter.read() | more
    assert report.tokens == job.tokens
    assert not report.skipped
    copy_model(Path(job.student), folder / "model", weights=False)
    safetensors.save(model.state_dict(), folder / "model" / "model.safetensors")
    return found


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[4]))
    print(json.dumps(train(sys.argv[1], Job.load(Path(sys.argv[2])), Path(sys.argv[3]))))
