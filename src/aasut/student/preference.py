"""Direct preference optimisation (DPO, Rafailov et al. 2023, arXiv 2305.18290) as an objective.

For a prompt x with a preferred answer w and another l, by the student π and the student as it was, π₀:

    r(y) = β (log π(y|x) - log π₀(y|x))          the reward that π gives an answer
    L = -log σ(r(w) - r(l))
    ∂L/∂log π(w|x) = -β σ(r(l) - r(w)) = -∂L/∂log π(l|x)

A gradient in log π(y|x) is that of its tokens' cross-entropy, times a number. So the answers' log-probabilities are
taken first, a block of logits at a time, and then the cross-entropy of all tokens with these numbers as weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aasut.engine.packing import Pack, pack, packed_states
from aasut.student import fused
from aasut.student.objective import Row


def pair_row(key: str, prompt: Sequence[int], chosen: Sequence[int], rejected: Sequence[int]) -> Row:
    """A pair as one row: the prompt and both answers, the other one behind the preferred one."""
    return Row([*prompt, *chosen, *rejected], answer=len(chosen) + len(rejected), own=len(rejected), key=key)


def answered(row: Row) -> tuple[list[int], list[int]]:
    """(prompt and preferred answer, prompt and the other)."""
    ids = list(row.ids)
    return ids[: len(ids) - row.own], ids[: len(ids) - row.answer] + ids[len(ids) - row.own :]


@dataclass(frozen=True)
class Pairs:
    """Some pairs' answers in one packed row, the two of a pair behind one another.

    rows [B] which of the caller's rows · counts [2 B] tokens of the answers · right: these tokens.
    """

    rows: NDArray[np.int64]
    pack: Pack
    counts: NDArray[np.int64]
    right: NDArray[np.int64]

    @property
    def tokens(self) -> int:
        return self.pack.tokens

    @property
    def ids(self) -> NDArray[np.int64]:
        return self.pack.ids


def batches(rows: Sequence[Row], most: int) -> Iterator[Pairs]:
    """The rows in their order, in packed rows of at most `most` tokens, or of one pair that has more."""
    part: list[int] = []
    held = 0
    for number, row in enumerate(rows):
        size = sum(map(len, answered(row)))
        if part and held + size > most:
            yield _pairs(rows, part)
            part, held = [], 0
        part.append(number)
        held += size
    if part:
        yield _pairs(rows, part)


def _pairs(rows: Sequence[Row], chosen: Sequence[int]) -> Pairs:
    ids = [text for i in chosen for text in answered(rows[i])]
    counts = [count for i in chosen for count in (rows[i].answer - rows[i].own, rows[i].own)]
    right = [token for i in chosen for token in rows[i].ids[len(rows[i].ids) - rows[i].answer :]]
    return Pairs(
        np.array(chosen, np.int64), pack(ids, range(len(ids))), np.array(counts, np.int64), np.array(right, np.int64)
    )


def log_probabilities(model: Any, rows: Sequence[Row], most: int) -> NDArray[np.float64]:
    """Of the two answers of each row, [rows, 2], in nats; `most`: tokens computed at once."""
    found = np.zeros((len(rows), 2))
    with torch.no_grad():
        for batch in batches(rows, most):
            found[batch.rows] = _Answers(model, batch).log_probabilities().cpu().numpy()
    return found


class Preferences:
    """The loss of DPO over pairs; `reference` has the log-probabilities of both answers before, by a row's key."""

    packed = True

    def __init__(self, beta: float, reference: Mapping[str, tuple[float, float]]) -> None:
        self.beta, self.reference = beta, reference

    def targets(self, rows: Sequence[Row]) -> int:
        return len(rows)

    def batches(self, rows: Sequence[Row], most: int) -> Iterator[Pairs]:
        return batches(rows, most)

    def loss(self, model: Any, rows: Sequence[Row], batch: Pairs) -> torch.Tensor:
        answers = _Answers(model, batch)
        now = answers.log_probabilities()  # [B, 2]
        before = torch.tensor([self.reference[rows[i].key] for i in batch.rows], dtype=now.dtype, device=now.device)
        rewards = self.beta * (now - before)
        margins = rewards[:, 0] - rewards[:, 1]
        total = torch.nn.functional.softplus(-margins).sum().float()
        if not answers.states.requires_grad:
            return total
        slopes = self.beta * torch.sigmoid(-margins)
        through = answers.cross_entropy(torch.stack([slopes, -slopes], dim=1))
        return total + (through - through.detach())  # the loss's value, and the gradient of what it hangs on

    def floor(self, rows: Sequence[Row]) -> float:
        """0: how little a student's loss can get is not known."""
        return 0.0


class _Answers:
    """The states before the answers' tokens, [n, d], and these tokens."""

    def __init__(self, model: Any, batch: Pairs) -> None:
        self.counts = batch.counts
        hidden = packed_states(model, batch.pack)
        places = torch.from_numpy(batch.pack.before(self.counts)).to(hidden.device)
        self.states = hidden.index_select(0, places)
        self.weight = model.get_output_embeddings().weight
        self.right = torch.from_numpy(batch.right).to(hidden.device)

    def log_probabilities(self) -> torch.Tensor:
        """Of each answer, [pairs, 2] float64, without a gradient."""
        losses = fused.right_losses(self.states.detach(), self.weight.detach(), self.right).double()
        found = losses.new_zeros(len(self.counts)).index_add_(0, self._answer(), -losses)
        return found.reshape(-1, 2)

    def cross_entropy(self, weights: torch.Tensor) -> torch.Tensor:
        """The sum over all tokens, each times its answer's weight [pairs, 2]."""
        each = weights.flatten().float().index_select(0, self._answer())
        return fused.loss(self.states, self.weight, self.right, "cross_entropy", 0.5, 0.1, each)

    def _answer(self) -> torch.Tensor:
        """Which answer each token is of."""
        numbers = np.repeat(np.arange(len(self.counts)), self.counts)
        return torch.from_numpy(numbers).to(self.states.device)
