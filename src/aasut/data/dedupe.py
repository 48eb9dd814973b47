"""Exact and near duplicates: of short texts, and of conversations as wholes.

Two texts are exact duplicates where they are equal after normalisation, and near duplicates where
the Jaccard similarity of their sets of 5-character shingles reaches a threshold. MinHash with
locality-sensitive hashing (Broder 1997; Leskovec, Rajaraman, Ullman, Mining of Massive Datasets,
chapter 3) only proposes pairs; each is verified by the exact similarity, so that two different
texts are never taken for one. The chance that a pair at the threshold is not proposed is under
0.1 % for thresholds from 0.06. Of the pairs proposed, those whose sketches agree so little that they are
below the threshold all but surely (4 standard deviations) are not compared further.

Where there is a model of sentences, `alike` finds what says the same in other words.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from aasut.progress import Progress

SHINGLE = 5  # characters
SHORT = 20  # characters; in shorter texts one letter may be the whole difference: exact match alone
PERMUTATIONS = 128
_RECALL = 0.999
_HELD = 1024  # sets of shingles
_SURE = 4.0  # standard deviations of the share in which two sketches agree
_BLOCK = 2048  # texts
_ROUNDING = 1e-5  # of a cosine in float32, a sum of hundreds of terms: equal texts have 1


def fingerprint(slots: Mapping[str, str], names: Sequence[str]) -> str:
    """The text that stands for an example: the named slots in NFKC, case folded, each run of space as one."""
    return whole(slots[name] for name in names)


def whole(turns: Iterable[str]) -> str:
    """The text that stands for a conversation: all its turns, so that one alone makes no two the same."""
    return "\x1f".join(map(_normalise, turns))


def similarity(first: str, second: str) -> float:
    """Jaccard similarity of the sets of 5-character shingles, 0 to 1; equal texts have 1."""
    return 1.0 if first == second else _jaccard(_shingles(first), _shingles(second))


def representatives(texts: Sequence[str], *, threshold: float, seed: int, progress: Progress) -> list[int]:
    """For each text the index of the one that stands for it: an earlier text that it repeats, or itself.

    A text that repeats another is no representative, so each is similar itself, by `threshold` or
    more, to the one that stands for it, and no two representatives repeat each other. Texts come as
    `fingerprint` makes them, in the order in which they are to be preferred.
    """
    from rensa import RMinHash, RMinHashLSH

    exact: dict[str, int] = {}
    result: list[int] = []
    index = RMinHashLSH(threshold, PERMUTATIONS, _bands(threshold))
    kept = _Kept(texts, threshold)
    with progress.steps("find duplicates", len(texts)) as step:
        for number, text in enumerate(texts):
            step.advance()
            if text in exact:
                result.append(exact[text])
                continue
            stands = number
            if len(text) >= SHORT and threshold < 1:
                shingles = _shingles(text)
                minhash = RMinHash(PERMUTATIONS, seed & 0xFFFFFFFF)
                minhash.update(list(shingles))
                near = (k for k in sorted(index.query(minhash)) if kept.similar(k, shingles, minhash))
                stands = next(near, number)
                if stands == number:
                    index.insert(number, minhash)
                    kept.add(number, shingles, minhash)
            exact[text] = stands
            result.append(stands)
    return result


def alike(vectors: Any, *, threshold: float, progress: Progress) -> list[int]:
    """For each text the index of the one that stands for it, as `representatives` has it, by cosine.

    vectors: embeddings of the texts, float [texts, width], of length 1, in the order in which the texts are to be
    preferred. All pairs are compared, a block at a time: exact, and at most [_BLOCK, _BLOCK] cosines are held.
    """
    import numpy as np

    least = threshold - _ROUNDING
    stands = np.arange(len(vectors))
    kept = np.empty(0, dtype=np.int64)
    with progress.steps("find alike texts", len(vectors)) as step:
        for start in range(0, len(vectors), _BLOCK):
            block = np.asarray(vectors[start : start + _BLOCK], dtype=np.float32)
            for some in (kept[i : i + _BLOCK] for i in range(0, len(kept), _BLOCK)):
                near = block @ np.asarray(vectors[some], dtype=np.float32).T >= least
                found = near.any(axis=1) & (stands[start : start + len(block)] >= start)
                stands[start : start + len(block)][found] = some[near[found].argmax(axis=1)]
            kept = np.concatenate([kept, start + _within(block, least, stands[start : start + len(block)], start)])
            step.advance(len(block))
    return [int(number) for number in stands]


def _within(block: Any, least: float, stands: Any, start: int) -> Any:
    """Settle what no text of an earlier block stands for, in `stands`; returns the block's new representatives."""
    import numpy as np

    near = block @ block.T >= least
    free = np.zeros(len(block), dtype=bool)  # representatives so far
    for row in np.flatnonzero(stands >= start):
        earlier = near[row, :row] & free[:row]
        if earlier.any():
            stands[row] = start + earlier.argmax()
        else:
            free[row] = True
    return np.flatnonzero(free)


