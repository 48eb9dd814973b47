"""Texts whose words stand in another text in another order: shuffled sentences, shuffled words.

A word weighs its inverse document frequency over the held-out texts, so that rare words decide most. A held-out text is
found where so many words in a row as it has hold a share of its weight. An index of each text's rarest words proposes
candidates and misses none: a text that has none of those lacks too much weight (prefix filtering; Chaudhuri, Ganti and
Kaushik 2006).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int32]

FLOOR = 0.3  # of the highest weight: in a short text no word is missed for nothing
_HELD = 4096  # bags


class BagsOfWords:
    """Bags of the words of some texts, which are numbers of words, from 1 to `vocabulary`; 0 is any other word."""

    def __init__(self, texts: Sequence[Numbers], vocabulary: int, *, least: int, share: float) -> None:
        """`least`: words that a text must have to be looked for."""
        self.texts, self.share = texts, share
        self.weights = _weights(texts, vocabulary)
        self.bag = lru_cache(_HELD)(lambda number: Counter(self.texts[number].tolist()))
        self.keys: dict[int, list[int]] = defaultdict(list)
        self.fewest = np.zeros(len(texts), dtype=np.int64)  # words that can hold the share of a text's weight
        for number, text in enumerate(texts):
            if len(text) >= least:
                self._add(number, text)

    def _add(self, number: int, text: Numbers) -> None:
        """Index a text by its heaviest words, so many that a text without any of them lacks too much."""
        found, counts = np.unique(text, return_counts=True)
        order = np.argsort(-self.weights[found], kind="stable")
        weights = np.cumsum((self.weights[found] * counts)[order])
        spare = (1 - self.share) * weights[-1]
        for word in found[order][: int(np.searchsorted(weights, spare, side="right")) + 1]:
            self.keys[int(word)].append(number)
        each = np.cumsum(np.sort(self.weights[text])[::-1])
        self.fewest[number] = int(np.searchsorted(each, self.share * weights[-1] * (1 - 1e-9))) + 1

    def find(self, words: Numbers) -> tuple[int, float] | None:
        """The number of a text whose words stand in `words`, and the share of its weight that does; None for none."""
        bag = Counter(words.tolist())
        candidates = {number for word in bag if word for number in self.keys.get(word, ())}
        best: tuple[float, int] = (0.0, 0)
        for number in sorted(candidates):
            if len(words) < self.fewest[number] or self._overlap(bag, self.bag(number)) < self.share:
                continue
            best = max(best, (self._densest(words, number), -number))
        share, number = best
        return (-number, float(share)) if share >= self.share else None

    def _overlap(self, bag: Mapping[int, int], wanted: Mapping[int, int]) -> float:
        """Share of the weight of `wanted` that is in `bag`."""
        return self._weight((word, min(count, bag.get(word, 0))) for word, count in wanted.items()) / self._weight(
            wanted.items()
        )

    def _weight(self, counts: Iterable[tuple[int, int]]) -> float:
        return float(sum(self.weights[word] * count for word, count in counts))

    def _densest(self, words: Numbers, number: int) -> float:
        """The highest share that so many words in a row as the text has hold."""
        wanted, width = self.bag(number), len(self.texts[number])
        total = self._weight(wanted.items())
        missing = Counter(wanted)  # below zero: more than are wanted
        lacks = best = total
        numbers = words.tolist()
        for place, word in enumerate(numbers):
            if word in missing:
                lacks -= self.weights[word] if missing[word] > 0 else 0.0
                missing[word] -= 1
            if place >= width and (gone := numbers[place - width]) in missing:
                missing[gone] += 1
                lacks += self.weights[gone] if missing[gone] > 0 else 0.0
            best = min(best, lacks)
        return 1 - max(best, 0.0) / total


def _weights(texts: Sequence[Numbers], vocabulary: int) -> NDArray[np.float64]:
    """log((texts + 1) / (texts with the word + 1/2)) by word's number, and not below a share of the highest."""
    counts = np.zeros(vocabulary + 1, dtype=np.int64)
    for text in texts:
        counts[np.unique(text)] += 1
    weights: NDArray[np.float64] = np.log((len(texts) + 1) / (counts + 0.5))
    return weights.clip(FLOOR * weights.max())
