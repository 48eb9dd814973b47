"""Are the losses right on this model's own numbers? Each is held against its formula in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from aasut.doctor import reference
from aasut.doctor.finding import Finding
from aasut.student import losses
from aasut.student.fused import BLOCK_ROWS
from aasut.student.logit_cache import sparse
from aasut.student.targets import Dense, Target
from aasut.student.thinning import thin

NAMES = ("cross_entropy", "forward_kl", "reverse_kl", "jsd", "skewed_kl", "total_variation")
CLOSE = 1e-4  # largest relative difference: divergences of near models are small differences of float32 logits
KINKED = 1e-2  # of total variation's gradient, which jumps where two probabilities cross, rounding or not
ZERO = 1e-5  # nats a token, and share of an ordinary gradient, that rounding may leave where nothing should be
LEAST = 0.1  # nats a token to which a difference is relative at least
BELOW_ZERO = -1e-6  # nats of one token
ERRORS = 3.0  # standard errors of a mean that should be zero
DRAWS, SPARSE_ROWS, THRESHOLD = 48, 16, 0.02  # draws of sparse targets, of how many tokens, how thin
TOP = 20  # likeliest tokens that a cut-off target would keep
SLICE = 32  # rows that are worked on at once in float64
NEGATIVE_ROWS = 6
BETA, ALPHA = 0.3, 0.1  # a beta at which swapped weights show


@dataclass(frozen=True)
class Sample:
    """Last hidden states [n, d] where this model predicts answers, its output matrix [V, d], and the right ids [n].

    `teacher` [n, d] are hidden states that are not far off: what a student meets in the middle of its training.
    """

    hidden: torch.Tensor
    weight: torch.Tensor
    ids: torch.Tensor
    teacher: torch.Tensor

    @classmethod
    def of(cls, hidden: torch.Tensor, weight: torch.Tensor, ids: torch.Tensor) -> Sample:
        """The teacher is the model itself with a tenth of noise on its hidden states."""
        noise = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(7))
        scale = 0.1 * hidden.float().std(dim=1, keepdim=True)
        return cls(hidden.float(), weight.float(), ids, hidden.float() + scale * noise)


def examine(sample: Sample) -> Iterator[Finding]:
    """Student = teacher is zero, chunked equals dense, nothing is negative."""
    yield equal_models(sample)
    yield equal_models_sparse(sample)
    yield chunked(sample)
    yield negative(sample)


def equal_models(sample: Sample) -> Finding:
    """A student that is its teacher has no loss to learn from, and no gradient."""
    target = Dense(sample.hidden, sample.weight)
    usual = _usual_gradient(sample)
    worst, worst_gradient, where = 0.0, 0.0, ""
    for name in NAMES:
        value, gradient = _measured(losses.get(name, beta=BETA, alpha=ALPHA), sample.hidden, sample.weight, target)
        over = abs(value - _floor(name, sample)) / len(sample.ids)
        share = float(gradient.norm()) / usual
        if max(over, share) > max(worst, worst_gradient):
            where = name
        worst, worst_gradient = max(worst, over), max(worst_gradient, share)
    shown = f"dense targets: loss {worst:.1e} nats a token, gradient {worst_gradient:.1e} of an ordinary one"
    if max(worst, worst_gradient) <= ZERO:
        return Finding("student = teacher", shown)
    problem = (
        f"{where} is not zero where student and teacher are one model ({shown}): training would push a perfect "
        "student away from its teacher and settle somewhere else."
    )
    return Finding("student = teacher", shown, "fault", problem)


def equal_models_sparse(sample: Sample) -> Finding:
    """On targets drawn from its own distribution a student is pushed nowhere on average.

    A second set of draws, four times as many, has the last word where the first one is out by chance.
    """
    errors = [0.0]
    for seed, draws in ((1, DRAWS), (2, 4 * DRAWS)):
        errors = _pushes(sample, seed, draws)
        if max(map(abs, errors)) <= ERRORS:
            break
    else:
        worst = max(errors, key=abs)
        problem = (
            f"On sparse targets the mean gradient where student and teacher are one model is {worst:.1f} standard "
            "errors from zero: the student would be drawn to another distribution than the teacher's, as with a "
            "cut-off tail, which makes it over-confident."
        )
        return Finding("student = teacher", f"sparse targets: {worst:.1f} standard errors", "fault", problem)
    worst = max(map(abs, errors))
    return Finding("student = teacher", f"sparse targets: mean gradient zero within {worst:.1f} standard errors")


def chunked(sample: Sample) -> Finding:
    """The fused losses, over several blocks, against their formulas on whole logits."""
    worst, where = 0.0, ""
    times = BLOCK_ROWS // len(sample.ids) + 1
    hidden, teacher = (states.repeat(times, 1) for states in (sample.hidden, sample.teacher))
    for name in NAMES:
        loss = losses.get(name, beta=BETA, alpha=ALPHA)
        value, gradient = _measured(loss, hidden, sample.weight, Dense(teacher, sample.weight))
        right, right_gradient = _reference(name, sample)
        off = _relative(gradient, right_gradient.repeat(times, 1))
        off *= CLOSE / KINKED if name == "total_variation" else 1
        off = max(off, abs(value / times - right) / max(abs(right), LEAST * len(sample.ids)))
        worst, where = (off, name) if off > worst else (worst, where)
    if worst <= CLOSE:
        return Finding("chunked = dense", f"within {worst:.1e} of the formulas in float64, {len(NAMES)} losses")
    problem = (
        f"{where}, computed block by block, differs by {worst:.1e} of its size from its formula: every step would "
        "follow a gradient that is off by so much."
    )
    return Finding("chunked = dense", f"{where} is off by {worst:.1e}", "fault", problem)


def negative(sample: Sample) -> Finding:
    """Divergences of single tokens, teachers far and near, in float32 and in bfloat16."""
    least, where = 0.0, ""
    for dtype in (torch.float32, torch.bfloat16):
        weight = sample.weight.to(dtype)
        for near in (1.0, 1e-3):
            teacher = (sample.hidden + near * (sample.teacher - sample.hidden)).to(dtype)
            for name in NAMES[1:]:
                loss = losses.get(name, beta=BETA, alpha=ALPHA)
                for row in range(min(NEGATIVE_ROWS, len(teacher))):
                    one = slice(row, row + 1)
                    value = float(loss(sample.hidden[one].to(dtype), weight, Dense(teacher[one], weight), None))
                    if value < least:
                        least, where = value, f"{name} in {str(dtype).removeprefix('torch.')}"
    if least >= BELOW_ZERO:
        return Finding("no loss below zero", f"the least of a token is {least:.1e} nats, float32 and bfloat16")
    problem = (
        f"{where} of a token is {least:.1e} nats, and no divergence is below zero: loss curves could not be compared, "
        "the best checkpoint would be chosen wrongly, and near the teacher rounding would steer."
    )
    return Finding("no loss below zero", f"{least:.1e} nats", "fault", problem)


def _pushes(sample: Sample, seed: int, draws: int) -> list[float]:
    """Standard errors from zero of the mean gradient along two directions: where a cut-off tail would push, and any."""
    hidden, weight = sample.hidden[:SPARSE_ROWS], sample.weight
    logits = hidden @ weight.T
    p = torch.softmax(logits, dim=1)
    likeliest = p.topk(min(TOP, p.shape[1] - 1), dim=1)
    cut = torch.zeros_like(p).scatter_(1, likeliest.indices, likeliest.values)
    push = (p - cut / cut.sum(1, keepdim=True)) @ weight
    anywhere = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(seed))
    starts = np.random.default_rng(seed).random((draws, len(hidden), 2))
    loss, found = losses.get("forward_kl"), []
    for start in starts:
        target = sparse(thin(logits.clone(), THRESHOLD, torch.from_numpy(start)))
        gradient = _measured(loss, hidden, weight, target)[1].double()
        found.append([float((gradient * way).sum()) for way in (push, anywhere)])
    values = np.array(found)
    spread = values.std(axis=0, ddof=1) / np.sqrt(draws)
    return [float(error) for error in values.mean(axis=0) / np.maximum(spread, 1e-12)]


def _usual_gradient(sample: Sample) -> float:
    """The norm of the gradient that right answers send."""
    return float(_measured(losses.get("cross_entropy"), sample.hidden, sample.weight, sample.ids)[1].norm())


def _measured(
    loss: Callable[..., torch.Tensor], hidden: torch.Tensor, weight: torch.Tensor, target: Target
) -> tuple[float, torch.Tensor]:
    """(a loss, its gradient in the hidden states [n, d])."""
    leaf = hidden.detach().clone().requires_grad_(True)
    value = loss(leaf, weight, target, None)
    torch.autograd.backward(value)
    assert leaf.grad is not None
    return float(value.detach()), leaf.grad


def _reference(name: str, sample: Sample) -> tuple[float, torch.Tensor]:
    """As `_measured` against the sample's teacher, by the formula in float64."""
    total, gradients = 0.0, []
    weight = sample.weight.double()
    for start in range(0, len(sample.ids), SLICE):
        rows = slice(start, start + SLICE)
        leaf = sample.hidden[rows].double().requires_grad_(True)
        with torch.no_grad():
            teacher = sample.teacher[rows].double() @ weight.T
        value = reference.loss(name, leaf @ weight.T, teacher, BETA, ALPHA).sum()
        torch.autograd.backward(value)
        assert leaf.grad is not None
        total += float(value.detach())
        gradients.append(leaf.grad)
    return total, torch.cat(gradients)


def _floor(name: str, sample: Sample) -> float:
    if name != "cross_entropy":
        return 0.0
    weight = sample.weight.double()
    starts = range(0, len(sample.hidden), SLICE)
    logits = (sample.hidden[start : start + SLICE].double() @ weight.T for start in starts)
    return sum(float(reference.entropy(part).sum()) for part in logits)


def _relative(found: torch.Tensor, right: torch.Tensor) -> float:
    """The norm of the difference over the norm of what is right."""
    return float((found.double() - right).norm() / right.norm())
