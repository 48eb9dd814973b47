"""Row losses and their gradients in the student's logits, by formula, in place, in float32.

With s = softmax(student's logits z), t = softmax(teacher's logits), all in nats:

    forward KL       Σ t log(t/s)                                   dz = s - t
    reverse KL       K = Σ s log(s/t)                               dz = s (log(s/t) - K)
    generalised JSD  β KL(t‖m) + (1-β) KL(s‖m), m = βt + (1-β)s     dz = (1-β) s (log(s/m) - KL(s‖m))
    skewed KL        KL(t‖m), m = αt + (1-α)s                       dz = (1-α) s (Σ s t/m - t/m)
    total variation  ½ Σ |s - t|                                    dz = ½ s (sign(s-t) - Σ s sign(s-t))

The JSD is that of Agarwal et al., On-Policy Distillation, 2024 (β weights the teacher); the skewed KL that
of Ko et al., DistiLLM, 2024. Where s = t bit for bit, each loss and each gradient is exactly zero.

Every function takes finite logits [r, V] in float32, overwrites the student's with their gradient and uses
the teacher's and `spare` [2, r, V] as scratch; passes over memory are what they cost, so each reuses what it
has. They return the losses [r].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

# Stands for a probability that underflows: the smallest normal float32. s/m and t/m stay in bounds, and log is finite.
TINY = torch.finfo(torch.float32).tiny

SCRATCH = 2  # planes of it

RowLoss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def forward_kl(student: torch.Tensor, teacher: torch.Tensor, spare: torch.Tensor) -> torch.Tensor:
    """KL(t‖s), summed as Σ t log(t/s) + s - t: no term is negative, so that no rounding makes the sum so."""
    s, t = spare
    ratio = _log_ratio(_softmax(teacher, t), _softmax(student, s))
    teacher.sub_(student).add_(ratio)
    torch.sub(s, t, out=student)
    return torch.addcmul(student, t, teacher, out=teacher).sum(dim=1)


def cross_entropy(student: torch.Tensor, teacher: torch.Tensor, spare: torch.Tensor) -> torch.Tensor:
    """-Σ t log s: forward KL and the teacher's entropy."""
    s, product = spare
    mass = _softmax(student, s)
    _softmax(teacher, teacher)
    loss = mass.log()[:, 0] - torch.mul(teacher, student, out=product).sum(dim=1)
    torch.sub(s, teacher, out=student)
    return loss


def reverse_kl(student: torch.Tensor, teacher: torch.Tensor, spare: torch.Tensor) -> torch.Tensor:
    """KL(s‖t), summed as Σ s log(s/t) + t - s."""
    s, t = spare
    ratio = _log_ratio(_softmax(student, s), _softmax(teacher, t))
    student.sub_(teacher).add_(ratio)
    t.sub_(s)
    loss = torch.addcmul(t, s, student, out=teacher).sum(dim=1)
    student.sub_(loss[:, None]).mul_(s)
    return loss


def jsd(student: torch.Tensor, teacher: torch.Tensor, spare: torch.Tensor, beta: float) -> torch.Tensor:
    """Generalised Jensen-Shannon divergence, 0 < beta < 1."""
    mixture, term = spare
    s, t = _floored(student), _floored(teacher)
    torch.lerp(s, t, beta, out=mixture)
    of_teacher = torch.div(t, mixture, out=term).log_().mul_(t).sum(dim=1)
    of_student = torch.div(s, mixture, out=term).log_().mul_(s).sum(dim=1)
    s.mul_(of_student[:, None])
    torch.sub(term, s, out=s).mul_(1 - beta)
    return beta * of_teacher + (1 - beta) * of_student


def skewed_kl(student: torch.Tensor, teacher: torch.Tensor, spare: torch.Tensor, alpha: float) -> torch.Tensor:
    """KL(t‖αt + (1-α)s), 0 < alpha < 1. The gradient is taken of t/m - 1, so that it is zero where s = t."""
    ratio, term = spare
    s, t = _floored(student), _floored(teacher)
    torch.lerp(s, t, alpha, out=ratio)
    torch.div(t, ratio, out=ratio)
    loss = torch.log(ratio, out=term).mul_(t).sum(dim=1)
    ratio.sub_(1).mul_(s)
    s.mul_(ratio.sum(dim=1, keepdim=True)).sub_(ratio).mul_(1 - alpha)
    return loss


def total_variation(student: torch.Tensor, teacher: torch.Tensor, spare: torch.Tensor) -> torch.Tensor:
    """½ Σ |s - t|, the largest difference between the two in the probability of anything."""
    difference, sign = spare
    _softmax(student, student)
    _softmax(teacher, teacher)
    s, t = student, teacher
    torch.sub(s, t, out=difference)
    torch.sign(difference, out=sign)
    loss: torch.Tensor = difference.mul_(sign).sum(dim=1) / 2
    sign.mul_(s)
    s.mul_(sign.sum(dim=1, keepdim=True))
    torch.sub(sign, s, out=s).mul_(0.5)
    return loss


def dense(name: str, beta: float, alpha: float) -> RowLoss:
    """The row loss of that name against a whole distribution."""
    if name == "jsd":
        return lambda student, teacher, spare: jsd(student, teacher, spare, beta)
    if name == "skewed_kl":
        return lambda student, teacher, spare: skewed_kl(student, teacher, spare, alpha)
    named: dict[str, RowLoss] = {
        "cross_entropy": cross_entropy,
        "forward_kl": forward_kl,
        "reverse_kl": reverse_kl,
        "total_variation": total_variation,
    }
    return named[name]


