"""Which blocks of a model's cache of keys and values each answer has; blocks of equal beginnings are shared.

A block holds the keys and values of SIZE tokens at consecutive places. Who wants blocks gets a lease of
all that the prompt and its answer can need, so that an answer once begun never lacks room.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

SIZE = 32  # tokens; what OpenVINO's attention on CPUs has


@dataclass(eq=False)
class Lease:
    """`blocks` in the order of their tokens; `keys` names those that the prompt fills, of which `ready` are filled."""

    blocks: list[int]
    keys: list[bytes]
    ready: int


class Blocks:
    """A pool of `count` blocks. What was filled once stays to be shared until its block is needed otherwise."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._holders = [0] * count
        self._names: dict[int, bytes] = {}  # of blocks that are filled
        self._known: dict[bytes, int] = {}
        self._empty = list(range(count))[::-1]  # nobody's, taken from the end: those used before come first
        self._kept: OrderedDict[int, None] = OrderedDict()  # nobody's and filled, the longest unused first
        self._coming: set[bytes] = set()

    @property
    def free(self) -> int:
        """Blocks that can be had."""
        return len(self._empty) + len(self._kept)

    def comes(self, keys: Sequence[bytes]) -> bool:
        """Is someone about to fill the first of these blocks that is not there yet?"""
        return next((key for key in keys if key not in self._known), b"") in self._coming

    def lease(self, keys: Sequence[bytes], most: int) -> Lease | None:
        """Blocks for `most` tokens that begin as `keys` say; None where too few are free."""
        shared = []
        for key in keys:
            if key not in self._known:
                break
            shared.append(self._known[key])
        more = -(-most // SIZE) - len(shared)
        if self.free - sum(block in self._kept for block in shared) < more:
            return None
        for block in shared:
            self._kept.pop(block, None)
        blocks = shared + [self._take() for _ in range(more)]
        for block in blocks:
            self._holders[block] += 1
        self._coming.update(keys[len(shared) :])
        return Lease(blocks, list(keys), len(shared))

    def fill(self, lease: Lease, tokens: int) -> None:
        """The first `tokens` tokens of the lease are in their blocks now."""
        while lease.ready < min(tokens // SIZE, len(lease.keys)):
            key, block = lease.keys[lease.ready], lease.blocks[lease.ready]
            if key not in self._known:
                self._known[key], self._names[block] = block, key
            self._coming.discard(key)
            lease.ready += 1

    def release(self, lease: Lease) -> None:
        """Give a lease back."""
        self._coming.difference_update(lease.keys[lease.ready :])
        for block in reversed(lease.blocks):  # an end is of use only behind its beginning, and so goes first
            self._holders[block] -= 1
            if self._holders[block] == 0:
                if block in self._names:
                    self._kept[block] = None
                else:
                    self._empty.append(block)
        lease.blocks, lease.keys, lease.ready = [], [], 0

    def _take(self) -> int:
        if self._empty:
            return self._empty.pop()
        block, _ = self._kept.popitem(last=False)
        del self._known[self._names.pop(block)]
        return block


def names(tokens: Sequence[int]) -> list[bytes]:
    """A name of each whole block of a prompt, told by all tokens up to its end; the last token is in none of them.

    That one is always computed: what comes after it is asked for.
    """
    plain, found, name = np.array(tokens, np.int32), [], b""
    for end in range(SIZE, len(tokens), SIZE):
        name = blake2b(name + plain[end - SIZE : end].tobytes(), digest_size=16).digest()
        found.append(name)
    return found
