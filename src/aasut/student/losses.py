"""SEAM: losses. `(hidden states, output weight, target, allowed) -> sum of the loss`.

A loss takes hidden states and the output weight, not logits, so that the projection can be fused
with it. It returns a sum; the caller divides once by the global number of targets, so that the
gradient does not depend on how a step is cut into micro-batches.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from aasut.errors import RecipeError

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]


def cross_entropy(
    hidden: torch.Tensor, weight: torch.Tensor, target: torch.Tensor, allowed: torch.Tensor | None = None
) -> torch.Tensor:
    """Sum over rows of -Σ_v target_v log q_v, with q = softmax over the allowed v of hidden · weight_v.

    hidden [rows, d] · weight [V, d] · target [rows, V], nonnegative, in any total mass · allowed [rows, V],
    None for all. Computed in float32. Its gradient in the logits is (target's mass) q - target.
    """
    logits = hidden.float() @ weight.float().T
    if allowed is not None:
        logits = logits.masked_fill(~allowed, float("-inf"))
    logq = torch.log_softmax(logits, dim=1).masked_fill(target == 0, 0.0)
    total: torch.Tensor = -(target * logq).sum()
    return total


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
