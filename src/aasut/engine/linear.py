"""The engine of linear students: TF-IDF over word and character n-grams, then logistic regression.

A student is a folder: model.safetensors (`idf` [features], `weight` [answers, features], `bias`
[answers], float32) and vocabulary.json (n-gram settings, features in order, answers).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from aasut.engine.base import Piece, Prompt, Scores
from aasut.errors import EngineError, ModelError
from aasut.types import Usage

VOCABULARY = "vocabulary.json"
WEIGHTS = "model.safetensors"


def vectorizer(settings: dict[str, Any], **more: Any) -> Any:
    """scikit-learn's TF-IDF with these settings: lower-cased n-grams of words or characters, sublinear counts."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(
        analyzer=settings["analyzer"],
        ngram_range=(settings["ngram_min"], settings["ngram_max"]),
        min_df=settings["min_df"],
        sublinear_tf=True,
        **more,
    )


def load(path: Path, *, precision: str = "auto", prefix_cache: bool = True) -> LinearEngine:
    """Load a linear student's folder. It has one precision, float32, and no prefix to keep."""
    if precision == "bfloat16":
        raise EngineError("A linear student runs in float32.", "Set its precision to auto or float32.")
    try:
        vocabulary = json.loads((path / VOCABULARY).read_text(encoding="utf-8"))
        weights = load_file(path / WEIGHTS)
        return LinearEngine(vocabulary, weights)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ModelError(f"{path} is no linear student: {error}.", "Run its recipe again.") from error


class LinearEngine:
    """See `engine.base.Engine`; it has no tokens, a word of the input counts as one."""

    name = "linear-float32"
    context = 1 << 30
    prefix_cache = False
    alternatives = 0

    def __init__(self, vocabulary: dict[str, Any], weights: dict[str, NDArray[np.float32]]) -> None:
        self.answers: list[str] = vocabulary["answers"]
        features: list[str] = vocabulary["features"]
        self._vectorizer = vectorizer(vocabulary, vocabulary={feature: i for i, feature in enumerate(features)})
        self._vectorizer.idf_ = weights["idf"].astype(np.float64)
        self.weight, self.bias = weights["weight"].astype(np.float64), weights["bias"].astype(np.float64)
        self.parameters = int(weights["weight"].size + weights["bias"].size + weights["idf"].size)

    def score(self, prompts: Sequence[str], answers: Sequence[str], *, prefix: str = "") -> Scores:
        """As `Engine.score`, for the answers that it was trained on, in any order."""
        wanted = [answer.strip() for answer in answers]
        if sorted(wanted) != sorted(self.answers):
            raise EngineError(
                f"This linear student knows the answers {', '.join(self.answers)}.", "Ask for exactly these."
            )
        logits = self._vectorizer.transform(prompts) @ self.weight.T + self.bias
        logits = logits - logits.max(axis=1, keepdims=True)
        logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        words = sum(self.count_tokens(prompt) for prompt in prompts)
        return Scores(logprobs[:, [self.answers.index(a) for a in wanted]], Usage(words, len(prompts), 0))

    def generate(self, prompts: Sequence[Prompt], *, prefix: str = "") -> Iterator[Piece]:
        raise EngineError("A linear student gives one of its answers and no free text.", "Use `score`.")

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def close(self) -> None:
        """Nothing is held."""
