"""The training loop: bfloat16 arithmetic, float32 master weights, and any objective.

A step's gradient is the sum over its targets divided once by their number, so it does not depend
on micro-batches. Everything is a fixed function of the examples and the seed; a killed training
goes on from its last checkpoint and ends in the same weights.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from aasut.engine.layout import Batch, lay_out
from aasut.engine.tree import TokenTree
from aasut.errors import ModelError, RecipeError
from aasut.formats import safetensors
from aasut.progress import Progress
from aasut.recipe import Student
from aasut.store import disk_errors
from aasut.student.objective import Objective, Row

MICRO_TOKENS = 2048  # tokens of a micro-batch, padding counted
WINDOW = 32  # batches whose examples are sorted by length together: little padding, still mixed


@dataclass
class Report:
    """What happened in training.

    Losses are cross-entropies in nats a target, which is a label or a token; `floor` is their least value.
    """

    steps: int
    examples: int
    curve: list[dict[str, float]] = field(default_factory=list)
    best_step: int = 0
    best_loss: float = math.inf
    floor: float = 0.0
    tokens: int = 0
    positions: int = 0

    @property
    def padding_share(self) -> float:
        """Share of computed positions that held no token."""
        return 1 - self.tokens / self.positions if self.positions else 0.0


def schedule(lengths: Sequence[int], epochs: int, batch: int, seed: int) -> list[list[int]]:
    """The examples of every step. Each epoch has each example once; steps hold examples of like length."""
    shuffle = random.Random(seed)
    steps: list[list[int]] = []
    for _ in range(epochs):
        order = list(range(len(lengths)))
        shuffle.shuffle(order)
        epoch: list[list[int]] = []
        for start in range(0, len(order), batch * WINDOW):
            window = sorted(order[start : start + batch * WINDOW], key=lambda i: (lengths[i], i))
            epoch += [window[i : i + batch] for i in range(0, len(window), batch)]
        shuffle.shuffle(epoch)
        steps += epoch
    return steps


def learning_rate(step: int, steps: int, peak: float, warmup: float) -> float:
    """Linear rise over the share `warmup` of the steps, then half a cosine down to zero."""
    rise = max(1, round(steps * warmup))
    if step < rise:
        return peak * (step + 1) / rise
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(steps - rise, 1)))


class Trainer:
    """Trains `model` in place. The embeddings, and with them a tied output projection, stay as they are."""

    def __init__(self, model: Any, objective: Objective, settings: Student, seed: int) -> None:
        self.model, self.objective, self.settings, self.seed = model, objective, settings, seed
        model.get_input_embeddings().requires_grad_(False)
        model.get_output_embeddings().requires_grad_(False)
        layers = model.model.layers
        if settings.frozen_layers >= len(layers):
            raise RecipeError(
                f"student.frozen_layers is {settings.frozen_layers}, and the student has {len(layers)} layers.",
                "Leave at least one to train.",
            )
        for layer in layers[: settings.frozen_layers]:
            layer.requires_grad_(False)
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.names = [name for name, _ in named]
        self.parameters = [p for _, p in named]
        self.master = [p.detach().float().clone().requires_grad_(True) for p in self.parameters]
        self.optimiser = torch.optim.AdamW(
            [
                {"params": [w for w in self.master if w.ndim > 1], "weight_decay": settings.weight_decay},
                {"params": [w for w in self.master if w.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=settings.learning_rate,
            betas=(0.9, 0.98),
            fused=True,
        )
        self.best: list[torch.Tensor] = []

    def fit(
        self,
        rows: Sequence[Row],
        validation: Sequence[Row],
        folder: Path,
        progress: Progress,
        micro: int = MICRO_TOKENS,
    ) -> Report:
        """Train on `rows`, and leave the model with the weights that were best on `validation`.

        Goes on from the checkpoint in `folder`, where a killed training left one at most
        `settings.checkpoint_s` seconds and a step before. Raises ModelError where the loss is no number.
        """
        steps = schedule([len(row.ids) for row in rows], self.settings.epochs, self.settings.batch_examples, self.seed)
        every = max(1, len(steps) // self.settings.checks)
        report, start, recent = self._resume(folder, Report(len(steps), len(rows)))
        report.floor = self.objective.floor(validation) / max(self.objective.targets(validation), 1)
        saved = time.monotonic()
        self.model.train()
        with progress.steps("student learns", len(steps)) as shown:
            shown.advance(start, resumed=True)
            for step in range(start, len(steps)):
                recent.append(self._step(rows, steps[step], step, len(steps), report, micro))
                if (step + 1) % every == 0 or step + 1 == len(steps):
                    self._check(validation, step + 1, recent, report)
                    recent = []
                if step + 1 < len(steps) and time.monotonic() - saved >= self.settings.checkpoint_s:
                    self._save(folder, step + 1, report, recent)
                    saved = time.monotonic()
                shown.advance(note=f"validation loss {report.best_loss:.4f} (least possible {report.floor:.4f})")
        with torch.no_grad():
            for parameter, best in zip(self.parameters, self.best, strict=True):
                parameter.copy_(best)
        self.model.eval()
        (folder / "checkpoint.safetensors").unlink(missing_ok=True)
        return report

    def _step(
        self, rows: Sequence[Row], chosen: Sequence[int], step: int, steps: int, report: Report, micro: int
    ) -> float:
        total = 0.0
        targets = self.objective.targets([rows[i] for i in chosen])
        for batch in micro_batches([row.ids for row in rows], chosen, self.objective.tree, micro):
            loss = self.objective.loss(self.model, rows, batch) / targets
            torch.autograd.backward(loss)
            self._collect()
            total += float(loss.detach())
            report.tokens += batch.tokens
            report.positions += batch.ids.size
        if not math.isfinite(total):
            raise ModelError(
                f"The training loss is no number at step {step + 1} of {steps}.", "Lower student.learning_rate."
            )
        torch.nn.utils.clip_grad_norm_(self.master, self.settings.clip_norm, foreach=True)
        rate = learning_rate(step, steps, self.settings.learning_rate, self.settings.warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            for parameter, weight in zip(self.parameters, self.master, strict=True):
                parameter.copy_(weight)
        return total

    def _collect(self) -> None:
        """Move the gradients of this micro-batch into the master weights', in float32."""
        for parameter, weight in zip(self.parameters, self.master, strict=True):
            if parameter.grad is not None:
                if weight.grad is None:
                    weight.grad = parameter.grad.float()
                else:
                    weight.grad += parameter.grad
                parameter.grad = None

    @torch.no_grad()
    def evaluate(self, rows: Sequence[Row]) -> float:
        """Mean loss a target."""
        if not rows:
            return math.inf
        self.model.eval()
        order = sorted(range(len(rows)), key=lambda i: len(rows[i].ids))
        parts = micro_batches([row.ids for row in rows], order, self.objective.tree, MICRO_TOKENS)
        total = sum(float(self.objective.loss(self.model, rows, batch)) for batch in parts)
        self.model.train()
        return total / self.objective.targets(rows)

    def _check(self, validation: Sequence[Row], step: int, recent: Sequence[float], report: Report) -> None:
        loss = self.evaluate(validation)
        report.curve.append({"step": step, "train_loss": sum(recent) / max(len(recent), 1), "validation_loss": loss})
        if loss < report.best_loss or not self.best:
            report.best_loss, report.best_step = loss, step
            self.best = [p.detach().clone() for p in self.parameters]

    def _save(self, folder: Path, step: int, report: Report, recent: Sequence[float]) -> None:
        """A checkpoint: master weights, moments, best weights if any, the report so far, losses since the last look."""
        tensors: dict[str, torch.Tensor] = {}
        for name, weight in zip(self.names, self.master, strict=True):
            state = self.optimiser.state[weight]
            tensors[f"master.{name}"] = weight.detach()
            tensors[f"mean.{name}"] = state["exp_avg"]
            tensors[f"square.{name}"] = state["exp_avg_sq"]
        tensors |= {f"best.{name}": best for name, best in zip(self.names, self.best, strict=False)}
        facts = {"step": step, "report": vars(report), "recent": list(recent)}
        with disk_errors(folder):
            partial = folder / "checkpoint.partial"
            save_file(tensors, partial, {"facts": json.dumps(facts)})
            partial.replace(folder / "checkpoint.safetensors")

    def _resume(self, folder: Path, fresh: Report) -> tuple[Report, int, list[float]]:
        path = folder / "checkpoint.safetensors"
        if not path.exists():
            return fresh, 0, []
        facts = json.loads(safetensors.metadata(path)["facts"])
        tensors = safetensors.load(path)
        with torch.no_grad():
            for name, parameter, weight in zip(self.names, self.parameters, self.master, strict=True):
                weight.copy_(tensors[f"master.{name}"])
                parameter.copy_(weight)
                self.optimiser.state[weight] = {
                    "step": torch.tensor(float(facts["step"])),
                    "exp_avg": tensors[f"mean.{name}"],
                    "exp_avg_sq": tensors[f"square.{name}"],
                }
        self.best = [tensors[key] for name in self.names if (key := f"best.{name}") in tensors]
        return Report(**facts["report"]), int(facts["step"]), list(facts.get("recent", []))


def micro_batches(ids: Sequence[Sequence[int]], chosen: Sequence[int], tree: TokenTree, most: int) -> Iterator[Batch]:
    """The chosen rows in micro-batches of at most `most` tokens with padding, one row at least."""
    extra = len(tree.nodes)
    part: list[int] = []
    width = 0
    for row in chosen:
        wider = max(width, len(ids[row]) + extra)
        if part and wider * (len(part) + 1) > most:
            yield lay_out(ids, part, tree, prefix=0, pad=0)
            part, wider = [], len(ids[row]) + extra
        part.append(row)
        width = wider
    if part:
        yield lay_out(ids, part, tree, prefix=0, pad=0)
