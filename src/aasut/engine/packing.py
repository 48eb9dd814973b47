"""Rows of tokens behind one another in one packed row, each with positions from 0 and attention of its own."""

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

    rows [B] which of the caller's rows · ids [1, T] token ids · positions [1, T] from 0 in each row ·
    lengths [B] · starts [B] where each row begins.
    """

    rows: NDArray[np.int64]
    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    lengths: NDArray[np.int64]
    starts: NDArray[np.int64]

    @property
    def tokens(self) -> int:
        """Tokens that are not padding: all."""
        return int(self.ids.size)

    def before(self, counts: NDArray[np.int64], left: NDArray[np.int64] | int = 0) -> NDArray[np.int64]:
        """Places in the packed row of the tokens before `counts` [B] tokens of each row, `left` [B] tokens after them.

        They are the places from which a causal model says these tokens.
        """
        firsts = self.starts + self.lengths - left - counts - 1
        return np.repeat(firsts - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())


def pack(ids: Sequence[Sequence[int]], chosen: Sequence[int]) -> Pack:
    """The chosen rows in one."""
    lengths = np.array([len(ids[row]) for row in chosen], np.int64)
    ends = np.cumsum(lengths)
    flat = np.concatenate([np.asarray(ids[row], np.int64) for row in chosen])
    positions = np.arange(len(flat)) - np.repeat(ends - lengths, lengths)
    return Pack(np.array(chosen, np.int64), flat[None], positions[None], lengths, ends - lengths)


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
    segments = Segments(packed.lengths.tolist(), windows(model.config), device)
    output = model.model(
        input_ids=torch.from_numpy(packed.ids).to(device),
        position_ids=torch.from_numpy(packed.positions).to(device),
        attention_mask=None,
        use_cache=False,
        segments=segments,
    )
    return output.last_hidden_state[0]  # type: ignore[no-any-return]
