"""The losses as their papers write them, on whole logits in float64: what the fused ones are held against."""

from __future__ import annotations

import torch

# Hinton et al. 2015; Gu et al. 2024 (reverse KL); Agarwal et al. 2024 (generalised JSD); Ko et al. 2024 (skewed KL);
# Wen et al. 2023 (total variation). p is the teacher's distribution, q the student's.


def loss(name: str, student: torch.Tensor, teacher: torch.Tensor, beta: float, alpha: float) -> torch.Tensor:
    """Each row's loss in nats, [n] float64, from the logits of student and teacher, [n, V]."""
    log_q, log_p = (torch.log_softmax(logits.double(), dim=1) for logits in (student, teacher))
    q, p = log_q.exp(), log_p.exp()
    if name == "cross_entropy":
        return -(p * log_q).sum(1)
    if name == "forward_kl":
        return (p * (log_p - log_q)).sum(1)
    if name == "reverse_kl":
        return (q * (log_q - log_p)).sum(1)
    if name == "jsd":
        log_m = (beta * p + (1 - beta) * q).log()
        return beta * (p * (log_p - log_m)).sum(1) + (1 - beta) * (q * (log_q - log_m)).sum(1)
    if name == "skewed_kl":
        return (p * (log_p - (alpha * p + (1 - alpha) * q).log())).sum(1)
    assert name == "total_variation", name
    return 0.5 * (p - q).abs().sum(1)


def entropy(logits: torch.Tensor) -> torch.Tensor:
    """Each row's entropy in nats, [n] float64: the least that the cross-entropy to it can be."""
    log_p = torch.log_softmax(logits.double(), dim=1)
    return -(log_p.exp() * log_p).sum(1)
