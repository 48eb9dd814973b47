"""The training loop: bfloat16 arithmetic, float32 master weights, and any objective.

A step's gradient is the sum over its targets divided once by their number, so it does not depend
on micro-batches. Everything is a fixed function of the examples and the seed; a killed training
goes on from its last checkpoint and ends in the same weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from aasut.errors import ModelError, RecipeError
from aasut.progress import Progress
from aasut.recipe import Student
from aasut.student import balance, checkpoint, lora, memory, parallel, schedule, spikes
from aasut.student.objective import Objective, Row
from aasut.student.weights import Weights

if TYPE_CHECKING:
    from aasut.student.rollouts import Rollouts

T = TypeVar("T")

POINTS = 1000  # most points that are kept of the losses of all steps


@dataclass
class Report:
    """What happened in training.

    Losses are in nats a target, which is a label or a token; `floor` is their least value. `losses` and `norms`
    have the training loss and the gradient's norm of each step that was taken, or means over `steps_a_point` of
    them. `skipped` says which steps were not taken, and why; `halved`, how often memory ran out, so that
    micro-batches have `micro_tokens` now; `stopped`, after which step validation had not got better for long enough,
    0 for never; `merged_loss`, validation with the adapters merged into the weights; `experts`, how a Mixture of
    Experts was used on validation (`balance.told`), by what its rows belong to.
    """

    steps: int
    examples: int
    curve: list[dict[str, float]] = field(default_factory=list)
    best_step: int = 0
    best_loss: float = math.inf
    floor: float = 0.0
    tokens: int = 0
    positions: int = 0
    targets: int = 0
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    steps_a_point: int = 1
    skipped: list[dict[str, Any]] = field(default_factory=list)
    halved: int = 0
    micro_tokens: int = 0
    stopped: int = 0
    parameters_trained: int = 0
    merged_loss: float | None = None
    experts: dict[str, Any] | None = None

    @property
    def padding_share(self) -> float:
        """Share of computed positions that held no token."""
        return max(0.0, 1 - self.tokens / self.positions) if self.positions else 0.0

    @property
    def shared_share(self) -> float:
        """Share of the tokens that were computed with another row's, because both begin with them."""
        return max(0.0, 1 - self.positions / self.tokens) if self.tokens else 0.0

    def thin(self) -> None:
        """Keep at most POINTS of the steps' losses and norms, as means of equal numbers of steps."""
        each = -(-len(self.losses) // POINTS) or 1
        for name in ("losses", "norms"):
            values = getattr(self, name)
            parts = [values[i : i + each] for i in range(0, len(values), each)]
            setattr(self, name, [float(f"{sum(part) / len(part):.5g}") for part in parts])
        self.steps_a_point = each


class Trainer:
    """Trains `model` in place: all weights, or those above the frozen layers, or adapters that are merged at the end.

    The embeddings, and with them a tied output projection, stay as they are unless the settings say otherwise.
    """

    def __init__(self, model: Any, objective: Objective, settings: Student, seed: int) -> None:
        self.model, self.objective, self.settings, self.seed = model, objective, settings, seed
        layers = model.model.layers
        if settings.frozen_layers >= len(layers):
            raise RecipeError(
                f"student.frozen_layers is {settings.frozen_layers}, and the student has {len(layers)} layers.",
                "Leave at least one to train.",
            )
        if settings.frozen_embeddings:
            model.get_input_embeddings().requires_grad_(False)
            model.get_output_embeddings().requires_grad_(False)
        for layer in layers[: settings.frozen_layers]:
            layer.requires_grad_(False)
        self.adapted = lora.attach(model, settings, seed) if settings.lora else None
        if settings.activation_checkpointing:
            memory.checkpoint_activations(model)
        self.balance = balance.attach(model, settings.experts)
        self.team = parallel.join()
        self.weights: Weights | parallel.ShardedWeights = (
            Weights(model, settings) if self.team.size == 1 else parallel.ShardedWeights(model, settings, self.team)
        )
        self.best: list[torch.Tensor] = []
        self.micro = settings.micro_tokens
        self._work = (0, 0)  # rows and positions of the micro-batch in work

    def fit(
        self,
        rows: Sequence[Row],
        validation: Sequence[Row],
        folder: Path,
        progress: Progress,
        micro: int | None = None,
        own: Rollouts | None = None,
    ) -> Report:
        """Train on `rows`, and leave the model with the weights that were best on `validation`.

        `micro` is the most tokens of a micro-batch, the settings' where it is not given; `own` puts the student's own
        answers in the place of some of a step's. Goes on from the checkpoint in `folder`, where a killed training
        left one at most `settings.checkpoint_s` seconds and a step before. Raises ModelError where too many steps are
        spoilt, or one row alone does not fit into memory.
        """
        settings = self.settings
        lengths, mixed = [len(row.ids) for row in rows], self.objective.packed
        steps = schedule.steps(lengths, settings.epochs, settings.batch_examples, self.seed, mixed=mixed)
        every = max(1, len(steps) // settings.checks)
        report, start, recent = self._resume(folder, Report(len(steps), len(rows)), micro or settings.micro_tokens)
        report.floor = self.objective.floor(validation) / max(self.objective.targets(validation), 1)
        report.parameters_trained = sum(p.numel() for p in self.weights.parameters)
        saved = time.monotonic()
        self.model.train()
        with memory.kept(), progress.steps("student learns", len(steps)) as shown:
            shown.advance(start, resumed=True)
            for step in range(start, len(steps)):
                learned = [rows[i] for i in steps[step]] if own is None else own.rows(self, rows, steps, step)
                loss = self._step(learned, step, report, progress, since=own.since(step, report) if own else 0)
                recent += [] if loss is None else [loss]
                if (step + 1) % every == 0 or step + 1 == len(steps):
                    self._check(validation, step + 1, recent, report)
                    recent = []
                if report.stopped:
                    break
                due = step + 1 < len(steps) and time.monotonic() - saved >= settings.checkpoint_s
                if self.team.led(due):
                    self._save(folder, step + 1, report, recent)
                    saved = time.monotonic()
                shown.advance(note=f"validation loss {report.best_loss:.4f} (least possible {report.floor:.4f})")
        self._finish(validation, report)
        if self.team.leads:
            checkpoint.remove(folder)
        return report

    def gradient(self, rows: Sequence[Row]) -> torch.Tensor:
        """Of the rows' mean loss a target, in all weights that are trained, [weights] float32; none is changed."""
        self._gradient(rows)
        found = torch.cat([part.flatten().cpu() for part in self.weights.gradient()])
        self.weights.drop()
        return found

    def _finish(self, validation: Sequence[Row], report: Report) -> None:
        self.weights.put(self.best)
        self.weights.release()
        if self.adapted is not None:
            lora.merge(self.adapted)
            self.adapted = None
            report.merged_loss = self.evaluate(validation) if validation else None
        self.model.eval()  # where activations are not checkpointed either
        if self.balance is not None and validation:
            report.experts = balance.by_group(self.model, self.objective, validation, self.micro, self.weights.run)
        report.micro_tokens = self.micro
        report.thin()

    def _step(self, rows: Sequence[Row], step: int, report: Report, progress: Progress, since: int) -> float | None:
        """Learn from `rows`; gives their mean loss, None where the step is skipped.

        The losses of the steps `since` there say what is usual.
        """
        loss, tokens, positions = self._within_memory(lambda: self._gradient(rows), report)
        norm = self.weights.norm()
        usual = report.losses[since:], report.norms[since:]
        wrong = spikes.found(loss, norm, *usual, self.settings.clip_norm)
        if wrong:
            self.weights.drop()
            numbers = {"loss": loss, "norm": norm}
            known = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
            report.skipped.append({"step": step + 1, "why": wrong, **known})
            said = f"The training loss {wrong} at step {step + 1} of {report.steps}"
            if len(report.skipped) > self.settings.most_spikes:
                raise ModelError(
                    f"{said}; {len(report.skipped)} steps were spoilt.",
                    "Lower student.learning_rate, or raise student.most_spikes.",
                )
            progress.say(f"{said}: the step is skipped.")
            return None
        self.weights.update(schedule.rate(step, report.steps, self.settings), norm)
        if self.balance is not None:
            self.balance.update(step, report.steps, self.weights, self.team)
        report.losses.append(loss)
        report.norms.append(norm)
        report.tokens += tokens
        report.positions += positions
        report.targets += self.objective.targets(rows)
        return loss

    def _gradient(self, rows: Sequence[Row]) -> tuple[float, int, int]:
        """(the rows' mean loss a target, tokens, positions computed); the loss's gradient is left in `weights`."""
        targets, total, tokens, positions = self.objective.targets(rows), 0.0, 0, 0
        self.weights.begin(targets)
        if self.balance is not None:
            self.balance.begin(targets / max(sum(len(row.ids) for row in rows), 1))
        for loss, batch in self._losses(rows):
            if loss.requires_grad:
                self.weights.backward(loss)
            total += float(loss.detach())
            tokens += batch.tokens
            positions += batch.ids.size
        total, *counts = self.team.summed(total, tokens, positions)
        return total / targets, int(counts[0]), int(counts[1])

    def _losses(self, rows: Sequence[Row]) -> Iterator[tuple[torch.Tensor, Any]]:
        """(sum of the loss, micro-batch) for each micro-batch of this process's share of the rows."""
        mine, team = self.team.share(rows), self.team
        count = sum(1 for _ in self.objective.batches(mine, self.micro)) if team.size > 1 else 0
        idle = team.largest(count) - count  # gathering weights takes all processes, also those that are done
        for batch in self.objective.batches(mine, self.micro):
            self._work = (len(batch.rows), batch.ids.size)
            yield self._loss(mine, batch), batch
        for _ in range(idle):
            batch = next(iter(self.objective.batches(rows[:1], self.micro)))
            loss = self._plain_loss(rows[:1], batch) * 0.0
            if loss.requires_grad:
                self.weights.backward(loss)

    def _loss(self, rows: Sequence[Row], batch: Any) -> torch.Tensor:
        if self.balance is None or not self.model.training:
            return self._plain_loss(rows, batch)
        with self.balance.watching():
            loss = self._plain_loss(rows, batch)
        more = self.balance.loss()
        return loss if more is None else loss + more

    def _plain_loss(self, rows: Sequence[Row], batch: Any) -> torch.Tensor:
        return self.weights.run(lambda: self.objective.loss(self.model, rows, batch))

    def _within_memory(self, work: Callable[[], T], report: Report) -> T:
        """What `work` gives; done anew with micro-batches half as large where memory runs out."""
        while True:
            try:
                return work()
            except Exception as error:
                if not memory.exhausted(error):
                    raise
                if self.team.size > 1:  # the others wait in the middle of the step
                    raise ModelError(
                        f"Memory ran out in process {self.team.rank} of {self.team.size}.",
                        "Lower student.micro_tokens, or set student.activation_checkpointing.",
                    ) from None
                if self._work[0] == 1:
                    raise ModelError(
                        f"Memory ran out in training on one row of {self._work[1]} tokens alone.",
                        "Set student.activation_checkpointing, or take a smaller student or shorter inputs.",
                    ) from None
            memory.free()
            self.micro = max(1, min(self.micro, self._work[1]) // 2)
            report.halved += 1

    def evaluate(self, rows: Sequence[Row]) -> float:
        """Mean loss a target."""
        if not rows:
            return math.inf
        training = self.model.training
        self.model.eval()
        ordered = sorted(rows, key=lambda row: len(row.ids))
        with torch.no_grad():
            total = self.team.summed(sum(float(loss) for loss, _ in self._losses(ordered)))[0]
        self.model.train(training)
        return total / self.objective.targets(rows)

    def _check(self, validation: Sequence[Row], step: int, recent: Sequence[float], report: Report) -> None:
        loss = self._within_memory(lambda: self.evaluate(validation), report)
        report.curve.append({"step": step, "train_loss": sum(recent) / max(len(recent), 1), "validation_loss": loss})
        if loss < report.best_loss or not self.best:
            report.best_loss, report.best_step = loss, step
            self.best = self.weights.copies()
        since = sum(point["step"] > report.best_step for point in report.curve)
        if 0 < self.settings.patience <= since:
            report.stopped = step

    def _save(self, folder: Path, step: int, report: Report, recent: Sequence[float]) -> None:
        """Master weights, moments, best weights if any, the report so far, losses since the last look."""
        best = zip(self.weights.names, self.weights.whole(self.best), strict=False)
        tensors = self.weights.state() | {f"best.{name}": tensor for name, tensor in best}
        tensors |= {} if self.balance is None else self.balance.state()
        if not self.team.leads:
            return
        facts = {"step": step, "report": asdict(report), "recent": list(recent)}
        checkpoint.save(folder, tensors, facts | {"updates": self.weights.updates, "micro": self.micro})

    def _resume(self, folder: Path, fresh: Report, micro: int) -> tuple[Report, int, list[float]]:
        self.micro = micro
        if (found := checkpoint.load(folder)) is None:
            return fresh, 0, []
        tensors, facts = found
        self.weights.restore(tensors, facts["updates"])
        best = [tensors[key] for name in self.weights.names if (key := f"best.{name}") in tensors]
        self.best = self.weights.parted(best)
        self.micro = facts["micro"]
        if self.balance is not None:
            self.balance.restore(tensors, int(facts["step"]), fresh.steps)
        return Report(**facts["report"]), int(facts["step"]), list(facts["recent"])
