"""Compares the kernels with their reference under Triton's interpreter, which must be set before Triton is imported.

Prints one JSON object: case to the largest difference of a loss and of a gradient, and the largest gradient.
"""

from __future__ import annotations

import json
import os

os.environ["TRITON_INTERPRET"] = "1"

import torch

from aasut.student import divergences, fused, triton_loss
from aasut.student.losses import get
from aasut.student.targets import Dense, Sparse, Target
from loss_formulas import NAMES


def logits(columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows alike, a rounding apart, far apart, sure, and with logits that stand for "never"."""
    random = torch.Generator().manual_seed(columns)
    z, u = torch.randn(2, 7, columns, generator=random) * torch.tensor([0.1, 1, 1, 5, 15, 1, 1])[:, None]
    u[0] = z[0]
    u[1] = z[1] + torch.randn(columns, generator=random).sign() * 1e-4
    z[5, 1], u[5, columns - 1] = 1e4, 1e4
    z[6, 0] = u[6, 0] = -3e38
    return z, u


def differences(found: tuple[torch.Tensor, ...], expected: tuple[torch.Tensor, ...]) -> list[float]:
    one, two = (float((f - e).abs().max()) for f, e in zip(found, expected, strict=True))
    return [one, two, float(expected[1].abs().max())]


def dense(name: str, columns: int) -> list[float]:
    z, u = logits(columns)
    pairs = []
    for kernels in (triton_loss, divergences):
        gradient, spare = z.clone(), torch.empty(2, *z.shape)
        losses = kernels.dense(name, 0.3, 0.2)(gradient, u.clone(), spare)
        scale = losses.clamp(min=1)  # rounding grows with it
        pairs.append((losses / scale, gradient / scale[:, None]))
    return differences(*pairs)


def alike(name: str) -> list[float]:
    """Teacher and student are the same: the differences from zero."""
    z, _ = logits(700)
    gradient = z.clone()
    losses = triton_loss.dense(name, 0.3, 0.2)(gradient, z.clone(), torch.empty(0))
    return [float(losses.abs().max()), float(gradient.abs().max()), 1.0]


def whole(target: Target, name: str) -> list[float]:
    """The fused loss and the hidden states' gradient, with the kernels and without."""
    random = torch.Generator().manual_seed(1)
    hidden, weight = torch.randn(11, 24, generator=random), torch.randn(301, 24, generator=random)
    pairs = []
    for kernels in (triton_loss, divergences):
        fused._kernels = lambda _, kernels=kernels: kernels
        student = hidden.clone().requires_grad_(True)
        loss = get(name)(student, weight, target, None)
        loss.backward()
        assert student.grad is not None
        pairs.append((loss.detach() / 100, student.grad / 10))
    return differences(*pairs)


def main() -> None:
    triton_loss.LANES = 256  # several steps a row, the last one not full
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(301, (11, 5), generator=random)
    mass = torch.rand(11, 5, generator=random)
    mass /= mass.sum(dim=1, keepdim=True)
    found = {f"{name} {columns}": dense(name, columns) for name in NAMES for columns in (5, 256, 701)}
    found |= {f"{name} alike": alike(name) for name in NAMES if name != "cross_entropy"}
    found["ids"] = whole(ids[:, 0], "cross_entropy")
    found["sparse"] = whole(Sparse(ids, mass), "forward_kl")
    found["rest"] = whole(Sparse(ids, mass * 0.8, torch.full((11,), 0.2)), "forward_kl")
    teacher = Dense(torch.randn(11, 8, generator=random), torch.randn(301, 8, generator=random))
    found["fused"] = whole(teacher, "jsd")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
