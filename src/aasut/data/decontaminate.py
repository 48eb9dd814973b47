"""Contamination: what was made here and repeats a held-out text.

Three tests, each over words as `aasut.words` compares them, so that case, spaces, Unicode variants, punctuation and the
script of digits hide nothing:

- 13 words in a row (Brown et al. 2020, appendix C); of a held-out text with 5 to 12 words, all of them; of a shorter
  one, all of them where a text is nothing else;
- the same words in another order (see bags_of_words.py);
- with a model of sentences, a cosine from a threshold: the same in other words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from aasut import words
from aasut.data.bags_of_words import BagsOfWords
from aasut.data.held_out import Entry
from aasut.data.rows_of_words import RowsOfWords
from aasut.progress import Progress

ROW = 13  # words
SHORT = 5  # words; shorter texts are common speech
SHARE = 0.95  # of the weight of a held-out text's words
EMBEDDED = 3  # words; a shorter text has no meaning to compare
_BLOCK = 4096  # vectors compared at once

Why = Literal["words in a row", "same words", "alike"]
Numbers = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Match:
    """The held-out entry that a text repeats. `share`: of its words, or the cosine, by which it does."""

    set: str
    place: str
    why: Why
    share: float


class Held:
    """Held-out texts, to be looked for.

    An entry is looked for by each of its texts (a question without its answer is contamination too) and as a whole.
    embedder: an engine.embed.Embedder; cosine: from which two texts say the same.
    """

    def __init__(
        self, entries: Iterable[Entry], *, embedder: Any | None = None, cosine: float = 0.9, progress: Progress
    ) -> None:
        self.entries: list[Entry] = []
        self.owners: list[int] = []  # the entry of each text
        self.vocabulary: dict[str, int] = {}
        texts: list[str] = []
        numbers: list[Numbers] = []
        for entry in entries:
            self.entries.append(entry)
            for text in _looked_for(entry):
                found = words.words(text)
                if found:
                    known = [self.vocabulary.setdefault(word, len(self.vocabulary) + 1) for word in found]
                    numbers.append(np.array(known, dtype=np.int32))
                    self.owners.append(len(self.entries) - 1)
                    if embedder is not None and len(found) >= EMBEDDED:
                        texts.append(text)
        self.short = {text.tobytes(): number for number, text in enumerate(numbers) if len(text) < SHORT}
        self.rows = RowsOfWords(numbers, least=SHORT, most=ROW)
        self.bags = BagsOfWords(numbers, len(self.vocabulary), least=SHORT, share=SHARE)
        self.embedder, self.cosine = embedder, cosine
        self.embedded = [self.owners[n] for n, text in enumerate(numbers) if len(text) >= EMBEDDED]
        self.vectors = None if embedder is None else embedder.embed(texts, progress=progress)

    def find(self, items: Sequence[Sequence[str]]) -> list[Match | None]:
        """For each item the entry that it repeats, or None.

        An item is its texts: the whole, and those of its parts that could be a held-out text alone, such as its
        questions. Items are best given by the hundred: their embeddings are computed together.
        """
        texts = [(number, text) for number, item in enumerate(items) for text in item]
        found: list[Match | None] = [None] * len(items)
        for (number, _), match in zip(texts, self._by_words([text for _, text in texts]), strict=True):
            found[number] = found[number] or match
        open_ = [(number, text) for number, text in texts if found[number] is None]
        for start in range(0, len(open_), _BLOCK):
            some = open_[start : start + _BLOCK]
            for (number, _), match in zip(some, self._alike([text for _, text in some]), strict=True):
                found[number] = found[number] or match
        return found

    def _by_words(self, texts: Sequence[str]) -> list[Match | None]:
        """Rows of words of all texts at once, then the bags of those that have none."""
        if not texts:
            return []
        known = self.vocabulary
        numbers = [np.array([known.get(word, 0) for word in words.words(t)], dtype=np.int32) for t in texts]
        gap = np.zeros(1, dtype=np.int32)
        ends = np.cumsum([len(text) + 1 for text in numbers])
        rows: dict[int, int] = {}
        for start, held in self.rows.find(np.concatenate([part for text in numbers for part in (text, gap)])):
            rows.setdefault(int(np.searchsorted(ends, start, side="right")), held)
        return [self._of_words(text, rows.get(number)) for number, text in enumerate(numbers)]

    def _of_words(self, text: Numbers, row: int | None) -> Match | None:
        """`row`: the held-out text of which it has words in a row, where it has."""
        if row is None:
            row = self.short.get(text.tobytes())
        if row is not None:
            return self._of(self.owners[row], "words in a row", 1.0)
        bag = self.bags.find(text)
        return None if bag is None else self._of(self.owners[bag[0]], "same words", bag[1])

    def _alike(self, texts: Sequence[str]) -> list[Match | None]:
        """The entry of the highest cosine for each text, where that is high enough."""
        if self.embedder is None or self.vectors is None or not len(self.vectors):
            return [None] * len(texts)
        asked = self.embedder.embed(texts)
        best, at = np.full(len(texts), -1.0), np.zeros(len(texts), dtype=np.int64)
        for start in range(0, len(self.vectors), _BLOCK):
            cosines = asked @ self.vectors[start : start + _BLOCK].T
            higher = cosines.max(axis=1) > best
            best[higher] = cosines.max(axis=1)[higher]
            at[higher] = start + cosines.argmax(axis=1)[higher]
        return [
            self._of(self.embedded[number], "alike", float(cosine)) if cosine >= self.cosine - 1e-6 else None
            for cosine, number in zip(best, at, strict=True)
        ]

    def _of(self, entry: int, why: Why, share: float) -> Match:
        return Match(self.entries[entry].set, self.entries[entry].place, why, share)


def _looked_for(entry: Entry) -> list[str]:
    texts = [text for text in entry.texts if text.strip()]
    return [*texts, "\n".join(texts)] if len(texts) > 1 else texts
