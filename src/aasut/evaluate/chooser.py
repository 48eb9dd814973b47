"""Which field a text is of: the classifier in front of separate students. TF-IDF of words, then logistic regression."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

PIECE, MOST = 1000, 400  # characters of a text that is learned, and such texts of a field


class Chooser:
    """Learned from texts of each field."""

    def __init__(self, texts: Mapping[str, Sequence[str]], seed: int) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        pairs = [(piece, name) for name, of in texts.items() for piece in pieces(of, seed)]
        self._model: Any = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10, max_iter=500))
        self._model.fit(*map(list, zip(*pairs, strict=True)))

    def choose(self, texts: Sequence[str]) -> list[str]:
        """The field of each text."""
        return [str(name) for name in self._model.predict(list(texts))] if texts else []


def pieces(texts: Sequence[str], seed: int) -> list[str]:
    """The texts cut up, MOST pieces drawn by the seed."""
    cut = [text[start : start + PIECE] for text in texts for start in range(0, len(text), PIECE)]
    return cut if len(cut) <= MOST else random.Random(seed).sample(cut, MOST)
