"""Rows of words that texts share, found by hashes and then compared word by word.

Texts are numbers of words: positive ones for words of the held-out texts, 0 for any other, which no row may hold.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int32]

_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no power of it vanishes modulo 2^64


class RowsOfWords:
    """All rows of `most` words of some texts; of a shorter text, that has `least` words or more, itself.

    8 bytes a row for its hash and 8 for its place, beside the texts.
    """

    def __init__(self, texts: Sequence[Numbers], *, least: int, most: int) -> None:
        self.stream: Numbers = np.concatenate([*texts, np.zeros(0, dtype=np.int32)])
        lengths = np.array([len(text) for text in texts], dtype=np.int64)
        self.ends = np.cumsum(lengths)
        self.rows: dict[int, tuple[NDArray[np.uint64], NDArray[np.int64]]] = {}
        for length in range(least, most + 1):
            of = lengths >= length if length == most else lengths == length
            if of.any():
                self.rows[length] = self._index(length, np.flatnonzero(of), lengths)

    def _index(self, length: int, of: NDArray[np.int64], lengths: NDArray[np.int64]) -> tuple[
        NDArray[np.uint64], NDArray[np.int64]
    ]:  # fmt: skip
        """Hashes that rise, and where in the stream each row begins."""
        inside = np.zeros(len(self.stream), dtype=np.int8)
        starts = self.ends[of] - lengths[of]
        np.add.at(inside, starts, 1)
        stops = self.ends[of] - length + 1
        np.add.at(inside, stops[stops < len(inside)], -1)
        places = np.flatnonzero(np.cumsum(inside, dtype=np.int8))
        hashes = _hashes(self.stream, length)[places]
        order = np.argsort(hashes, kind="stable")
        return hashes[order], places[order]

    def find(self, words: Numbers) -> list[tuple[int, int]]:
        """Where in `words` rows of held-out texts begin, with the number of such a text; the longest rows first."""
        found: list[tuple[int, int]] = []
        gaps = np.concatenate([[0], np.cumsum(words == 0)])
        for length in sorted(self.rows, reverse=True):
            if len(words) < length:
                continue
            whole = np.flatnonzero(gaps[length:] == gaps[:-length])
            if not len(whole):
                continue
            hashes, places = self.rows[length]
            asked = _hashes(words, length)[whole]
            at = np.minimum(np.searchsorted(hashes, asked), len(hashes) - 1)
            for start, place in zip(whole[hashes[at] == asked], places[at[hashes[at] == asked]], strict=True):
                if np.array_equal(self.stream[place : place + length], words[start : start + length]):
                    found.append((int(start), int(np.searchsorted(self.ends, place, side="right"))))
        return found


def _hashes(words: Numbers, length: int) -> NDArray[np.uint64]:
    """Polynomial hash, modulo 2^64, of each row of `length` words."""
    mixed = _mixed(words)
    count = max(len(words) - length + 1, 0)
    result = np.zeros(count, dtype=np.uint64)
    for place in range(length):
        result *= _BASE
        result += mixed[place : place + count]
    return result


def _mixed(words: Numbers) -> NDArray[np.uint64]:
    """A number of 64 bits for each word that looks like chance (Steele, Lea, Flood 2014: SplitMix64)."""
    x = words.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
