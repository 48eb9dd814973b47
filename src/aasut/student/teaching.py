"""What gives the targets of rows' answers: the answers themselves, a teacher's kept logits, or a teacher alongside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from aasut.engine.packing import packed_states, packs
from aasut.student.objective import Row
from aasut.student.targets import Dense, Sparse, Target


class Teaching(Protocol):
    """Targets for the answers of rows, the tokens of their `own` left out."""

    sparse: bool  # are they drawn from the teacher's distribution, not the whole of it?

    def targets(self, rows: Sequence[Row]) -> Target:
        """One target for each taught token, row after row. The rows have at least one such token together."""


def taught(row: Row) -> Sequence[int]:
    """The answer's tokens that are the teacher's."""
    return row.ids[len(row.ids) - row.answer : len(row.ids) - row.own]


class Right:
    """The answer's own tokens, each the one right one."""

    sparse = False

    def targets(self, rows: Sequence[Row]) -> torch.Tensor:
        return torch.tensor([token for row in rows for token in taught(row)])


class Cached:
    """What is kept of a teacher's distributions: `look_up` gives it for (key, answer's ids) pairs, text after text.

    Raises what `look_up` raises, such as DataError where a text is not the one that was kept.
    """

    sparse = True

    def __init__(self, look_up: Callable[[Sequence[tuple[str, Sequence[int]]]], Sparse]) -> None:
        self.look_up = look_up

    def targets(self, rows: Sequence[Row]) -> Sparse:
        return self.look_up([(row.key, taught(row)) for row in rows if row.answer > row.own])


class Live:
    """A teacher of the student's vocabulary that runs alongside, over its own prompts and the rows' answers.

    `most` is how many tokens it reads at once.
    """

    sparse = False

    def __init__(self, model: Any, most: int) -> None:
        self.model, self.most = model.eval().requires_grad_(False), most

    @torch.no_grad()
    def states(self, rows: Sequence[Row]) -> torch.Tensor:
        """The teacher's last hidden states from which it says the taught tokens, [n, d]."""
        texts = [[*row.asked, *taught(row)] for row in rows]
        counts = np.array([row.answer - row.own for row in rows], np.int64)
        chosen = []
        for part in packs(texts, range(len(rows)), self.most):
            hidden = packed_states(self.model, part)
            places = part.before(counts[part.rows])
            chosen.append(hidden.index_select(0, torch.from_numpy(places).to(hidden.device)))
        return torch.cat(chosen)

    def targets(self, rows: Sequence[Row]) -> Dense:
        return Dense(self.states(rows), self.model.get_output_embeddings().weight)
