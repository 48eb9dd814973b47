"""Rows of tokens behind one another in one packed row, each with positions from 0 and attention of its own.

What all rows of a pack begin with stands there once, before the rest of each: prompts that come from one template are
computed once a pack, and their gradient is the sum over the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aasut.engine.segments import Segments


@dataclass(frozen=True)
class Pack:
    """A packed row of T tokens, nothing of it padding.

    rows [B] which of the caller's rows · ids [1, T] token ids · positions [1, T] from 0 in each row · begin: how many
    tokens all rows begin with, which stand first · lengths [B] of what else each row has · starts [B] where that is.
    """

    rows: NDArray[np.int64]
    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    lengths: NDArray[np.int64]
    starts: NDArray[np.int64]
    begin: int = 0

    @property
    def tokens(self) -> int:
        """Tokens of all rows, also those that stand here once for several."""
        return int(self.lengths.sum()) + self.begin * len(self.rows)

    def before(self, counts: NDArray[np.int64], left: NDArray[np.int64] | int = 0) -> NDArray[np.int64]:
        """Places in the packed row of the tokens before `counts` [B] tokens of each row, `left` [B] tokens after them.

        They are the places from which a causal model says these tokens.
        """
        firsts = self.lengths - left - counts - 1  # from where the row's own part begins; less than 0 before it
        own = np.repeat(firsts - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        return np.where(own < 0, self.begin + own, np.repeat(self.starts, counts) + own)


def pack(ids: Sequence[Sequence[int]], chosen: Sequence[int]) -> Pack:
    """The chosen rows in one."""
    rows = [ids[row] for row in chosen]
    begin = _common(rows)
    lengths = np.array([len(row) - begin for row in rows], np.int64)
    ends = begin + np.cumsum(lengths)
    parts = [rows[0][:begin], *(row[begin:] for row in rows)]
    flat = np.concatenate([np.asarray(part, np.int64) for part in parts])
    starts = ends - lengths
    positions = np.arange(len(flat))
    positions[begin:] += begin - np.repeat(starts, lengths)
    return Pack(np.array(chosen, np.int64), flat[None], positions[None], lengths, starts, begin)


def _common(rows: Sequence[Sequence[int]]) -> int:
    """How many tokens all rows begin with, one of each left over; 0 for a row alone."""
    first, last = min(rows, key=list), max(rows, key=list)  # what these two begin with, all between them do
    most = min(len(row) for row in rows) - 1 if len(rows) > 1 else 0
    return next((n for n in range(most) if first[n] != last[n]), most)


def packs(ids: Sequence[Sequence[int]], chosen: Sequence[int], most: int) -> Iterator[Pack]:
    """The chosen rows, in their order, in packed rows of at most `most` tokens, or one row longer than that."""
    part: list[int] = []
    held = 0
    for row in chosen:
        if part and held + len(ids[row]) > most:
            yield pack(ids, part)
            part, held = [], 0
        part.append(row)
        held += len(ids[row])
    if part:
        yield pack(ids, part)


def windows(config: Any) -> list[int | None]:
    """How far back each layer looks, itself counted; None for all. Without `layer_types` a window holds for all."""
    window = getattr(config, "sliding_window", None) or None
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * config.num_hidden_layers
    return [window if kind == "sliding_attention" else None for kind in kinds]


def packed_states(model: Any, packed: Pack) -> torch.Tensor:
    """Last hidden states after the final norm, [T, d]: what each row gives alone."""
    device = model.device
    segments = Segments(packed.lengths.tolist(), windows(model.config), device, packed.begin)
    output = model.model(
        input_ids=torch.from_numpy(packed.ids).to(device),
        position_ids=torch.from_numpy(packed.positions).to(device),
        attention_mask=None,
        use_cache=False,
        segments=segments,
    )
    return output.last_hidden_state[0]  # type: ignore[no-any-return]
