"""SEAM: losses. `(hidden states, output weight, target, allowed) -> sum of the loss`.

A loss takes hidden states and the output weight, not logits, so that the projection can be fused
with it. It returns a sum; the caller divides once by the global number of targets, so that the
gradient does not depend on how a step is cut into micro-batches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from aasut.errors import RecipeError

BLOCK_ROWS = 256

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]


def cross_entropy(
    hidden: torch.Tensor, weight: torch.Tensor, target: torch.Tensor, allowed: torch.Tensor | None = None
) -> torch.Tensor:
    """Sum over rows of -Σ_v target_v log q_v, with q = softmax over the allowed v of hidden · weight_v.

    hidden [rows, d] · weight [V, d] · target [rows, V], nonnegative, in any total mass, or [rows] whole
    numbers, the one v that is right · allowed [rows, V], None for all. Computed in float32. Its gradient in
    the logits is (target's mass) q - target.
    """
    if target.ndim == 1:
        total: torch.Tensor = _OneRight.apply(hidden, weight, target)  # type: ignore[no-untyped-call]
        return total
    logits = hidden.float() @ weight.float().T
    if allowed is not None:
        logits = logits.masked_fill(~allowed, float("-inf"))
    logq = torch.log_softmax(logits, dim=1).masked_fill(target == 0, 0.0)
    return -(target * logq).sum()


class _OneRight(torch.autograd.Function):
    """Cross-entropy to one right column a row. The gradient is made in the forward pass, block by block.

    At most a [BLOCK_ROWS, V] block of logits is held; the weight gets no gradient.
    """

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        matrix = weight.float()
        total = torch.zeros((), dtype=torch.float64, device=hidden.device)
        gradient = torch.empty(hidden.shape, dtype=torch.float32, device=hidden.device)
        for start in range(0, len(target), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            logits = hidden[rows].float() @ matrix.T
            right = target[rows, None]
            log_mass = torch.logsumexp(logits, dim=1, keepdim=True)
            total += (log_mass - logits.gather(1, right)).double().sum()
            q = logits.sub_(log_mass).exp_()
            q.scatter_add_(1, right, -torch.ones_like(right, dtype=q.dtype))
            gradient[rows] = q @ matrix
        ctx.save_for_backward(gradient)
        ctx.dtype = hidden.dtype
        return total.float()

    @staticmethod
    def backward(ctx: Any, *grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * grad[0]).to(ctx.dtype), None, None


def entropy(target: torch.Tensor) -> torch.Tensor:
    """Sum over rows of -Σ_v t_v log t_v: the least that the cross-entropy can be."""
    total: torch.Tensor = -torch.special.xlogy(target, target).sum()
    return total


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy}


def get(name: str) -> Loss:
    """The loss of that name. Raises RecipeError for an unknown one."""
    if name not in LOSSES:
        raise RecipeError(f"There is no loss {name!r}.", f"Choose one of: {', '.join(sorted(LOSSES))}.")
    return LOSSES[name]
