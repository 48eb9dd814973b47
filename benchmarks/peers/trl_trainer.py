"""TRL's GKD or SFT on one job. Runs in the peers' environment.

Called with `gkd` or `sft`, the job, a folder, the number of threads, and how many rows a forward pass has; the batch is
accumulated over them. The last line is one JSON object. Set up for speed: no gradient checkpointing, fused
AdamW, no reports. Arithmetic is bfloat16 by autocast, over weights in float32. Rows are given as token ids, and what
the trainer's own collator makes of them is compared with the job.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoTokenizer, LlamaForCausalLM, TrainerCallback
from trl import SFTConfig, SFTTrainer
from trl.experimental.gkd import GKDConfig, GKDTrainer

from peers.job import Job
from peers.meter import Meter

Batch = dict[str, torch.Tensor]


class Clock(TrainerCallback):  # type: ignore[misc]
    """Lets the meter run while the trainer trains."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.meter.start()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.meter.stop()


def checked(collate: Callable[[list[Any]], Batch], job: Job, at_once: int) -> Callable[[list[Any]], Batch]:
    """`collate`, whose batches must hold the job's ids, and learn the job's answers alone."""
    waiting = (batch[start : start + at_once] for batch in job.batches for start in range(0, len(batch), at_once))

    def call(examples: list[Any]) -> Batch:
        made = collate(examples)
        for place, number in enumerate(next(waiting)):
            row, held = job.rows[number], made["attention_mask"][place].bool()
            first = len(row.ids) - row.answer
            assert made["input_ids"][place][held].tolist() == row.ids
            assert made["labels"][place][held].tolist() == [-100] * first + row.ids[first:]
            assert (made["labels"][place][~held] == -100).all()
        return made

    return call


def data(kind: str, job: Job) -> Dataset:
    """All rows in the order in which they are learned."""
    rows = [job.rows[number] for batch in job.batches for number in batch]
    examples = [
        {"input_ids": row.ids, "completion_mask": [0] * (len(row.ids) - row.answer) + [1] * row.answer} for row in rows
    ]
    return Dataset.from_list([example | ({"prompt": ""} if kind == "gkd" else {}) for example in examples])


def options(job: Job, folder: Path, at_once: int) -> dict[str, Any]:
    return {
        "output_dir": str(folder / "trainer"),
        "use_cpu": True,
        "bf16": True,
        "gradient_checkpointing": False,
        "per_device_train_batch_size": at_once,
        "gradient_accumulation_steps": len(job.batches[0]) // at_once,
        "num_train_epochs": 1,  # the data hold all epochs
        "train_sampling_strategy": "sequential",
        "max_length": max(len(row.ids) for row in job.rows),
        "max_grad_norm": job.settings["clip_norm"],
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
    }


def optimiser(model: torch.nn.Module, job: Job) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW as the job says, with the job's learning rates."""
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": job.settings["weight_decay"]},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=1.0, betas=tuple(job.settings["betas"]), fused=True)
    rates = [*job.rates, 0.0]  # it is asked once more after the last step
    return adamw, torch.optim.lr_scheduler.LambdaLR(adamw, lambda step: rates[step])


def train(kind: str, job: Job, folder: Path, at_once: int) -> dict[str, float]:
    meter = Meter()
    torch.manual_seed(0)
    model = LlamaForCausalLM.from_pretrained(job.student, dtype=torch.float32)
    common = {
        "model": model,
        "train_dataset": data(kind, job),
        "processing_class": AutoTokenizer.from_pretrained(job.student),
        "callbacks": [Clock(meter)],
        "optimizers": optimiser(model, job),
    }
    given = options(job, folder, at_once)
    if kind == "gkd":  # beta 0 is forward KL there
        teacher = LlamaForCausalLM.from_pretrained(job.teacher, dtype=torch.bfloat16)
        trainer = GKDTrainer(args=GKDConfig(**given, lmbda=0.0, beta=0.0), teacher_model=teacher, **common)
    else:
        trainer = SFTTrainer(args=SFTConfig(**given, completion_only_loss=True), **common)
    trainer.data_collator = checked(trainer.data_collator, job, at_once)
    trainer.train()
    found = meter.read()
    model.to(torch.bfloat16).save_pretrained(folder / "model")
    return found


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[4]))
    print(json.dumps(train(sys.argv[1], Job.load(Path(sys.argv[2])), Path(sys.argv[3]), int(sys.argv[5]))))
