"""A loss fused with the output projection: logits exist a block of rows at a time, and gradients are made there.

In each block: logits -> row losses and the gradient in the logits, in place -> the hidden states' gradient, and
the weight's where it wants one, summed in float32. Backward only multiplies by the gradient from above; a weight's
that has a `main_grad` is added there at once, over the divisor that the step has set.
How logits are computed from bfloat16 is said in `projection`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NamedTuple

import torch

from aasut.student import divergences, main_grad
from aasut.student.divergences import listed as prepare
from aasut.student.divergences import one_right, sparse
from aasut.student.projection import Projection
from aasut.student.targets import Dense, Sparse, Target

BLOCK_ROWS = 512  # of logits at once on a CPU: with more its matrix products are no faster, below 64 much slower
LEAST_ROWS = 64  # a block is at most a quarter of all rows, but not below this
BLOCK_VALUES = 2**27  # logits at once on a GPU, where larger products are faster
PASS_VALUES = 2**19  # logits whose row losses are taken at once: they and their scratch stay in the cache
GPU_PASS_VALUES = 2**25  # enough rows for every multiprocessor


class Part(NamedTuple):
    """Logits of some rows, [r, V] float32, and scratch [2, r, V]. Without a teacher these last two are empty."""

    student: torch.Tensor
    teacher: torch.Tensor
    spare: torch.Tensor


RowLosses = Callable[[slice, Part], torch.Tensor]


@dataclass(frozen=True)
class Measure:
    """What rows of hidden states are measured by.

    losses: from some rows and their logits, the losses [r], the student's logits made their gradient · teacher:
    hidden states and weight | None · named [n, K]: tokens that a target names | None · scratch: planes that
    `losses` needs.
    """

    losses: RowLosses
    teacher: tuple[torch.Tensor, torch.Tensor] | None
    named: torch.Tensor | None
    scratch: int


def loss(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    target: Target,
    name: str,
    beta: float,
    alpha: float,
    share: float | torch.Tensor = 1.0,
) -> torch.Tensor:
    """`share` times the sum over rows of the named loss, in nats: float32, differentiable in hidden and weight.

    hidden [n, d] · weight [V, d] · share: one, or one a row [n]. A gradient is made only for what requires one.
    Against `Dense` only the tokens that both have are counted.
    """
    if len(target) != len(hidden):
        raise ValueError(f"{len(hidden)} positions, {len(target)} targets")
    wanted = tuple(torch.is_grad_enabled() and tensor.requires_grad for tensor in (hidden, weight))
    measure = _measure(target, name, beta, alpha, _kernels(hidden.device))
    if isinstance(share, torch.Tensor) or share != 1:
        measure = replace(measure, losses=_scaled(measure.losses, share))
    total: torch.Tensor = _Fused.apply(hidden, weight, measure, wanted)  # type: ignore[no-untyped-call]
    return total


def right_losses(hidden: torch.Tensor, weight: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Cross-entropy to the one right token of each row, [n] float32, in nats, without a gradient."""
    measure = _measure(right, "cross_entropy", 0.5, 0.1, _kernels(hidden.device))
    found = torch.empty(len(hidden), device=hidden.device)

    def kept(rows: slice, part: Part) -> torch.Tensor:
        found[rows] = measure.losses(rows, part)
        return found[rows]

    with torch.no_grad():
        _Fused.apply(hidden, weight, replace(measure, losses=kept), (False, False))  # type: ignore[no-untyped-call]
    return found


def _measure(target: Target, name: str, beta: float, alpha: float, kernels: ModuleType) -> Measure:
    if isinstance(target, Dense):
        dense = kernels.dense(name, beta, alpha)
        return Measure(lambda _, part: dense(*part), (target.hidden, target.weight), None, kernels.SCRATCH)
    softmax = kernels.scaled_softmax
    if isinstance(target, Sparse):
        listed = prepare(target.ids, target.mass, target.rest, divergence=name != "cross_entropy")
        return Measure(lambda rows, part: sparse(part.student, listed.rows(rows), softmax), None, target.ids, 0)
    right = target
    return Measure(lambda rows, part: one_right(part.student, right[rows], softmax), None, right[:, None], 0)


