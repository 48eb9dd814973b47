"""Dealing whole groups out to splits: by exact shares of rows, or by a hash that no further group changes."""

from __future__ import annotations

import hashlib
import random
from collections import deque
from collections.abc import Mapping

from aasut.errors import DataError


def part(sizes: Mapping[str, int], weights: Mapping[str, float], rng: random.Random) -> dict[str, str]:
    """Deal shuffled groups out to the splits until each has its share of the rows.

    A split takes a group as long as more than half of it lies within the split's share. Each split
    with a weight takes at least one group while there are any, in the order of the weights. sizes:
    rows by group; weights: by split. Raises DataError where all weights are 0.
    """
    wanted = _with_weight(weights) if sizes else []
    order = sorted(sizes)
    rng.shuffle(order)
    queue = deque(order)
    total, whole = sum(sizes.values()), sum(weights[split] for split in wanted)
    reached, bound = 0, 0.0
    result: dict[str, str] = {}
    for split in wanted:
        bound += total * weights[split] / whole
        empty = True
        while queue and (empty or split == wanted[-1] or reached + sizes[queue[0]] / 2 < bound):
            reached += sizes[queue[0]]
            result[queue.popleft()] = split
            empty = False
    return result


def by_hash(group: str, weights: Mapping[str, float], seed: int) -> str:
    """The split of a group: where a hash of seed and group, as a share of 1, falls on the weights laid end to end.

    It depends on nothing else: whatever groups come later, this one stays where it is. Shares are
    met on average only. Raises DataError where all weights are 0.
    """
    wanted = _with_weight(weights)
    place = share_of(f"{seed} split {group}") * sum(weights[split] for split in wanted)
    for split in wanted:
        place -= weights[split]
        if place < 0:
            return split
    return wanted[-1]


def share_of(text: str) -> float:
    """A number from 0 to below 1 that depends on the text alone, evenly spread over texts."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:6], "big") / 2**48


def _with_weight(weights: Mapping[str, float]) -> list[str]:
    wanted = [split for split in weights if weights[split] > 0]
    if not wanted:
        raise DataError("data.split gives no split a weight.", "Raise data.split.test.")
    return wanted
