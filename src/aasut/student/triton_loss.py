# mypy: disable-error-code="no-untyped-def,untyped-decorator"
"""The row losses of `divergences` as kernels for a GPU: one program a row, two or three passes over it.

The first pass takes each row's highest logit and Σ exp of the rest at once, a running pair for each lane; the
last writes the gradient where the logits were. The formulas, and what is done about rounding, are those of
`divergences`, which is the reference that these are tested against.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from aasut.student.divergences import TINY, RowLoss

SCRATCH = 0  # planes of it, as in `divergences`
LANES = 4096  # of a row at once
OPTIONS = {"num_warps": 16, "enable_fp_fusion": False}  # products are rounded as in the reference
LOWEST = tl.constexpr(-3.0e38)


@triton.jit
def _normaliser(row, columns, lanes: tl.constexpr):
    """The highest of a row's logits, and Σ exp(logit - highest)."""
    lane = tl.arange(0, lanes)
    highest = tl.full([lanes], LOWEST, tl.float32)
    mass = tl.zeros([lanes], tl.float32)
    for start in range(0, columns, lanes):
        here = start + lane
        logits = tl.load(row + here, mask=here < columns, other=float("-inf"))
        higher = tl.maximum(highest, logits)
        mass = mass * tl.exp(highest - higher) + tl.exp(logits - higher)
        highest = higher
    top = tl.max(highest, axis=0)
    return top, tl.sum(mass * tl.exp(highest - top), axis=0)


@triton.jit
def _softmax_kernel(logits, scales, tops, masses, columns, stride, lanes: tl.constexpr):
    number = tl.program_id(0).to(tl.int64)
    row = logits + number * stride
    top, mass = _normaliser(row, columns, lanes)
    scale = tl.load(scales + number) / mass
    lane = tl.arange(0, lanes)
    for start in range(0, columns, lanes):
        here = start + lane
        inside = here < columns
        tl.store(row + here, tl.exp(tl.load(row + here, mask=inside, other=0.0) - top) * scale, mask=inside)
    tl.store(tops + number, top)
    tl.store(masses + number, mass)


@triton.jit
def _dense_kernel(
    student, teacher, losses, columns, student_stride, teacher_stride, weight, floor,
    name: tl.constexpr, lanes: tl.constexpr,
):  # fmt: skip
    """`weight` is the teacher's share in the mixture, `floor` the least that a probability in a ratio is.

    Ratios are divided with correct rounding: of two equal numbers it is then 1, and its logarithm 0.
    """
    number = tl.program_id(0).to(tl.int64)
    z_row, u_row = student + number * student_stride, teacher + number * teacher_stride
    z_top, z_mass = _normaliser(z_row, columns, lanes)
    u_top, u_mass = _normaliser(u_row, columns, lanes)
    ratio = tl.log(tl.div_rn(z_mass, u_mass))
    lane = tl.arange(0, lanes)
    one = tl.zeros([lanes], tl.float32)
    two = tl.zeros([lanes], tl.float32)
    for start in range(0, columns, lanes):
        here = start + lane
        inside = here < columns
        z = tl.load(z_row + here, mask=inside, other=0.0) - z_top
        u = tl.load(u_row + here, mask=inside, other=0.0) - u_top
        s, t = tl.exp(z) / z_mass, tl.exp(u) / u_mass
        if name == "forward_kl":
            one += tl.where(inside, t * (u - z + ratio) + (s - t), 0.0)
        elif name == "cross_entropy":
            one -= tl.where(inside, t * z, 0.0)
        elif name == "reverse_kl":
            one += tl.where(inside, s * (z - u - ratio) + (t - s), 0.0)
        elif name == "total_variation":
            one += tl.where(inside, tl.abs(s - t), 0.0)
            two += tl.where(inside, s * _sign(s - t), 0.0)
        else:
            s, t = tl.maximum(s, floor), tl.maximum(t, floor)
            mixture = s + weight * (t - s)
            one += tl.where(inside, t * tl.log(tl.div_rn(t, mixture)), 0.0)
            if name == "jsd":
                two += tl.where(inside, s * tl.log(tl.div_rn(s, mixture)), 0.0)
            else:
                two += tl.where(inside, s * (tl.div_rn(t, mixture) - 1), 0.0)
        if name == "forward_kl" or name == "cross_entropy":  # no sum in the gradient: one pass less
            tl.store(z_row + here, s - t, mask=inside)
    first, second = tl.sum(one, axis=0), tl.sum(two, axis=0)
    if name != "forward_kl" and name != "cross_entropy":
        for start in range(0, columns, lanes):
            here = start + lane
            inside = here < columns
            z = tl.load(z_row + here, mask=inside, other=0.0) - z_top
            u = tl.load(u_row + here, mask=inside, other=0.0) - u_top
            s, t = tl.exp(z) / z_mass, tl.exp(u) / u_mass
            if name == "reverse_kl":
                gradient = s * (z - u - ratio - first)
            elif name == "total_variation":
                gradient = 0.5 * s * (_sign(s - t) - second)
            else:
                s, t = tl.maximum(s, floor), tl.maximum(t, floor)
                mixture = s + weight * (t - s)
                if name == "jsd":
                    gradient = (1 - weight) * s * (tl.log(tl.div_rn(s, mixture)) - second)
                else:
                    gradient = (1 - weight) * s * (second - (tl.div_rn(t, mixture) - 1))
            tl.store(z_row + here, gradient, mask=inside)
    loss = first
    if name == "cross_entropy":
        loss += tl.log(z_mass)
    elif name == "jsd":
        loss = weight * first + (1 - weight) * second
    elif name == "total_variation":
        loss = first / 2
    tl.store(losses + number, loss)


@triton.jit
def _sign(values):
    return tl.where(values > 0, 1.0, tl.where(values < 0, -1.0, 0.0))


def dense(name: str, beta: float, alpha: float) -> RowLoss:
    """The row loss of that name against a whole distribution: see `divergences.dense`. Needs no scratch."""
    weight = {"jsd": beta, "skewed_kl": alpha}.get(name, 0.0)

    def row_loss(student: torch.Tensor, teacher: torch.Tensor, spare: torch.Tensor) -> torch.Tensor:
        losses = torch.empty(len(student), device=student.device)
        _dense_kernel[(len(student),)](
            student, teacher, losses, student.shape[1], student.stride(0), teacher.stride(0), weight, TINY,
            name=name, lanes=_lanes(student), **OPTIONS,
        )  # fmt: skip
        return losses

    return row_loss


def scaled_softmax(logits: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As `divergences.scaled_softmax`."""
    top, mass = torch.empty(2, len(logits), device=logits.device)
    _softmax_kernel[(len(logits),)](
        logits, scale, top, mass, logits.shape[1], logits.stride(0), lanes=_lanes(logits), **OPTIONS
    )
    return top, mass


def _lanes(logits: torch.Tensor) -> int:
    return min(LANES, int(triton.next_power_of_2(logits.shape[1])))
