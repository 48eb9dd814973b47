"""What a token's loss is measured against: the one right token, a teacher's whole distribution, or some of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Dense:
    """The teacher's whole distribution at each of n positions, projected block by block where a loss needs it.

    hidden [n, d_teacher] last hidden states · weight [V_teacher, d_teacher] the teacher's output matrix. The
    teacher's vocabulary is the student's; either matrix may have further rows at its end that stand for no token.
    """

    hidden: torch.Tensor
    weight: torch.Tensor

    def __len__(self) -> int:
        return len(self.hidden)


@dataclass(frozen=True)
class Sparse:
    """Some of the teacher's distribution at each of n positions.

    ids [n, K] int64, may repeat within a row · mass [n, K] float32, zero for padding · rest [n] float32, the mass
    of all other tokens together where nothing else is known of it; None where `mass` sums to 1.
    """

    ids: torch.Tensor
    mass: torch.Tensor
    rest: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)


Target = torch.Tensor | Dense | Sparse  # a tensor [n] of whole numbers: the one right token of each position
