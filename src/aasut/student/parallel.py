"""Several processes train one student: each reads a share of every step's rows and keeps a share of the weights.

PyTorch's FSDP2 gathers a layer's weights when they are needed and sums gradients in float32. The loss of a step is
divided by all processes' targets, so the losses and the weights are those of one process, up to rounding.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from aasut.recipe import Student
from aasut.student.weights import adamw

T = TypeVar("T")


@dataclass(frozen=True)
class Team:
    """The processes that train together; one alone by default, which asks nothing of the others."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Is this the process that tells, and writes files?"""
        return self.rank == 0

    def share(self, rows: Sequence[T]) -> Sequence[T]:
        """This process's part of the rows: none may be left where there are fewer rows than processes."""
        return rows[self.rank :: self.size]

    def summed(self, *values: float) -> list[float]:
        """Each value, summed over all processes."""
        return self._reduced(values, dist.ReduceOp.SUM)

    def largest(self, value: int) -> int:
        """The largest of all processes' values."""
        return int(self._reduced([value], dist.ReduceOp.MAX)[0])

    def led(self, value: bool) -> bool:
        """The leading process's value, for all."""
        return bool(self.summed(value and self.leads)[0])

    def _reduced(self, values: Sequence[float], how: Any) -> list[float]:
        if self.size == 1:
            return [float(value) for value in values]
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        held = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(held, how)
        return [float(value) for value in held]


def join() -> Team:
    """The team that torchrun started this process in, or this process alone."""
    if not dist.is_initialized():
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            return Team()
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return Team(dist.get_rank(), dist.get_world_size())


def leave() -> None:
    """Part from the team, once all are done: who closes its sockets before that may break what others still read."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


class _Whole(torch.nn.Module):
    """The model and its loss as one module, so that the output matrix is gathered while the loss is taken."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, work: Callable[[], torch.Tensor]) -> torch.Tensor:
        return work()


class ShardedWeights:
    """See `weights.Weights`: the same, with each weight and its moments parted among all processes of the team.

    The parameters are the float32 masters; what is gathered for arithmetic is rounded to the model's precision.
    """

    def __init__(self, model: Any, settings: Student, team: Team) -> None:
        self.team, self.model = team, model
        self.dtype = model.dtype
        model.float()
        policy = MixedPrecisionPolicy(param_dtype=self.dtype, reduce_dtype=torch.float32)
        mesh = dist.device_mesh.init_device_mesh("cuda" if torch.cuda.is_available() else "cpu", (team.size,))
        for layer in model.model.layers:
            fully_shard(layer, mesh=mesh, mp_policy=policy)
        self._whole: Any = fully_shard(_Whole(model), mesh=mesh, mp_policy=policy)
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.names = [name for name, _ in named]
        self.parameters = [p for _, p in named]
        self.updates = 0
        self.divisor = 1.0
        self.clip_norm = settings.clip_norm
        self.optimiser = adamw(self.parameters, settings)
        for weight in self.parameters:
            moments = {"exp_avg": torch.zeros_like(weight), "exp_avg_sq": torch.zeros_like(weight)}
            self.optimiser.state[weight] = {"step": torch.zeros(())} | moments

    def run(self, work: Callable[[], torch.Tensor]) -> torch.Tensor:
        """What `work`, which uses the model, gives."""
        result: torch.Tensor = self._whole(work)
        return result

    def begin(self, divisor: float) -> None:
        """See `weights.Weights.begin`; the divisor is that of all processes."""
        self.drop()
        self.divisor = divisor

    def backward(self, loss: torch.Tensor) -> None:
        """Sum the gradient of all processes' losses; FSDP2 would take the mean."""
        torch.autograd.backward(loss * (self.team.size / self.divisor))

    def gradient(self) -> list[torch.Tensor]:
        """The step's gradient so far, of each weight, gathered from all processes."""
        return [torch.zeros_like(_full(p)) if p.grad is None else _full(p.grad) for p in self.parameters]

    def norm(self) -> float:
        """Length of the step's gradient, all weights and processes together."""
        held = [p.grad for p in self.parameters if p.grad is not None]
        return float(_full(torch.nn.utils.get_total_norm(held))) if held else 0.0

    def update(self, rate: float, norm: float) -> None:
        """One step of AdamW with the gradient, of length `norm`, clipped."""
        if (scale := self.clip_norm / (norm + 1e-6)) < 1:
            for parameter in self.parameters:
                if parameter.grad is not None:
                    parameter.grad.mul_(scale)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        self.updates += 1
        self.drop()

    def drop(self) -> None:
        """Forget the step's gradient."""
        for parameter in self.parameters:
            parameter.grad = None

    def copies(self) -> list[torch.Tensor]:
        """This process's share of the weights as they are now."""
        return [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def put(self, copies: Iterable[torch.Tensor]) -> None:
        """Give the model these weights."""
        for parameter, copy in zip(self.parameters, copies, strict=True):
            parameter.copy_(copy)

    def whole(self, tensors: Iterable[torch.Tensor]) -> list[torch.Tensor]:
        """The tensors of `copies`, or others parted alike, gathered from all processes."""
        return [_full(tensor.detach()) for tensor in tensors]

    def parted(self, tensors: Iterable[torch.Tensor]) -> list[torch.Tensor]:
        """This process's share of whole tensors, which are one a weight."""
        return [_like(whole, p) for whole, p in zip(tensors, self.parameters, strict=False)]

    def state(self) -> dict[str, torch.Tensor]:
        """Masters and moments by name, whole."""
        result: dict[str, torch.Tensor] = {}
        for name, weight in zip(self.names, self.parameters, strict=True):
            moments = self.optimiser.state[weight]
            parts = self.whole([weight, moments["exp_avg"], moments["exp_avg_sq"]])
            result |= zip((f"master.{name}", f"mean.{name}", f"square.{name}"), parts, strict=True)
        return result

    @torch.no_grad()
    def restore(self, tensors: dict[str, torch.Tensor], updates: int) -> None:
        """Go on from `state` after so many updates."""
        for name, weight in zip(self.names, self.parameters, strict=True):
            moments = self.optimiser.state[weight]
            weight.copy_(_like(tensors[f"master.{name}"], weight))
            moments["exp_avg"].copy_(_like(tensors[f"mean.{name}"], weight))
            moments["exp_avg_sq"].copy_(_like(tensors[f"square.{name}"], weight))
            moments["step"].fill_(updates)
        self.updates = updates

    @torch.no_grad()
    def shift(self, parameter: torch.Tensor, change: torch.Tensor) -> None:
        """See `weights.Weights.shift`."""
        parameter.add_(_like(change, parameter))

    def release(self) -> None:
        """There is nothing to let go of."""

    def tensors(self) -> dict[str, torch.Tensor]:
        """All of the model's weights by name, tied ones once, whole, in its precision."""
        return {name: _full(weight.detach()).to(self.dtype) for name, weight in self.model.named_parameters()}


def _full(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _like(whole: torch.Tensor, parted: torch.Tensor) -> torch.Tensor:
    """A whole tensor, parted as another is."""
    if not isinstance(parted, DTensor):
        return whole
    return distribute_tensor(whole.to(parted.device), parted.device_mesh, parted.placements)
