"""What continued pre-training learns: texts as they stand, and general text by a model's distribution too.

    documents, generated texts    -log q(right token)
    general text (replay)         (1 - distil) · -log q(right token) + distil · KL(p ‖ q)

q is the student, p the anchor: a teacher of the student's tokens, or the student as it was before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from aasut.engine.packing import Pack, packed_states, packs
from aasut.student import losses
from aasut.student.objective import Row

if TYPE_CHECKING:
    from aasut.student.teaching import Teaching


class Replay:
    """The next token at each place of a text. See `objective.Objective`.

    Rows with `asked`, the ids behind which `anchor` reads a row's answer, are general text; without an anchor all
    rows are learned alike. Sums are over all targets: a step divides them once, so that none of it hangs on how rows
    are cut into micro-batches.
    """

    packed = True

    def __init__(self, distil: float, anchor: Teaching | None) -> None:
        """`distil`: share of the anchor's distribution in the loss on general text, 0 to 1."""
        self.anchor, self.distil = anchor, distil if anchor is not None else 0.0
        self._alone = losses.get("forward_kl")  # against right tokens it is the cross-entropy
        self._beside = losses.get("forward_kl", share=1 - self.distil)
        self._anchored = losses.get("forward_kl", share=self.distil)

    def targets(self, rows: Sequence[Row]) -> int:
        return sum(row.answer for row in rows)

    def batches(self, rows: Sequence[Row], most: int) -> Iterator[Pack]:
        return packs([row.ids for row in rows], range(len(rows)), most)

    def loss(self, model: Any, rows: Sequence[Row], batch: Pack) -> torch.Tensor:
        given = [rows[i] for i in batch.rows]
        general = np.array([bool(self.distil and row.asked) for row in given])
        counts = np.array([row.answer for row in given], np.int64)
        hidden = packed_states(model, batch)
        weight = model.get_output_embeddings().weight

        def at(chosen: NDArray[np.bool_]) -> torch.Tensor:
            places = batch.before(np.where(chosen, counts, 0))
            return hidden.index_select(0, torch.from_numpy(places).to(hidden.device))

        def right(chosen: NDArray[np.bool_]) -> torch.Tensor:
            ids = [token for i in np.flatnonzero(chosen) for token in given[i].ids[len(given[i].ids) - counts[i] :]]
            return torch.tensor(ids, device=hidden.device)

        total = hidden.new_zeros((), dtype=torch.float32)
        if not general.all():
            total = total + self._alone(at(~general), weight, right(~general), None)
        if self.anchor is not None and general.any():
            said = self.anchor.targets([given[i] for i in np.flatnonzero(general)])
            total = total + self._anchored(at(general), weight, said, None)
            if self.distil < 1:
                total = total + self._beside(at(general), weight, right(general), None)
        return total

    def floor(self, rows: Sequence[Row]) -> float:
        """0: no loss is less, and how much less than that a student can get is not known."""
        return 0.0
