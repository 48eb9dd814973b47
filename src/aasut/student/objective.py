"""What a student learns: one of the labels, as one decision at the end of a prompt, or a text, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from aasut.engine.layout import Batch
from aasut.engine.torch import hidden_states
from aasut.engine.tree import TokenTree
from aasut.student.losses import Loss, entropy

NO_TREE = TokenTree(0, (), (), (), ())


@dataclass(frozen=True)
class Row:
    """One training example: its token ids, and what is right.

    Labels: the prompt's ids, and the answers' `probabilities`. Text: the ids of prompt and answer, of which
    the last `answer` are the answer's.
    """

    ids: Sequence[int]
    probabilities: Sequence[float] = ()
    answer: int = 0


class Objective(Protocol):
    """What stands behind each row in a batch, and what its loss is."""

    tree: TokenTree  # the tokens that follow each row

    def targets(self, rows: Sequence[Row]) -> int:
        """Number of decisions that a loss over these rows is the sum of."""

    def loss(self, model: Any, rows: Sequence[Row], batch: Batch) -> torch.Tensor:
        """Sum of the loss over the rows of a batch."""

    def floor(self, rows: Sequence[Row]) -> float:
        """The least that the sum over these rows can be."""


class Labels:
    """A distribution over the answers after each prompt: the tree's decisions as dense arrays.

    `allowed` [1 + nodes, columns] says which columns a decision is between.
    """

    def __init__(self, model: Any, tree: TokenTree, loss: Loss) -> None:
        self.tree, self._loss = tree, loss
        self.weight = model.get_output_embeddings().weight.detach()[list(tree.columns)].float()
        self.columns = {token: column for column, token in enumerate(tree.columns)}
        self.allowed = np.zeros((1 + len(tree.nodes), len(self.columns)), bool)
        for branch in tree.branches:
            self.allowed[branch.node, [self.columns[t] for t in branch.tokens]] = True

    def targets(self, rows: Sequence[Row]) -> int:
        return len(rows)

    def target(self, probabilities: NDArray[np.float64]) -> NDArray[np.float32]:
        """The mass that flows through each decision, [rows, 1 + nodes, columns], from [rows, answers]."""
        target = np.zeros((len(probabilities), *self.allowed.shape), np.float32)
        for branch, mass in zip(self.tree.branches, self.tree.branch_targets(probabilities), strict=True):
            target[:, branch.node, [self.columns[t] for t in branch.tokens]] = mass
        return target

    def loss(self, model: Any, rows: Sequence[Row], batch: Batch) -> torch.Tensor:
        device = self.weight.device
        hidden = _hidden(model, batch)
        decide = torch.from_numpy(batch.decide).to(device)
        chosen = hidden.gather(1, decide[:, :, None].expand(-1, -1, hidden.shape[2]))
        probabilities = np.array([rows[i].probabilities for i in batch.rows], np.float64)
        target = torch.from_numpy(self.target(probabilities)).to(device)
        allowed = torch.from_numpy(self.allowed).to(device)
        branching = allowed.any(dim=1)
        flat = chosen[:, branching].flatten(0, 1)
        every = allowed[branching].repeat(len(batch.rows), 1)
        return self._loss(flat, self.weight, target[:, branching].flatten(0, 1), every)

    def floor(self, rows: Sequence[Row]) -> float:
        return float(entropy(torch.tensor(np.array([row.probabilities for row in rows], np.float64))))


class Text:
    """The next token at each position of the answer; the prompt's positions are never projected."""

    tree = NO_TREE

    def __init__(self, model: Any, loss: Loss) -> None:
        self._loss = loss
        self.weight = model.get_output_embeddings().weight.detach()

    def targets(self, rows: Sequence[Row]) -> int:
        return sum(row.answer for row in rows)

    def loss(self, model: Any, rows: Sequence[Row], batch: Batch) -> torch.Tensor:
        places: list[int] = []
        columns: list[int] = []
        right: list[int] = []
        for place, number in enumerate(batch.rows):
            row = rows[number]
            first = len(row.ids) - row.answer
            places += [place] * row.answer
            columns += range(first - 1, len(row.ids) - 1)  # a token is predicted where the one before it stands
            right += row.ids[first:]
        hidden = _hidden(model, batch)
        device = hidden.device
        chosen = hidden[torch.tensor(places, device=device), torch.tensor(columns, device=device)]
        return self._loss(chosen, self.weight, torch.tensor(right, device=device), None)

    def floor(self, rows: Sequence[Row]) -> float:
        return 0.0


def _hidden(model: Any, batch: Batch) -> torch.Tensor:
    device = model.device
    within = None if batch.mask is None else torch.from_numpy(batch.mask).to(device)
    ids, positions = torch.from_numpy(batch.ids).to(device), torch.from_numpy(batch.positions).to(device)
    return hidden_states(model, ids, positions, within, None)
