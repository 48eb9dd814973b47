"""A loss fused with the output projection: logits exist a block of rows at a time, and gradients are made there.

In each block: logits -> row losses and the gradient in the logits, in place -> the hidden states' gradient, and
the weight's where it wants one, summed in float32. Backward only multiplies by the gradient from above.
Products of bfloat16 inputs are exact in float32 and are summed there: logits are never rounded to bfloat16.
The logits' gradient is, as the hidden states' gradient in the end is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NamedTuple

import torch

from aasut.student import divergences
from aasut.student.targets import Dense, Sparse, Target

BLOCK_ROWS = 256  # of logits at once
PASS_VALUES = 2**19  # logits whose row losses are taken at once: they and their scratch stay in the cache
PANEL_ROWS = 4096  # of a weight that are brought to float32 at once


class Block(NamedTuple):
    """Logits of some rows, [r, V] float32, and scratch [2, r, V]. Without a teacher these last two are empty."""

    student: torch.Tensor
    teacher: torch.Tensor
    spare: torch.Tensor


Rows = Callable[[slice, Block], torch.Tensor]


def loss(
    hidden: torch.Tensor, weight: torch.Tensor, target: Target, name: str, beta: float, alpha: float
) -> torch.Tensor:
    """Sum over rows of the named loss, in nats: float32, differentiable in hidden [n, d] and weight [V, d].

    A gradient is made only for what requires one. Against `Dense` only the tokens that both have are counted.
    """
    if len(target) != len(hidden):
        raise ValueError(f"{len(hidden)} positions, {len(target)} targets")
    wanted = tuple(torch.is_grad_enabled() and tensor.requires_grad for tensor in (hidden, weight))
    teacher = (target.hidden, target.weight) if isinstance(target, Dense) else None
    rows = _rows(target, name, beta, alpha, _kernels(hidden.device))
    total: torch.Tensor = _Fused.apply(hidden, weight, teacher, rows, wanted)  # type: ignore[no-untyped-call]
    return total


def _rows(target: Target, name: str, beta: float, alpha: float, kernels: ModuleType) -> Rows:
    """What gives the losses [r] of some rows of the target and makes their logits their gradient."""
    if isinstance(target, Dense):
        dense = kernels.dense(name, beta, alpha)
        return lambda _, block: dense(*block)
    softmax = kernels.scaled_softmax
    if isinstance(target, Sparse):
        listed = divergences.listed(target.ids, target.mass, target.rest, divergence=name != "cross_entropy")
        return lambda rows, block: divergences.sparse(block.student, listed.rows(rows), softmax)
    return lambda rows, block: divergences.one_right(block.student, target[rows], softmax)


def _kernels(device: torch.device) -> ModuleType:
    """What has `dense` and `scaled_softmax` for that device: Triton's on an NVIDIA or AMD GPU where it is installed."""
    if device.type == "cuda" and find_spec("triton"):
        return import_module("aasut.student.triton_loss")
    return divergences


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        teacher: tuple[torch.Tensor, torch.Tensor] | None,
        row_losses: Rows,
        wanted: tuple[bool, bool],
    ) -> torch.Tensor:
        pass_ = _Pass(hidden, weight, teacher, wanted)
        total = torch.zeros((), dtype=torch.float64, device=hidden.device)
        for start in range(0, len(hidden), pass_.block):
            total += pass_.rows(slice(start, min(start + pass_.block, len(hidden))), row_losses)
        ctx.gradients = [pass_.of_hidden, pass_.of_weight]
        ctx.dtypes = [hidden.dtype, weight.dtype]
        return total.float()

    @staticmethod
    def backward(ctx: Any, *grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradients are scaled in place, for the weight's is large: once."""
        if ctx.gradients is None:
            raise RuntimeError("The gradient of a fused loss was already taken.")
        gradients, ctx.gradients = ctx.gradients, None
        scaled = [
            None if gradient is None else gradient.mul_(grad[0]).to(dtype)
            for gradient, dtype in zip(gradients, ctx.dtypes, strict=True)
        ]
        return scaled[0], scaled[1], None, None, None


class _Pass:
    """The buffers of one forward pass, allocated once and gone with it, and what is done with a block of rows."""

    def __init__(
        self,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        teacher: tuple[torch.Tensor, torch.Tensor] | None,
        wanted: tuple[bool, bool],
    ) -> None:
        columns = len(weight) if teacher is None else min(len(weight), len(teacher[1]))
        self.block = max(1, min(BLOCK_ROWS, len(hidden)))
        self.at_once = max(1, min(PASS_VALUES // columns, self.block))
        self.projection = Projection(hidden, weight[:columns])
        self.teacher = None if teacher is None else Projection(teacher[0], teacher[1][:columns])
        self.of_hidden = torch.empty(hidden.shape, dtype=hidden.dtype, device=hidden.device) if wanted[0] else None
        self.of_weight = torch.zeros(weight.shape, device=weight.device) if wanted[1] else None
        both = teacher is not None
        shapes = (self.block, columns), (self.block * both, columns), (2 * both, self.at_once, columns)
        self.buffers = Block(*(torch.empty(shape, device=hidden.device) for shape in shapes))

    def rows(self, rows: slice, row_losses: Rows) -> torch.Tensor:
        """The sum of these rows' losses, their part of the gradients made."""
        count = rows.stop - rows.start
        student, teacher, spare = self.buffers
        student = student[:count]
        self.projection.logits(rows, student)
        if self.teacher is not None:
            self.teacher.logits(rows, teacher[:count])
        total = torch.zeros((), dtype=torch.float64, device=student.device)
        for start in range(0, count, self.at_once):
            stop = min(start + self.at_once, count)
            part = Block(student[start:stop], teacher[start:stop], spare[:, : stop - start])
            total += row_losses(slice(rows.start + start, rows.start + stop), part).double().sum()
        if self.of_weight is not None:
            self.projection.add_to_weight(rows, student, self.of_weight[: student.shape[1]])
        if self.of_hidden is not None:
            self.projection.back(student, self.of_hidden[rows])
        return total


@dataclass(frozen=True)
class Projection:
    """hidden [n, d] · weightᵀ, weight [V, d], into float32, and back. Where both are bfloat16, products are too."""

    hidden: torch.Tensor
    weight: torch.Tensor

    @property
    def brief(self) -> bool:
        return self.hidden.dtype == self.weight.dtype == torch.bfloat16

    def logits(self, rows: slice, out: torch.Tensor) -> None:
        """hidden[rows] · weightᵀ into out [rows, V]."""
        if self.brief and out.is_cuda:
            torch.mm(self.hidden[rows], self.weight.T, out_dtype=torch.float32, out=out)
            return
        hidden = self.hidden[rows].float()
        with _products(brief=self.brief):
            for columns, panel in self._panels():
                torch.mm(hidden, panel.T, out=out[:, columns])

    def back(self, gradient: torch.Tensor, out: torch.Tensor) -> None:
        """Logits' gradient [rows, V] · weight into out [rows, d], in hidden's type. May overwrite the gradient."""
        if self.brief:
            torch.mm(_narrowed(gradient), self.weight, out=out)
            return
        total = torch.zeros(out.shape, dtype=torch.float32, device=out.device)
        for columns, panel in self._panels():
            total.addmm_(gradient[:, columns], panel)
        out.copy_(total)

    def add_to_weight(self, rows: slice, gradient: torch.Tensor, total: torch.Tensor) -> None:
        """total [V, d] float32 += logits' gradient [rows, V]ᵀ · hidden[rows]."""
        with _products(brief=self.brief):
            total.addmm_(gradient.T, self.hidden[rows].float())

    def _panels(self) -> Iterator[tuple[slice, torch.Tensor]]:
        """The weight in float32: itself, or, so as not to hold a copy of it, some rows at a time."""
        if self.weight.dtype == torch.float32:
            yield slice(None), self.weight
            return
        buffer = torch.empty(min(PANEL_ROWS, len(self.weight)), self.weight.shape[1], device=self.weight.device)
        for start in range(0, len(self.weight), PANEL_ROWS):
            part = self.weight[start : start + PANEL_ROWS]
            yield slice(start, start + len(part)), buffer[: len(part)].copy_(part)


def _narrowed(values: torch.Tensor) -> torch.Tensor:
    """[r, V] float32 in bfloat16, in the first half of the memory of `values`: contiguous, lost to the caller."""
    narrow = values.view(torch.bfloat16).view(-1)[: values.numel()].view(values.shape)
    step = max(1, PASS_VALUES // values.shape[1])
    for start in range(0, len(values), step):
        narrow[start : start + step] = values[start : start + step].bfloat16()  # by way of a copy: the two overlap
    return narrow


@contextmanager
def _products(*, brief: bool) -> Iterator[None]:
    """Float32 matrix products on a CPU from operands rounded to bfloat16, where that loses nothing."""
    if not brief:
        yield
        return
    setting = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = setting.fp32_precision
    setting.fp32_precision = "bf16"
    try:
        yield
    finally:
        setting.fp32_precision = before