def _scaled(losses: RowLosses, share: float | torch.Tensor) -> RowLosses:
    """Losses and gradients times `share`: a weight's gradient goes to its sum before the loss can be multiplied."""

    def scaled(rows: slice, part: Part) -> torch.Tensor:
        found = losses(rows, part)
        each = share[rows] if isinstance(share, torch.Tensor) else share
        part.student.mul_(each[:, None] if isinstance(each, torch.Tensor) else each)
        return found * each

    return scaled


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
        measure: Measure,
        wanted: tuple[bool, bool],
    ) -> torch.Tensor:
        pass_ = _Pass(hidden, weight, measure, wanted)
        total = torch.zeros((), dtype=torch.float64, device=hidden.device)
        for start in range(0, len(hidden), pass_.block):
            total += pass_.rows(slice(start, min(start + pass_.block, len(hidden))))
        ctx.gradients = [pass_.of_hidden, None if pass_.sum else pass_.of_weight]
        ctx.dtypes = [hidden.dtype, weight.dtype]
        ctx.divisor = pass_.divisor if pass_.sum else 0.0
        return total.float()

    @staticmethod
    def backward(ctx: Any, *grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradients are scaled in place, for the weight's is large: once."""
        if ctx.gradients is None:
            raise RuntimeError("The gradient of a fused loss was already taken.")
        if ctx.divisor:
            right = (grad[0] * ctx.divisor - 1).abs() < 1e-3
            torch._assert_async(right, "the loss was divided by another number than main_grad was told")
        gradients, ctx.gradients = ctx.gradients, None
        scaled = [
            None if gradient is None else gradient.mul_(grad[0]).to(dtype)
            for gradient, dtype in zip(gradients, ctx.dtypes, strict=True)
        ]
        return scaled[0], scaled[1], None, None


class _Pass:
    """The buffers of one forward pass, allocated once and gone with it, and what is done with a block of rows."""

    def __init__(
        self,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        measure: Measure,
        wanted: tuple[bool, bool],
    ) -> None:
        self.measure, teacher = measure, measure.teacher
        columns = len(weight) if teacher is None else min(len(weight), len(teacher[1]))
        self.block, self.at_once = _sizes(len(hidden), columns, hidden.device)
        self.projection = Projection(hidden, weight[:columns], self.at_once)
        self.teacher = None if teacher is None else Projection(teacher[0], teacher[1][:columns], self.at_once)
        self.of_hidden = torch.empty(hidden.shape, dtype=hidden.dtype, device=hidden.device) if wanted[0] else None
        self.sum = main_grad.of(weight) if wanted[1] else None
        self.divisor = self.sum.divisor if self.sum else 1.0
        self.of_weight = None
        if wanted[1]:
            self.of_weight = self.sum.open() if self.sum else torch.zeros(weight.shape, device=weight.device)

        def buffer(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
            return torch.empty(*shape, columns, dtype=dtype, device=hidden.device)

        def block(of: Projection | None) -> tuple[torch.Tensor, torch.Tensor]:
            """(a block of logits, scratch to read some of its rows into where they are rounded)."""
            if of is None:
                return buffer(0), buffer(0)
            return buffer(self.block, dtype=of.held), buffer(self.at_once if of.held != torch.float32 else 0)

        (self.student_block, student), (self.teacher_block, other) = block(self.projection), block(self.teacher)
        self.spare = Part(student, other, buffer(measure.scratch if self.teacher else 0, self.at_once))

    def rows(self, rows: slice) -> torch.Tensor:
        """The sum of these rows' losses, their part of the gradients made."""
        count = rows.stop - rows.start
        named = None if self.measure.named is None else self.measure.named[rows]
        spare = self.spare
        student = self.projection.logits(rows, self.student_block[:count], spare.student, named)
        teacher = self.teacher and self.teacher.logits(rows, self.teacher_block[:count], spare.teacher)
        total = torch.zeros((), dtype=torch.float64, device=student.held.device)
        for start in range(0, count, self.at_once):
            some = slice(start, min(start + self.at_once, count))
            part = Part(
                student.read(some, spare.student),
                teacher.read(some, spare.teacher) if teacher else spare.teacher,
                spare.spare[:, : some.stop - start],
            )
            total += self.measure.losses(slice(rows.start + start, rows.start + some.stop), part).double().sum()
            student.write(some, part.student)
        gradient = self.projection.operand(student.held)
        if self.of_weight is not None:
            into = self.of_weight[: gradient.shape[1]]
            self.projection.add_to_weight(rows, gradient, into, self.divisor)
        if self.of_hidden is not None:
            self.projection.back(gradient, self.of_hidden[rows])
        return total


def _sizes(rows: int, columns: int, device: torch.device) -> tuple[int, int]:
    """Rows of a block of logits, and how many of them the row losses are taken of at once."""
    gpu = device.type == "cuda"
    most = max(1, BLOCK_VALUES // columns) if gpu else BLOCK_ROWS
    block = max(1, min(rows, most, max(LEAST_ROWS, rows // 4)))
    return block, max(1, min(block, (GPU_PASS_VALUES if gpu else PASS_VALUES) // columns))
