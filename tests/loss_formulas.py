"""The losses as their formulas stand, from logits, for float64 and autograd."""

from __future__ import annotations

import torch

NAMES = ("cross_entropy", "forward_kl", "reverse_kl", "jsd", "skewed_kl", "total_variation")


def plain(name: str, z: torch.Tensor, u: torch.Tensor, beta: float, alpha: float) -> torch.Tensor:
    """Row losses [r] as the formulas stand, for float64 and autograd."""
    log_s, log_t = z.log_softmax(1), u.log_softmax(1)
    s, t = log_s.exp(), log_t.exp()
    if name == "cross_entropy":
        return -(t * log_s).sum(1)
    if name == "forward_kl":
        return (t * (log_t - log_s)).sum(1)
    if name == "reverse_kl":
        return (s * (log_s - log_t)).sum(1)
    if name == "jsd":
        m = (beta * t + (1 - beta) * s).clamp(min=1e-300).log()
        return beta * (t * (log_t - m)).sum(1) + (1 - beta) * (s * (log_s - m)).sum(1)
    if name == "skewed_kl":
        return (t * (log_t - (alpha * t + (1 - alpha) * s).clamp(min=1e-300).log())).sum(1)
    return (t - s).abs().sum(1) / 2


def plain_sparse(z: torch.Tensor, ids: torch.Tensor, mass: torch.Tensor, rest: torch.Tensor | None) -> torch.Tensor:
    """Row losses [r]: forward KL, the rest as one further token whose probability is that of all that is unlisted."""
    t = torch.zeros(z.shape, dtype=torch.float64).scatter_add_(1, ids, mass.double())
    log_s = z.log_softmax(1)
    losses = (torch.special.xlogy(t, t) - t * log_s).sum(1)
    if rest is not None:
        r = torch.where(mass.sum(1) > 0, rest.double(), 0.0)
        unlisted = z.masked_fill(t > 0, float("-inf")).logsumexp(1) - z.logsumexp(1)
        losses = losses + torch.special.xlogy(r, r) - r * unlisted
    return losses
