"""What gives the targets of rows' answers: the answers themselves, a teacher's kept logits, or a teacher alongside."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from aasut.engine.packing import packed_states, packs
from aasut.student.objective import Row
from aasut.student.targets import Dense, Sparse, Target

KEPT_BYTES = 1 << 28  # of a teacher's states


class Teaching(Protocol):
    """Targets for the answers of rows, the tokens of their `own` left out."""

    sparse: bool  # are they drawn from the teacher's distribution, not the whole of it?

    def foresee(self, rows: Sequence[Row]) -> None:
        """Be told of rows whose targets will be wanted, most of them several times; they stay the same objects."""

    def targets(self, rows: Sequence[Row]) -> Target:
        """One target for each taught token, row after row. The rows have at least one such token together."""


def taught(row: Row) -> Sequence[int]:
    """The answer's tokens that are the teacher's."""
    return row.ids[len(row.ids) - row.answer : len(row.ids) - row.own]


class Right:
    """The answer's own tokens, each the one right one."""

    sparse = False

    def foresee(self, rows: Sequence[Row]) -> None:
        """They tell their targets themselves."""

    def targets(self, rows: Sequence[Row]) -> torch.Tensor:
        return torch.tensor([token for row in rows for token in taught(row)])


class Cached:
    """What is kept of a teacher's distributions: `look_up` gives it for (key, answer's ids) pairs, text after text.

    Raises what `look_up` raises, such as DataError where a text is not the one that was kept.
    """

    sparse = True

    def __init__(self, look_up: Callable[[Sequence[tuple[str, Sequence[int]]]], Sparse]) -> None:
        self.look_up = look_up

    def foresee(self, rows: Sequence[Row]) -> None:
        """Their targets are on disk."""

    def targets(self, rows: Sequence[Row]) -> Sparse:
        return self.look_up([(row.key, taught(row)) for row in rows if row.answer > row.own])


class Live:
    """A teacher of the student's vocabulary that runs alongside, over its own prompts and the rows' answers.

    `most` is how many tokens it reads at once; `seconds`, how long it has read.
    """

    sparse = False

    def __init__(self, model: Any, most: int) -> None:
        self.model, self.most = model.eval().requires_grad_(False), most
        self.seconds = 0.0
        self._foreseen: dict[int, list[Row]] = {}  # by a row's identity, the rows that are read with it
        self._kept: dict[int, torch.Tensor] = {}

    def foresee(self, rows: Sequence[Row]) -> None:
        """Read each of these rows once, and keep what is said of it: of the first ones, up to KEPT_BYTES.

        Which are read together, and so their last bits, is settled here: a training that goes on after a kill has
        the same targets.
        """
        each = int(self.model.config.hidden_size) * self.model.dtype.itemsize
        held = np.cumsum([each * (row.answer - row.own) for row in rows])
        kept = rows[: int(np.searchsorted(held, KEPT_BYTES, side="right"))]
        for part in packs([self._text(row) for row in kept], range(len(kept)), self.most):
            together = [kept[i] for i in part.rows]
            self._foreseen |= {id(row): together for row in together}

    @torch.no_grad()
    def states(self, rows: Sequence[Row]) -> torch.Tensor:
        """The teacher's last hidden states from which it says the taught tokens, [n, d]."""
        for row in rows:
            if id(row) in self._foreseen and id(row) not in self._kept:
                self._kept |= self._read(self._foreseen[id(row)])
        others = self._read([row for row in rows if id(row) not in self._foreseen])
        return torch.cat([self._kept[id(row)] if id(row) in self._foreseen else others[id(row)] for row in rows])

    def _read(self, rows: Sequence[Row]) -> dict[int, torch.Tensor]:
        """Each row's states, by the row's identity."""
        began = time.perf_counter()
        counts = np.array([row.answer - row.own for row in rows], np.int64)
        found: dict[int, torch.Tensor] = {}
        for part in packs([self._text(row) for row in rows], range(len(rows)), self.most):
            hidden = packed_states(self.model, part)
            places = torch.from_numpy(part.before(counts[part.rows])).to(hidden.device)
            parts = torch.split(hidden.index_select(0, places), counts[part.rows].tolist())
            found |= {id(rows[i]): states for i, states in zip(part.rows, parts, strict=True)}
        self.seconds += time.perf_counter() - began
        return found

    @staticmethod
    def _text(row: Row) -> list[int]:
        return [*row.asked, *taught(row)]

    def targets(self, rows: Sequence[Row]) -> Dense:
        return Dense(self.states(rows), self.model.get_output_embeddings().weight)
