"""The linear student, and the baseline that every other student is held against."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from aasut.engine.linear import VOCABULARY, WEIGHTS, vectorizer
from aasut.errors import DataError
from aasut.store import disk_errors, write_atomically

# Chosen by validation loss on the teacher's answers.
NGRAMS = (
    {"analyzer": "word", "ngram_min": 1, "ngram_max": 2, "min_df": 1},
    {"analyzer": "char_wb", "ngram_min": 2, "ngram_max": 5, "min_df": 2},
)
STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)  # inverse regularisation, as scikit-learn's C


def fit(
    texts: Sequence[str],
    probabilities: NDArray[np.float64],
    validation: Sequence[int],
    answers: Sequence[str],
    folder: Path,
) -> dict[str, Any]:
    """Fit on soft answers [rows, answers], settings chosen on the rows `validation`; then fit on all rows.

    Each row counts once for each answer, weighted by its probability: the cross-entropy to the
    teacher's distribution, as the other students have it. Raises DataError where all answers are one and
    the same, or no text has a word.
    """
    held = set(validation)
    train = [i for i in range(len(texts)) if i not in held]
    if (probabilities[train].max(axis=0) > 1e-6).sum() < 2:  # a rare answer is in `validation` alone
        train = list(range(len(texts)))
    best: tuple[float, dict[str, Any], float] | None = None
    for ngrams in NGRAMS:
        words = vectorizer(ngrams)
        try:
            matrix = words.fit_transform([texts[i] for i in train])
        except ValueError:  # texts of single letters have no words for scikit-learn
            continue
        held_matrix = words.transform([texts[i] for i in validation])
        for strength in STRENGTHS:
            logq = _logprobs(_fit(matrix, probabilities[train], strength), held_matrix, len(answers))
            loss = float(-(probabilities[list(validation)] * logq).sum(axis=1).mean())
            if best is None or loss < best[0]:
                best = loss, ngrams, strength
    if best is None:
        raise DataError("No words are found in the texts.", "Look at the data's slots: do they hold the inputs?")
    loss, ngrams, strength = best
    words = vectorizer(ngrams)
    model = _fit(words.fit_transform(texts), probabilities, strength)
    weight, bias = _dense(model, words.idf_.size, len(answers))
    folder.mkdir(parents=True, exist_ok=True)
    features = [str(feature) for feature in words.get_feature_names_out()]
    with disk_errors(folder):
        save_file({"idf": words.idf_.astype(np.float32), "weight": weight, "bias": bias}, folder / WEIGHTS)
    body = {**ngrams, "answers": list(answers), "features": features}
    write_atomically(folder / VOCABULARY, json.dumps(body, ensure_ascii=False))
    return {"ngrams": ngrams, "strength": strength, "validation_loss": loss, "features": len(features)}


def file_bytes(texts: Sequence[str], answers: int) -> float:
    """Bytes of a linear student that is fitted on these texts: the mean over NGRAMS, of which one will be chosen.

    A feature has a float32 weight for each answer, another of its own, and its name in JSON.
    """
    sizes = []
    for ngrams in NGRAMS:
        try:
            names = vectorizer(ngrams).fit(texts).get_feature_names_out()
        except ValueError:  # texts of single letters have no words for scikit-learn
            continue
        written = json.dumps([str(name) for name in names], ensure_ascii=False).encode("utf-8", "replace")
        sizes.append(4 * (answers + 1) * len(names) + len(written))
    return sum(sizes) / max(len(sizes), 1)


def _fit(matrix: Any, probabilities: NDArray[np.float64], strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    rows, columns = np.nonzero(probabilities > 1e-6)
    if len(set(columns.tolist())) < 2:
        raise DataError(
            "The teacher gave all inputs one and the same answer, so that there is nothing to learn.",
            "Try the teacher's prompt on some inputs, or give inputs that differ.",
        )
    model = LogisticRegression(C=strength, max_iter=2000)
    model.fit(matrix[rows], columns, sample_weight=probabilities[rows, columns])
    return model


def _dense(model: Any, features: int, answers: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights [answers, features] and bias [answers]; scikit-learn keeps one row where there are two classes.

    An answer that no row was given gets a bias that makes it all but impossible.
    """
    weight = np.zeros((answers, features), np.float32)
    bias = np.full(answers, -30.0, np.float32)
    classes = list(model.classes_)
    if len(classes) == 2:
        weight[classes[1]], bias[classes[1]] = model.coef_[0], model.intercept_[0]
        bias[classes[0]] = 0.0
    else:
        weight[classes], bias[classes] = model.coef_, model.intercept_
    return weight, bias


def _logprobs(model: Any, matrix: Any, answers: int) -> NDArray[np.float64]:
    weight, bias = _dense(model, matrix.shape[1], answers)
    logits: NDArray[np.float64] = matrix @ weight.astype(np.float64).T + bias
    logits -= logits.max(axis=1, keepdims=True)
    result: NDArray[np.float64] = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return result
