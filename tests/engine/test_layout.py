from __future__ import annotations

import random

import numpy as np
import pytest

from aasut.engine.layout import Batch, batches, lay_out
from aasut.engine.tree import TokenTree, build

PAD = 99
FLAT = build([[5], [6]], None)
DEEP = build([[7, 8, 20, 21], [7, 8, 20, 22, 23], [7, 8], [9, 1], [9, 2]], 0)


def rows_of(count: int = 40) -> list[list[int]]:
    draw = random.Random(2)
    return [[draw.randint(100, 200) for _ in range(draw.randint(1, 30))] for _ in range(count)]


@pytest.mark.parametrize("tree", [FLAT, DEEP], ids=["flat", "deep"])
def test_every_row_is_in_one_batch_with_its_tokens_first_and_padding_last(tree: TokenTree) -> None:
    rows = rows_of()
    extra = len(tree.nodes)
    seen: list[int] = []
    for batch in batches(rows, tree, max_tokens=120, pad=PAD):
        assert batch.ids.size <= 120
        for i, row in enumerate(batch.rows):
            tokens = [*rows[row], *tree.nodes]
            assert batch.ids[i].tolist() == tokens + [PAD] * (batch.ids.shape[1] - len(tokens))
            assert batch.decide[i].tolist() == list(range(len(rows[row]) - 1, len(rows[row]) + extra))
        assert batch.tokens == sum(len(rows[row]) + extra for row in batch.rows)
        seen += batch.rows.tolist()
    assert sorted(seen) == list(range(len(rows)))


def test_rows_of_like_length_share_a_batch() -> None:
    found = list(batches(rows_of(), FLAT, max_tokens=120))
    computed = sum(batch.ids.size for batch in found)
    assert len(found) < 12
    assert sum(batch.tokens for batch in found) > 0.85 * computed  # in the order given: 0.6


def test_a_row_longer_than_a_batch_goes_alone() -> None:
    found = list(batches([[1] * 50, [2] * 3, [3] * 4], FLAT, max_tokens=10))
    assert [batch.rows.tolist() for batch in found] == [[1, 2], [0]]
    assert found[1].ids.tolist() == [[1] * 50]


def test_no_rows_make_no_batch() -> None:
    assert list(batches([], DEEP)) == []


def test_positions_count_the_prefix_and_a_nodes_depth() -> None:
    batch = lay_out([[11, 12], [13, 14, 15]], [0, 1], DEEP, prefix=10, pad=PAD)
    depths = list(DEEP.depths)
    assert depths == [1, 2, 3, 1]
    assert batch.positions[0, :6].tolist() == [10, 11, *[11 + d for d in depths]]
    assert batch.positions[1].tolist() == [10, 11, 12, *[12 + d for d in depths]]


def sees(batch: Batch, row: int, query: int) -> list[int]:
    assert batch.mask is not None
    return np.flatnonzero(batch.mask[row, query]).tolist()


def test_a_node_sees_the_row_and_its_ancestors_and_nothing_else() -> None:
    batch = lay_out([[11, 12], [13, 14, 15]], [0, 1], DEEP, prefix=0, pad=PAD)
    for row, length in ((0, 2), (1, 3)):
        for query in range(length):
            assert sees(batch, row, query) == list(range(query + 1))
        for node in range(len(DEEP.nodes)):
            above = [length + int(n) for n in np.flatnonzero(DEEP.mask()[node])]
            assert sees(batch, row, length + node) == [*range(length), *above]
    assert sees(batch, 0, 6)  # padding sees something, so that its softmax is no 0/0


def test_without_inner_nodes_plain_causal_order_is_enough() -> None:
    assert lay_out([[11, 12]], [0], FLAT, prefix=0, pad=PAD).mask is None
