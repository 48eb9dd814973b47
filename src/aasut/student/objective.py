"""What a student learns: one of the labels, as one decision at the end of a prompt, or a text, token by token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from aasut.engine.layout import Batch, micro_batches
from aasut.engine.packing import Pack, packed_states, packs
from aasut.engine.torch import hidden_states
from aasut.engine.tree import TokenTree
from aasut.student.losses import Loss, cross_entropy, entropy

if TYPE_CHECKING:
    from aasut.student.teaching import Teaching


@dataclass(frozen=True)
class Row:
    """One training example: its token ids, and what is right.

    Labels: the prompt's ids, and the answers' `probabilities`. Text: the ids of prompt and answer, of which
    the last `answer` are the answer's, and of these the last `own`, such as the end token, not the teacher's: each
    is learned as the one right token. `key` is the text's in a logit cache; `asked` are the ids of the prompt that
    a teacher alongside reads. `group` is what the row belongs to, such as a field, where that is told of.
    """

    ids: Sequence[int]
    probabilities: Sequence[float] = ()
    answer: int = 0
    key: str = ""
    asked: Sequence[int] = ()
    own: int = 0
    group: str = ""


class Objective(Protocol):
    """How rows are laid out in micro-batches, and what the loss over one of them is."""

    packed: bool  # are rows laid out without padding, so that a step's may be of any lengths?

    def targets(self, rows: Sequence[Row]) -> int:
        """Number of decisions that a loss over these rows is the sum of."""

    def batches(self, rows: Sequence[Row], most: int) -> Iterator[Any]:
        """The rows in micro-batches of at most `most` tokens, one row at least.

        Each has `tokens` that are no padding, and `ids` and `rows` as arrays.
        """

    def loss(self, model: Any, rows: Sequence[Row], batch: Any) -> torch.Tensor:
        """Sum of the loss over the rows of a micro-batch."""

    def floor(self, rows: Sequence[Row]) -> float:
        """The least that the sum over these rows can be."""


class Labels:
    """A distribution over the answers after each prompt: the tree's decisions as dense arrays.

    `allowed` [1 + nodes, columns] says which columns a decision is between.
    """

    packed = False

    def __init__(self, tree: TokenTree, loss: Loss) -> None:
        self.tree, self._loss = tree, loss
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

    def batches(self, rows: Sequence[Row], most: int) -> Iterator[Batch]:
        return micro_batches([row.ids for row in rows], range(len(rows)), self.tree, most)

    def loss(self, model: Any, rows: Sequence[Row], batch: Batch) -> torch.Tensor:
        weight = model.get_output_embeddings().weight[list(self.tree.columns)].float()
        device = weight.device
        hidden = _hidden(model, batch)
        decide = torch.from_numpy(batch.decide).to(device)
        chosen = hidden.gather(1, decide[:, :, None].expand(-1, -1, hidden.shape[2]))
        probabilities = np.array([rows[i].probabilities for i in batch.rows], np.float64)
        target = torch.from_numpy(self.target(probabilities)).to(device)
        allowed = torch.from_numpy(self.allowed).to(device)
        branching = allowed.any(dim=1)
        flat = chosen[:, branching].flatten(0, 1)
        every = allowed[branching].repeat(len(batch.rows), 1)
        return self._loss(flat, weight, target[:, branching].flatten(0, 1), every)

    def floor(self, rows: Sequence[Row]) -> float:
        return float(entropy(torch.tensor(np.array([row.probabilities for row in rows], np.float64))))


class Text:
    """The next token at each position of the answer, by what `teaching` says of it.

    Rows are packed; the prompt's positions are never projected. Where the output matrix is trained, the loss gives
    it its gradient.
    """

    packed = True

    def __init__(self, loss: Loss, teaching: Teaching) -> None:
        self._loss, self.teaching = loss, teaching

    def targets(self, rows: Sequence[Row]) -> int:
        return sum(row.answer for row in rows)

    def batches(self, rows: Sequence[Row], most: int) -> Iterator[Pack]:
        return packs([row.ids for row in rows], range(len(rows)), most)

    def loss(self, model: Any, rows: Sequence[Row], batch: Pack) -> torch.Tensor:
        given = [rows[i] for i in batch.rows]
        own = np.array([row.own for row in given], np.int64)
        taught = np.array([row.answer for row in given], np.int64) - own
        hidden = packed_states(model, batch)
        weight = model.get_output_embeddings().weight

        def at(places: NDArray[np.int64]) -> torch.Tensor:
            return hidden.index_select(0, torch.from_numpy(places).to(hidden.device))

        total = hidden.new_zeros((), dtype=torch.float32)
        if taught.any():
            total = total + self._loss(at(batch.before(taught, own)), weight, self.teaching.targets(given), None)
        if own.any():
            right = [token for row in given for token in row.ids[len(row.ids) - row.own :]]
            ids = torch.tensor(right, device=hidden.device)
            total = total + cross_entropy(at(batch.before(own)), weight, ids, None)
        return total

    def floor(self, rows: Sequence[Row]) -> float:
        """0: no loss is less, and how much less than that a student can get is not known for all of them."""
        return 0.0


def _hidden(model: Any, batch: Batch) -> torch.Tensor:
    device = model.device
    within = None if batch.mask is None else torch.from_numpy(batch.mask).to(device)
    ids, positions = torch.from_numpy(batch.ids).to(device), torch.from_numpy(batch.positions).to(device)
    return hidden_states(model, ids, positions, within, None)
