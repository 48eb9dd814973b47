from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from aasut.engine import linear
from aasut.engine.base import Prompt
from aasut.errors import EngineError, ModelError
from aasut.types import Usage

ANSWERS = ["negative", "neutral", "positive"]
FEATURES = ["bad", "good", "good phone", "phone"]  # as scikit-learn orders them
IDF = np.array([1.5, 1.2, 2.0, 1.0], np.float32)
WEIGHT = np.array([[2, -1, -1, 0.1], [0, 0, 0.5, 0], [-2, 1.5, 1, 0.2]], np.float32)
BIAS = np.array([0.1, -0.2, 0.3], np.float32)


@pytest.fixture
def student(tmp_path: Path) -> Path:
    """A student's folder, written by hand."""
    save_file({"idf": IDF, "weight": WEIGHT, "bias": BIAS}, tmp_path / "model.safetensors")
    body = {
        "analyzer": "word", "ngram_min": 1, "ngram_max": 2, "min_df": 1, "answers": ANSWERS, "features": FEATURES,
    }  # fmt: skip
    (tmp_path / "vocabulary.json").write_text(json.dumps(body))
    return tmp_path


def by_hand(counts: list[float]) -> np.ndarray:
    """Log-probabilities from n-gram counts: (1 + log count) * idf, to length 1, times weight plus bias, softmax."""
    values = np.array([(1 + np.log(c)) * i if c else 0.0 for c, i in zip(counts, IDF, strict=True)])
    values /= max(np.linalg.norm(values), 1e-12)
    logits = WEIGHT @ values + BIAS
    return logits - np.log(np.exp(logits).sum())


def test_scores_equal_a_computation_by_hand(student: Path) -> None:
    engine = linear.load(student)
    prompts = ["Good phone, GOOD phone!", "bad", "nothing known here"]
    found = engine.score(prompts, [" negative", " neutral", "positive"])
    expected = [by_hand([0, 2, 2, 2]), by_hand([1, 0, 0, 0]), by_hand([0, 0, 0, 0])]
    assert found.logprobs == pytest.approx(np.array(expected), abs=1e-6)
    assert found.usage == Usage(4 + 1 + 3, 3, 0)


def test_answers_may_be_asked_in_another_order(student: Path) -> None:
    engine = linear.load(student)
    plain = engine.score(["good", "bad"], ANSWERS).logprobs
    turned = engine.score(["good", "bad"], ["positive", "negative", "neutral"]).logprobs
    assert (turned == plain[:, [2, 0, 1]]).all()


@pytest.mark.parametrize("answers", [["negative", "positive"], [*ANSWERS, "angry"], ["negative", "neutral", "angry"]])
def test_other_answers_than_its_own_are_refused(student: Path, answers: list[str]) -> None:
    with pytest.raises(EngineError, match="negative, neutral, positive"):
        linear.load(student).score(["good"], answers)


def test_it_gives_no_free_text_and_has_one_precision(student: Path) -> None:
    with pytest.raises(EngineError, match="no free text"):
        linear.load(student).generate([Prompt("good", 3)])
    with pytest.raises(EngineError, match="float32"):
        linear.load(student, precision="bfloat16")
    engine = linear.load(student, precision="float32")
    assert (engine.name, engine.parameters) == ("linear-float32", 4 + 12 + 3)


@pytest.mark.parametrize("damage", ["no vocabulary", "no json", "no answers", "no weights", "cut weights", "no bias"])
def test_a_damaged_student_is_refused(student: Path, damage: str) -> None:
    vocabulary, weights = student / "vocabulary.json", student / "model.safetensors"
    body = json.loads(vocabulary.read_text())
    if damage == "no vocabulary":
        vocabulary.unlink()
    elif damage == "no json":
        vocabulary.write_text("{")
    elif damage == "no answers":
        vocabulary.write_text(json.dumps({key: value for key, value in body.items() if key != "answers"}))
    elif damage == "no weights":
        weights.unlink()
    elif damage == "cut weights":
        weights.write_bytes(weights.read_bytes()[:-3])
    else:
        save_file({key: value for key, value in load_file(weights).items() if key != "bias"}, weights)
    with pytest.raises(ModelError, match="is no linear student"):
        linear.load(student)
