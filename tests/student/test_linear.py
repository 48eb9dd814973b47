from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from aasut.engine import linear as engine
from aasut.engine.linear import vectorizer
from aasut.errors import DataError
from aasut.student import linear

ANSWERS = ["negative", "neutral", "positive"]
WORDS = {"negative": ["awful", "broken"], "neutral": ["usual", "plain"], "positive": ["great", "lovely"]}
NOUNS = ["camera", "phone", "battery", "cable", "remote", "player", "case", "lens"]


def data(answers: list[str], count: int = 60) -> tuple[list[str], np.ndarray]:
    """Sentences of like words, and soft answers that lean to the word's one."""
    draw = random.Random(4)
    texts, soft = [], np.full((count, len(answers)), 0.0)
    for i in range(count):
        answer = i % len(answers)
        texts.append(" ".join([draw.choice(NOUNS), draw.choice(WORDS[answers[answer]]), draw.choice(NOUNS)]))
        soft[i] = 0.3 / len(answers)
        soft[i, answer] += 0.7
    return texts, soft


def fitted(texts: list[str], soft: np.ndarray, report: dict[str, Any]) -> np.ndarray:
    """scikit-learn's own probabilities for the chosen settings, each row repeated for each of its answers."""
    words = vectorizer(report["ngrams"])
    matrix = words.fit_transform(texts)
    model = LogisticRegression(C=report["strength"], max_iter=2000)
    rows = np.repeat(np.arange(len(texts)), soft.shape[1])
    columns = np.tile(np.arange(soft.shape[1]), len(texts))
    keep = soft[rows, columns] > 0
    model.fit(matrix[rows[keep]], columns[keep], sample_weight=soft[rows, columns][keep])
    result: np.ndarray = model.predict_proba(words.transform([*texts, "lovely unknown thing"]))
    return result


@pytest.mark.parametrize("answers", [["negative", "positive"], ANSWERS], ids=["two", "three"])
def test_the_files_give_what_scikit_learn_gives(tmp_path: Path, answers: list[str]) -> None:
    texts, soft = data(answers)
    report = linear.fit(texts, soft, range(10), answers, tmp_path)
    loaded = engine.load(tmp_path)
    found = np.exp(loaded.score([*texts, "lovely unknown thing"], answers).logprobs)
    assert found == pytest.approx(fitted(texts, soft, report), abs=1e-5)
    assert report["features"] == loaded.weight.shape[1]


def test_soft_answers_are_learned_as_probabilities(tmp_path: Path) -> None:
    """The same text with answers .8 to .2: the student should say .8, not 1."""
    texts = ["good phone", "bad case"] * 20
    soft = np.tile([[0.2, 0.8], [0.9, 0.1]], (20, 1))
    linear.fit(texts, soft, range(4), ["negative", "positive"], tmp_path)
    found = np.exp(engine.load(tmp_path).score(["good phone", "bad case"], ["negative", "positive"]).logprobs)
    assert found == pytest.approx(np.array([[0.2, 0.8], [0.9, 0.1]]), abs=0.03)


def test_an_answer_that_was_never_given_is_all_but_impossible(tmp_path: Path) -> None:
    texts, soft = data(["negative", "positive"])
    three = np.stack([soft[:, 0], np.zeros(len(texts)), soft[:, 1]], axis=1)
    report = linear.fit(texts, three, range(10), ANSWERS, tmp_path)
    assert np.isfinite(report["validation_loss"])
    found = np.exp(engine.load(tmp_path).score([*texts, "lovely unknown thing"], ANSWERS).logprobs)
    assert found[:, 1].max() < 1e-6
    assert found[:, [0, 2]] == pytest.approx(fitted(texts, soft, report), abs=1e-5)


def test_settings_are_chosen_on_rows_that_were_not_fitted(tmp_path: Path) -> None:
    """Validation rows contradict the others, so the weakest fit is the best there."""
    texts, soft = data(["negative", "positive"])
    held = list(range(20))
    soft[held] = soft[held][:, ::-1]
    report = linear.fit(texts, soft, held, ["negative", "positive"], tmp_path)
    assert report["strength"] == min(linear.STRENGTHS)
    assert report["validation_loss"] > np.log(2)


def test_one_answer_for_all_is_refused(tmp_path: Path) -> None:
    texts, _ = data(["negative", "positive"])
    with pytest.raises(DataError, match="one and the same answer"):
        linear.fit(texts, np.eye(2)[[1] * len(texts)], range(10), ["negative", "positive"], tmp_path)
    assert not list(tmp_path.iterdir())


def test_texts_without_words_go_by_their_letters(tmp_path: Path) -> None:
    """Single letters are no words to scikit-learn; the choice falls on the n-grams that exist."""
    texts, soft = ["x", "y"] * 20, np.tile([[0.1, 0.9], [0.9, 0.1]], (20, 1))
    report = linear.fit(texts, soft, range(4), ["negative", "positive"], tmp_path)
    assert report["ngrams"]["analyzer"] == "char_wb"
    with pytest.raises(DataError, match="No words"):
        linear.fit([""] * 40, soft, range(4), ["negative", "positive"], tmp_path / "none")


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    texts, soft = data(ANSWERS)
    for name in ("a", "b"):
        linear.fit(texts, soft, range(10), ANSWERS, tmp_path / name)
    for file in ("model.safetensors", "vocabulary.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