class _Kept:
    """Texts to compare with: how many shingles each has, and the sets of those compared last."""

    def __init__(self, texts: Sequence[str], threshold: float) -> None:
        self.sizes: dict[int, int] = {}
        self.sketches: dict[int, Any] = {}
        self.shingles = lru_cache(_HELD)(lambda number: _shingles(texts[number]))
        self.threshold = threshold
        self.agree = threshold - _SURE * (threshold * (1 - threshold) / PERMUTATIONS) ** 0.5

    def add(self, number: int, shingles: set[str], sketch: Any) -> None:
        self.sizes[number], self.sketches[number] = len(shingles), sketch

    def similar(self, number: int, shingles: set[str], sketch: Any) -> bool:
        """Do they repeat text `number`? Sizes alone bound what two sets can share, and sketches tell most others."""
        least, most = sorted((self.sizes[number], len(shingles)))
        if least / most < self.threshold or sketch.jaccard(self.sketches[number]) < self.agree:
            return False
        return _jaccard(self.shingles(number), shingles) >= self.threshold


def united(texts: Sequence[str], *, threshold: float, seed: int, progress: Progress) -> list[int]:
    """For each text the index of the first that it hangs together with by pairs that repeat each other, or its own.

    Other than with `representatives` every pair counts, also one of texts that an earlier text stands for. Texts come
    as `fingerprint` makes them.
    """
    from rensa import RMinHash, RMinHashLSH

    parents = list(range(len(texts)))
    exact: dict[str, int] = {}
    index = RMinHashLSH(threshold, PERMUTATIONS, _bands(threshold))
    kept = _Kept(texts, threshold)
    with progress.steps("find duplicates", len(texts)) as step:
        for number, text in enumerate(texts):
            step.advance()
            first = exact.setdefault(text, number)
            if first != number:
                parents[number] = first
            elif len(text) >= SHORT and threshold < 1:
                shingles = _shingles(text)
                minhash = RMinHash(PERMUTATIONS, seed & 0xFFFFFFFF)
                minhash.update(list(shingles))
                for near in sorted(index.query(minhash)):
                    one, other = _root(parents, near), _root(parents, number)
                    if one != other and kept.similar(near, shingles, minhash):
                        parents[max(one, other)] = min(one, other)
                index.insert(number, minhash)
                kept.add(number, shingles, minhash)
    return [_root(parents, number) for number in range(len(texts))]


def _root(parents: list[int], number: int) -> int:
    while parents[number] != number:
        parents[number] = parents[parents[number]]
        number = parents[number]
    return number


def _normalise(text: str) -> str:
    # Case folding can undo the normal form (Unicode 3.13, compatibility caseless matching), hence twice.
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.split())


def _jaccard(one: set[str], other: set[str]) -> float:
    shared = len(one & other)
    return shared / max(len(one) + len(other) - shared, 1)


def _shingles(text: str) -> set[str]:
    return {text[i : i + SHINGLE] for i in range(len(text) - SHINGLE + 1)}


def _bands(threshold: float) -> int:
    """Fewest bands whose chance of proposing a pair at the threshold, 1 - (1 - s^rows)^bands, is high enough."""
    for rows in (16, 8, 4, 2):
        bands = PERMUTATIONS // rows
        if 1 - (1 - threshold**rows) ** bands >= _RECALL:
            return bands
    return PERMUTATIONS
