"""Exact and near duplicates of short texts.

Two texts are exact duplicates where they are equal after normalisation, and near duplicates where
the Jaccard similarity of their sets of 5-character shingles reaches a threshold. MinHash with
locality-sensitive hashing (Broder 1997; Leskovec, Rajaraman, Ullman, Mining of Massive Datasets,
chapter 3) only proposes pairs; each is verified by the exact similarity, so that two different
texts are never taken for one. The chance that a pair at the threshold is not proposed is under
0.1 % for thresholds from 0.06.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

from aasut.progress import Progress

SHINGLE = 5  # characters
SHORT = 20  # characters; in shorter texts one letter may be the whole difference: exact match alone
PERMUTATIONS = 128
_RECALL = 0.999


def fingerprint(slots: Mapping[str, str], names: Sequence[str]) -> str:
    """The text that stands for an example: the named slots in NFKC, case folded, each run of space as one."""
    return "\x1f".join(_normalise(slots[name]) for name in names)


def similarity(first: str, second: str) -> float:
    """Jaccard similarity of the sets of 5-character shingles, 0 to 1; equal texts have 1."""
    if first == second:
        return 1.0
    one, other = _shingles(first), _shingles(second)
    shared = len(one & other)
    return shared / max(len(one) + len(other) - shared, 1)


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
    with progress.steps("find duplicates", len(texts)) as step:
        for number, text in enumerate(texts):
            step.advance()
            if text in exact:
                result.append(exact[text])
                continue
            stands = number
            if len(text) >= SHORT and threshold < 1:
                minhash = RMinHash(PERMUTATIONS, seed & 0xFFFFFFFF)
                minhash.update(sorted(_shingles(text)))
                near = (k for k in sorted(index.query(minhash)) if similarity(texts[k], text) >= threshold)
                stands = next(near, number)
                if stands == number:
                    index.insert(number, minhash)
            exact[text] = stands
            result.append(stands)
    return result


def united(texts: Sequence[str], *, threshold: float, seed: int, progress: Progress) -> list[int]:
    """For each text the index of the first that it hangs together with by pairs that repeat each other, or its own.

    Other than with `representatives` every pair counts, also one of texts that an earlier text stands for. Texts come
    as `fingerprint` makes them.
    """
    from rensa import RMinHash, RMinHashLSH

    parents = list(range(len(texts)))
    exact: dict[str, int] = {}
    index = RMinHashLSH(threshold, PERMUTATIONS, _bands(threshold))
    with progress.steps("find duplicates", len(texts)) as step:
        for number, text in enumerate(texts):
            step.advance()
            first = exact.setdefault(text, number)
            if first != number:
                parents[number] = first
            elif len(text) >= SHORT and threshold < 1:
                minhash = RMinHash(PERMUTATIONS, seed & 0xFFFFFFFF)
                minhash.update(sorted(_shingles(text)))
                for near in sorted(index.query(minhash)):
                    one, other = _root(parents, near), _root(parents, number)
                    if one != other and similarity(texts[near], text) >= threshold:
                        parents[max(one, other)] = min(one, other)
                index.insert(number, minhash)
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


def _shingles(text: str) -> set[str]:
    return {text[i : i + SHINGLE] for i in range(len(text) - SHINGLE + 1)}


def _bands(threshold: float) -> int:
    """Fewest bands whose chance of proposing a pair at the threshold, 1 - (1 - s^rows)^bands, is high enough."""
    for rows in (16, 8, 4, 2):
        bands = PERMUTATIONS // rows
        if 1 - (1 - threshold**rows) ** bands >= _RECALL:
            return bands
    return PERMUTATIONS
