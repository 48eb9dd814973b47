"""Fewer numbers a distribution, without bias: what is likely is kept exactly, the rest is sampled.

Random sampling for KD (Anshumann et al., ACL 2025) draws all of a target's tokens. Here the tokens with at
least `threshold` of the mass (the head) are kept, and the mass r of all others (the tail) is spread evenly over
ceil(r / threshold) draws from it, in systematic sampling: one random start, equal steps. Masses are whole
shares of 1, which head and tail are dealt by systematic sampling too, so that rounding adds no bias. A token's
expected mass is its probability, the masses sum to 1, and so a loss that is linear in the target keeps its
expected gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aasut.errors import DataError

# A share of 1 / 255 is well below the mass of a draw: finer ones cost a byte a token of the head and gain little.
MASS = np.dtype(np.uint8)
NAMED_MASS = np.dtype(np.uint16)  # of tokens that an API names, where nothing else is noisy
LOWEST, HIGHEST = 1 / 250, 0.5  # thresholds; a head and a tail have at most 1 / LOWEST entries, which a byte counts
COLUMNS = 64  # tokens whose mass is summed first, so that a draw looks through few
_BELOW_ONE = 1 - 2.0**-30


@dataclass(frozen=True)
class Entries:
    """What is kept of n distributions.

    head, tail  [n] uint8: tokens whose own mass is kept, and draws that share the mass that is left evenly
    ids         [Σ head + Σ tail] int32: a distribution's head, then its draws; a token may be drawn twice
    mass        [Σ head] uint8 or uint16: shares, of the type's greatest number
    """

    head: NDArray[np.uint8]
    tail: NDArray[np.uint8]
    ids: NDArray[np.int32]
    mass: NDArray[np.uint8] | NDArray[np.uint16]

    @property
    def shares(self) -> int:
        """What the masses of a distribution and what is left sum to."""
        return int(np.iinfo(self.mass.dtype).max)

    def __len__(self) -> int:
        return len(self.head)

    def __getitem__(self, rows: slice) -> Entries:
        """The distributions `start:stop`."""
        start, stop, _ = rows.indices(len(self))
        heads, sizes = _ends(self.head), _ends(self.head.astype(np.int64) + self.tail)
        return Entries(
            self.head[start:stop],
            self.tail[start:stop],
            self.ids[sizes[start] : sizes[stop]],
            self.mass[heads[start] : heads[stop]],
        )


def join(parts: Sequence[Entries]) -> Entries:
    """The distributions of all parts, one at least, in their order."""
    fields = ("head", "tail", "ids", "mass")
    return Entries(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))


NONE = Entries(np.empty(0, np.uint8), np.empty(0, np.uint8), np.empty(0, np.int32), np.empty(0, MASS))


def byte_size(entries: Entries, *, wide: bool) -> int:
    """Bytes on disk; `wide`: ids of three bytes, not two."""
    return 2 * len(entries) + entries.mass.nbytes + (3 if wide else 2) * len(entries.ids)


def thin(logits: torch.Tensor, threshold: float, draws: torch.Tensor) -> Entries:
    """Head and sampled tail of softmax(logits) [n, V], float32, which is overwritten with the probabilities.

    threshold in [LOWEST, HIGHEST] · draws [n, 2] float64, uniform in [0, 1): the starts for the shares and for
    the tail. Raises DataError where logits are not finite.
    """
    if not LOWEST <= threshold <= HIGHEST:
        raise ValueError(f"threshold {threshold} is not within [{LOWEST}, {HIGHEST}]")
    if not len(logits):
        return NONE
    draws = draws.to(logits.device).clamp(0.0, _BELOW_ONE)
    torch.softmax(logits, dim=1, out=logits)
    sums = _column_sums(logits)
    whole = sums.sum(1)
    if not bool(torch.isfinite(whole).all()):
        raise DataError("The teacher's logits are no finite numbers.", "Load the teacher with precision: float32.")
    row, token, probability = _take_head(logits, sums, threshold * whole)
    probability = probability / whole[row]
    head = torch.bincount(row, minlength=len(logits))
    mass, left = _deal(probability, head, draws[:, 0], MASS)
    tail_mass = sums.sum(1)
    tail = torch.ceil(tail_mass / whole / threshold - 1e-5).clamp(min=1).long() * (left > 0)
    drawn_row = torch.repeat_interleave(tail)
    drawn = _draw(logits, sums, tail, drawn_row, draws[:, 1])
    order = torch.argsort(torch.cat([row, drawn_row]), stable=True)  # a row's head comes before its draws
    return Entries(
        head.cpu().numpy().astype(np.uint8),
        tail.cpu().numpy().astype(np.uint8),
        torch.cat([token, drawn])[order].cpu().numpy().astype(np.int32),
        mass.cpu().numpy().astype(MASS),
    )


def known(ids: NDArray[np.int64], mass: NDArray[np.floating[Any]], draws: NDArray[np.float64]) -> Entries:
    """Entries of the tokens that an API names, [n, K] each, different ones in a row but for padding of mass 0.

    The mass that is left belongs to all other tokens together. draws [n] uniform in [0, 1): the starts for the
    shares. Raises DataError for a token that is named twice, or masses that sum to more than 1.01 or are negative.
    """
    named = mass != 0
    head = named.sum(1)
    rows = np.repeat(np.arange(len(head)), head)
    chosen = mass[named].astype(np.float64)
    total = np.bincount(rows, chosen, minlength=len(head))
    if not (chosen > 0).all() or (total > 1.01).any():
        raise DataError("An answer's log-probabilities make more than a whole.", "Ask the teacher at temperature 1.")
    if len(np.unique(np.stack([rows, ids[named]]), axis=1).T) < len(rows) or head.max(initial=0) > 255:
        raise DataError("An answer's log-probabilities name a token twice, or over 255.", "Ask for fewer, once each.")
    fitted = torch.from_numpy(chosen / np.maximum(total, 1.0)[rows])
    start = torch.from_numpy(draws).clamp(0.0, _BELOW_ONE)
    shares, _ = _deal(fitted, torch.from_numpy(head), start, NAMED_MASS)
    none = np.zeros(len(head), np.uint8)
    return Entries(head.astype(np.uint8), none, ids[named].astype(np.int32), shares.numpy().astype(NAMED_MASS))


def uniform(count: int, seed: bytes) -> NDArray[np.float64]:
    """[count, 2] numbers in [0, 1), a fixed function of `seed` (16 bytes); the first ones do not depend on `count`."""
    return np.random.Generator(np.random.Philox(key=int.from_bytes(seed[:16], "little"))).random((count, 2))


def _column_sums(probabilities: torch.Tensor) -> torch.Tensor:
    """[n, ceil(V / COLUMNS)] float64: the mass of each COLUMNS neighbouring tokens."""
    width = probabilities.shape[1]
    whole = width // COLUMNS * COLUMNS
    sums = probabilities[:, :whole].view(len(probabilities), -1, COLUMNS).sum(2).double()
    return sums if whole == width else torch.cat([sums, probabilities[:, whole:].double().sum(1, keepdim=True)], 1)


def _columns(probabilities: torch.Tensor, row: torch.Tensor, block: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(tokens [m], probabilities [m, COLUMNS] from there on) of one block of a row each.

    The last block is read from further back where it is short, with 0 for what belongs to the block before.
    """
    width = probabilities.shape[1]
    columns = min(COLUMNS, width)
    first = block * COLUMNS
    token = first.clamp(max=width - columns)
    windows = probabilities.as_strided((probabilities.numel() - columns + 1, columns), (1, 1))
    values = windows[row * width + token]
    if width % columns:
        values.masked_fill_(torch.arange(columns, device=row.device) < (first - token)[:, None], 0.0)
    return token, values


