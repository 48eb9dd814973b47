"""How rows of tokens are laid out for a forward pass: batches of like length, each row followed by the answer tree.

Rows are padded on the right, where causal attention never looks, and sorted by length first, so
that little is padded. Which rows share a batch depends on their lengths and order alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aasut.engine.tree import TokenTree


@dataclass(frozen=True)
class Batch:
    """A padded batch of B rows, S tokens each, after a shared prefix of P tokens.

    rows        [B] which of the caller's rows
    ids         [B, S] token ids
    positions   [B, S] positions, the prefix counted
    mask        [B, S, S] may query s look at key t of its own row? None where plain causal order does
    decide      [B, 1 + nodes] columns of `ids` whose output decides: the row's last token, then the tree's nodes
    tokens      tokens that are not padding
    """

    rows: NDArray[np.int64]
    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    mask: NDArray[np.bool_] | None
    decide: NDArray[np.int64]
    tokens: int


def batches(
    rows: Sequence[Sequence[int]], tree: TokenTree, *, prefix: int = 0, max_tokens: int = 1024, pad: int = 0
) -> Iterator[Batch]:
    """All rows, sorted by length, in batches of at most `max_tokens` tokens with padding (one row at least)."""
    order = sorted(range(len(rows)), key=lambda row: (len(rows[row]), row))
    extra = len(tree.nodes)
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and (end + 1 - start) * (len(rows[order[end]]) + extra) <= max_tokens:
            end += 1
        yield lay_out(rows, order[start:end], tree, prefix=prefix, pad=pad)
        start = end


def micro_batches(rows: Sequence[Sequence[int]], chosen: Sequence[int], tree: TokenTree, most: int) -> Iterator[Batch]:
    """The chosen rows, in their order, in batches of at most `most` tokens with padding, one row at least."""
    extra = len(tree.nodes)
    part: list[int] = []
    width = 0
    for row in chosen:
        wider = max(width, len(rows[row]) + extra)
        if part and wider * (len(part) + 1) > most:
            yield lay_out(rows, part, tree, prefix=0, pad=0)
            part, wider = [], len(rows[row]) + extra
        part.append(row)
        width = wider
    if part:
        yield lay_out(rows, part, tree, prefix=0, pad=0)


def lay_out(rows: Sequence[Sequence[int]], chosen: Sequence[int], tree: TokenTree, *, prefix: int, pad: int) -> Batch:
    """One batch of the chosen rows."""
    extra = len(tree.nodes)
    lengths = [len(rows[row]) for row in chosen]
    width = max(lengths) + extra
    ids = np.full((len(chosen), width), pad, np.int64)
    positions = np.zeros((len(chosen), width), np.int64)
    decide = np.zeros((len(chosen), 1 + extra), np.int64)
    mask = np.zeros((len(chosen), width, width), bool) if extra else None
    for i, (row, length) in enumerate(zip(chosen, lengths, strict=True)):
        ids[i, :length] = rows[row]
        ids[i, length : length + extra] = tree.nodes
        positions[i] = prefix + np.minimum(np.arange(width), length)
        decide[i, 0] = length - 1
        if mask is not None:
            positions[i, length : length + extra] = prefix + length - 1 + np.array(tree.depths)
            decide[i, 1:] = length + np.arange(extra)
            mask[i] = np.tril(np.ones((width, width), bool))
            mask[i, length : length + extra, length : length + extra] = tree.mask()
    return Batch(np.array(chosen, np.int64), ids, positions, mask, decide, sum(lengths) + extra * len(chosen))