@dataclass(frozen=True)
class Listed:
    """A sparse target made ready: each token that carries mass once.

    ids [n, K] ascending within a row, a token that is listed twice, or padding, as a copy of one that carries mass
    · mass [n, K] of the token, whichever copy · first [n, K] float32, 1 at one copy of each token, else 0
    · total [n] listed mass · rest [n] | None · constant [n]: what the loss has beside the terms of the student.
    """

    ids: torch.Tensor
    mass: torch.Tensor
    first: torch.Tensor
    total: torch.Tensor
    rest: torch.Tensor | None
    constant: torch.Tensor

    def rows(self, rows: slice) -> Listed:
        rest = None if self.rest is None else self.rest[rows]
        parts = (self.ids[rows], self.mass[rows], self.first[rows], self.total[rows])
        return Listed(*parts, rest, self.constant[rows])


def listed(ids: torch.Tensor, mass: torch.Tensor, rest: torch.Tensor | None, *, divergence: bool) -> Listed:
    """`Sparse`'s columns made ready for `sparse`: forward KL where `divergence`, else cross-entropy.

    A row without listed mass teaches nothing, whatever its rest.
    """
    mass = mass.float()
    heaviest = ids.gather(1, mass.argmax(dim=1, keepdim=True))
    ids, order = torch.where(mass > 0, ids, heaviest).sort(dim=1)
    mass = mass.gather(1, order)
    first = torch.ones_like(ids)
    first[:, 1:] = (ids[:, 1:] != ids[:, :-1]).long()
    token = first.cumsum(dim=1) - 1
    mass = torch.zeros_like(mass).scatter_add_(1, token, mass).gather(1, token)
    once = first.float()
    total = (mass * once).sum(dim=1)
    rest = None if rest is None else torch.where(total > 0, rest.float(), 0.0)
    constant = torch.zeros_like(total)
    if divergence:
        constant = torch.special.xlogy(mass, mass).mul_(once).sum(dim=1)
        if rest is not None:
            constant += torch.special.xlogy(rest, rest)
    return Listed(ids, mass, once, total, rest, constant)


def scaled_softmax(logits: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [r, V] become scale [r] · softmax. Returns each row's highest logit and Σ exp(logit - highest)."""
    highest = logits.amax(dim=1, keepdim=True)
    logits.sub_(highest).exp_()
    mass = logits.sum(dim=1, keepdim=True)
    logits.mul_(scale[:, None] / mass)
    return highest[:, 0], mass[:, 0]


ScaledSoftmax = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def sparse(logits: torch.Tensor, target: Listed, softmax: ScaledSoftmax = scaled_softmax) -> torch.Tensor:
    """Σ over listed v of t_v (log t_v - log s_v), and r (log r - log(1-S)) for the rest, S the listed v's share in s.

    logits [r, V] become the gradient: with M the listed mass, (M + r) s_v - t_v where listed, and
    (M + r) s_v - r s_v / (1-S) elsewhere.
    """
    chosen = logits.gather(1, target.ids)
    weighed = target.mass * target.first
    if target.rest is None:
        highest, mass = softmax(logits, target.total)
        logits.scatter_add_(1, target.ids, -weighed)
        log_s = (chosen - highest[:, None]) - mass.log()[:, None]
        return target.constant - (weighed * log_s).sum(dim=1)
    # The unlisted tokens' mass is summed on its own: 1 - S would lose it where S is nearly 1.
    logits.scatter_(1, target.ids, torch.finfo(torch.float32).min)
    highest, mass = softmax(logits, torch.ones_like(target.total))
    unlisted = highest + mass.log()
    once = chosen.masked_fill(target.first == 0, float("-inf"))
    whole = torch.logaddexp(unlisted, once.logsumexp(dim=1))
    log_s = chosen - whole[:, None]
    everything = target.total + target.rest
    logits.mul_((everything * (unlisted - whole).exp() - target.rest)[:, None])
    logits.scatter_(1, target.ids, everything[:, None] * log_s.exp() - target.mass)
    return target.constant - (weighed * log_s).sum(dim=1) - target.rest * (unlisted - whole)


def one_right(logits: torch.Tensor, ids: torch.Tensor, softmax: ScaledSoftmax = scaled_softmax) -> torch.Tensor:
    """Cross-entropy to one right token a row, ids [r]: -log s_id. logits [r, V] become s, less 1 at the id."""
    right = ids[:, None]
    chosen = logits.gather(1, right)
    one = torch.ones_like(chosen)
    highest, mass = softmax(logits, one[:, 0])
    logits.scatter_add_(1, right, -one)
    return mass.log() - (chosen[:, 0] - highest)


def _softmax(logits: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """Probabilities into `out`, which may be the logits; else these lose their highest. Returns Σ exp of that, [r, 1].

    torch's own kernel sums less exactly: it is 1e-4 off on a flat row of 131,072.
    """
    torch.exp(logits.sub_(logits.amax(dim=1, keepdim=True)), out=out)
    mass = out.sum(dim=1, keepdim=True)
    out.div_(mass)
    return mass


def _floored(logits: torch.Tensor) -> torch.Tensor:
    """The logits' softmax in their place, at least TINY."""
    _softmax(logits, logits)
    return logits.clamp_(min=TINY)


def _log_ratio(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """log(other/one): log(s/t) less the difference of the logits. Small where the two are alike, so exact there."""
    return (other.double() / one.double()).log().float()