def _take_head(
    probabilities: torch.Tensor, sums: torch.Tensor, least: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(row, token, probability) of all that reach their row's `least`; they are set to 0, and `sums` follow."""
    row, block = (sums >= least[:, None] * (1 - 1e-5)).nonzero(as_tuple=True)  # no token is above its block's sum
    first, values = _columns(probabilities, row, block)
    at, column = (values >= least[row, None]).nonzero(as_tuple=True)
    token = first[at] + column
    found = values[at, column].double()
    values[at, column] = 0.0
    probabilities[row[at], token] = 0.0
    sums[row, block] = values.double().sum(1)
    return row[at], token, found


def _deal(
    mass: torch.Tensor, head: torch.Tensor, start: torch.Tensor, kind: np.dtype[Any]
) -> tuple[torch.Tensor, torch.Tensor]:
    """(shares of each entry, shares left in each row), for entries row after row, `head` [n] of them in each.

    An entry gets floor(c + start) - floor(b + start), where b and c are the row's shares without and with it.
    """
    every = float(np.iinfo(kind).max)
    row = torch.repeat_interleave(head)
    last = head.cumsum(0)
    ends = torch.cat([mass.new_zeros(1), mass.cumsum(0)])
    before = ends[last - head][row]
    lower, upper = (
        torch.floor(((part - before) * every).clamp(max=every) + start[row]).clamp(max=every)
        for part in (ends[:-1], ends[1:])
    )
    shares = (upper - lower).long()
    return shares, int(every) - torch.zeros_like(head).index_add_(0, row, shares)


def _draw(
    probabilities: torch.Tensor, sums: torch.Tensor, count: torch.Tensor, row: torch.Tensor, start: torch.Tensor
) -> torch.Tensor:
    """Tokens at `count` [n] equal steps through each row's mass; `row` names the row of each draw."""
    blocks = sums.shape[1]
    # All rows lie in one rising line, row i from i to i + 1, so that one search finds every draw's block.
    line = sums.cumsum(1)
    line = (line / line[:, -1:].clamp(min=1e-300) + torch.arange(len(sums), device=sums.device)[:, None]).flatten()
    step = torch.arange(len(row), device=row.device) - (count.cumsum(0) - count)[row]
    point = row + ((step + start[row]) / count[row]).clamp(max=_BELOW_ONE)
    place = torch.searchsorted(line, point, right=True)
    place = torch.minimum(torch.maximum(place, row * blocks), row * blocks + blocks - 1)
    block = place - row * blocks
    lower = torch.where(block > 0, line[place - 1], row.double())
    share = ((point - lower) / (line[place] - lower).clamp(min=1e-300)).clamp(0.0, _BELOW_ONE)
    first, values = _columns(probabilities, row, block)
    within = values.double().cumsum(1)
    column = torch.searchsorted(within, (share * within[:, -1])[:, None], right=True)[:, 0]
    return first + column.clamp(max=within.shape[1] - 1)


def _ends(counts: NDArray[np.integer]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
