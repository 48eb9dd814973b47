"""SEAM: losses. `(hidden states, output weight, target, allowed) -> sum of the loss`.

A loss takes hidden states and the output weight, not logits, so that the projection can be fused
with it. It returns a sum over positions, in nats; the caller divides once by the global number of
targets, so that the gradient does not depend on how a step is cut into micro-batches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from aasut.errors import RecipeError
from aasut.student import fused
from aasut.student.targets import Dense, Sparse, Target

Loss = Callable[[torch.Tensor, torch.Tensor, Target, torch.Tensor | None], torch.Tensor]

# What each loss is not linear in: "" where the mean over samples of a teacher's distribution has the right gradient.
LOSSES: dict[str, str] = {
    "cross_entropy": "",
    "forward_kl": "",
    "reverse_kl": "the logarithm of the teacher's probability of every token, which is 0 where none was drawn",
    "jsd": "the logarithm of a mixture with the teacher's distribution",
    "skewed_kl": "the logarithm of a mixture with the teacher's distribution",
    "total_variation": "the absolute difference from the teacher's distribution",
}


def cross_entropy(
    hidden: torch.Tensor, weight: torch.Tensor, target: Target, allowed: torch.Tensor | None = None
) -> torch.Tensor:
    """Sum over rows of -Σ_v target_v log q_v, with q = softmax over the allowed v of hidden · weight_v.

    hidden [n, d] · weight [V, d] · target: `targets.Target`, or float [n, V], nonnegative, in any total mass
    · allowed [n, V] bool, with a float target only, None for all. Computed in float32. Its gradient in the
    logits is (target's mass) q - target.
    """
    if isinstance(target, torch.Tensor) and target.ndim == 2:
        logits = hidden.float() @ weight.float().T
        if allowed is not None:
            logits = logits.masked_fill(~allowed, float("-inf"))
        logq = torch.log_softmax(logits, dim=1).masked_fill(target == 0, 0.0)
        return -(target * logq).sum()
    if allowed is not None:
        raise ValueError("allowed columns go with a float target")
    return fused.loss(hidden, weight, target, "cross_entropy", 0.5, 0.1)


@dataclass(frozen=True)
class Divergence:
    """One of LOSSES against `targets.Target`, with what it is set to: see `divergences` for the formulas.

    It is taken times `share`, and so are its gradients, those that go straight to a weight's `main_grad` too.
    """

    name: str
    beta: float
    alpha: float
    share: float = 1.0

    def __call__(
        self, hidden: torch.Tensor, weight: torch.Tensor, target: Target, allowed: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The sum over n rows, in nats, at least 0. hidden [n, d] · weight [V, d] · allowed None.

        Raises RecipeError where the loss cannot be taken on such a target. Against one right token a row,
        forward KL is cross-entropy.
        """
        if allowed is not None:
            raise ValueError("allowed columns go with cross-entropy")
        if isinstance(target, Dense):
            return fused.loss(hidden, weight, target, self.name, self.beta, self.alpha, self.share)
        if isinstance(target, Sparse):
            if reason := refusal(self.name, sparse=True):
                raise RecipeError(reason, "Choose forward_kl, or a teacher that runs alongside.")
        elif self.name != "forward_kl" or target.ndim != 1:
            raise RecipeError(
                f"The loss {self.name} needs a teacher's distribution over all tokens; here are right answers alone.",
                "Choose cross_entropy.",
            )
        return fused.loss(hidden, weight, target, self.name, self.beta, self.alpha, self.share)


def refusal(name: str, sparse: bool) -> str:
    """Why that loss cannot be taken on sparse targets; "" where it can, and for a teacher's whole distribution."""
    if not sparse or not LOSSES[name]:
        return ""
    return (
        f"The loss {name} is biased on sampled targets: it takes {LOSSES[name]},"
        " so that its mean over samples is not its value on the teacher's distribution."
    )


def get(name: str, *, beta: float = 0.5, alpha: float = 0.1, share: float = 1.0) -> Loss:
    """The loss of that name; beta is the teacher's weight in `jsd`, alpha its weight in `skewed_kl`.

    `share` is what it is multiplied by, of `cross_entropy` always 1: forward KL is that against right tokens.

    Raises RecipeError for an unknown name, or a weight that makes the loss another one.
    """
    if name not in LOSSES:
        raise RecipeError(f"There is no loss {name!r}.", f"Choose one of: {', '.join(sorted(LOSSES))}.")
    for loss, word, weight in (("jsd", "beta", beta), ("skewed_kl", "alpha", alpha)):
        if name == loss and not 0 < weight < 1:
            raise RecipeError(
                f"The loss {name} has {word} {weight}: the mixture would be one of the two distributions alone.",
                f"Set {word} between 0 and 1, or choose forward_kl or reverse_kl.",
            )
    return cross_entropy if name == "cross_entropy" else Divergence(name, beta, alpha, share)


def entropy(target: torch.Tensor) -> torch.Tensor:
    """Sum over rows of -Σ_v t_v log t_v: the least that the cross-entropy can be."""
    total: torch.Tensor = -torch.special.xlogy(target, target).sum()
    return total
