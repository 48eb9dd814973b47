from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small_run
from aasut import recipe as recipes
from aasut.engine.base import Engine, load
from aasut.engine.scripted import ScriptedEngine
from aasut.evaluate.candidates import Answered, Candidate, Models, candidates
from aasut.formats import gguf_write
from aasut.student import linear
from aasut.types import Example, Usage

STUDENT = {"model": {"address": "file:model"}, "prompt": "Review: {text}\nSentiment:"}
EXAMPLES = [Example("1", {"text": "a lovely lens"}, "g"), Example("2", {"text": "an awful {text}"}, "g")]


def recipe(**changes: Any) -> recipes.Recipe:
    export = {"serve": "safetensors", "engine": "torch", "precision": "float32"}
    return recipes.parse(small_run.recipe(**{"student": STUDENT, "export": export} | changes), "test")


@pytest.fixture(scope="module")
def engine(tiny_llama: Path) -> Engine:
    return load("torch", tiny_llama, precision="float32")


def test_labels_are_scored_as_they_continue_the_students_own_prompt() -> None:
    """The words count where they stand: a prompt other than the student's would name both answers, or none."""
    candidate = Candidate(recipe(), ScriptedEngine({"review: a lovely": "positive", "review: an awful": "negative"}))
    found = candidate.answer(EXAMPLES)
    assert [max(range(2), key=row.__getitem__) for row in found.probabilities] == [1, 0]
    assert np.sum(found.probabilities, axis=1) == pytest.approx([1, 1])
    assert found.texts == []
    assert found.usage.prompt_tokens > 0


def test_a_linear_student_reads_the_slots_alone() -> None:
    candidate = Candidate(recipe(), ScriptedEngine({"review": "negative", "lovely": "positive"}), linear=True)
    (first, second) = candidate.answer(EXAMPLES).probabilities
    assert first[1] > 0.9 > 0.6 > second[1]


def test_text_is_written_and_what_is_no_answer_is_empty(engine: Engine) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": ["x"]}}, "required": ["a"], "additionalProperties": False}
    task = {"kind": "extract", "prompt": "Text: {text}", "schema": schema}
    bound = Candidate(recipe(task=task), engine).answer(EXAMPLES)
    assert bound.texts == ['{"a": "x"}'] * 2
    asked = sum(engine.count_tokens(f"Review: {e.slots['text']}\nSentiment:") for e in EXAMPLES)
    assert bound.usage.prompt_tokens == asked
    assert bound.usage.completion_tokens > 0
    cut = Candidate(recipe(task=task | {"max_tokens": 2}), engine).answer(EXAMPLES)
    assert cut.texts == ["", ""]


@pytest.mark.parametrize(("letters", "fits"), [(400, True), (1200, False)])
def test_an_example_that_is_too_long_is_known_beforehand(engine: Engine, letters: int, fits: bool) -> None:
    candidate = Candidate(recipe(), engine)
    assert candidate.fits(Example("1", {"text": "x" * letters}, "g")) == fits


def test_room_is_kept_for_the_answers(engine: Engine) -> None:
    """The longest example that fits has room left for both labels at their longest."""
    candidate = Candidate(recipe(), engine)
    most = max(n for n in range(300, 512) if candidate.fits(Example("1", {"text": "q" * n}, "g")))
    used = engine.count_tokens(f"Review: {'q' * most}\nSentiment:")
    assert used == engine.context - 2 * candidate.task.max_tokens


def test_answers_add_up() -> None:
    found = Answered([[1.0, 0.0]], usage=Usage(3, 1))
    found.add(Answered([[0.0, 1.0]], usage=Usage(4, 2)))
    assert found == Answered([[1.0, 0.0], [0.0, 1.0]], usage=Usage(7, 3))


def test_every_model_is_loaded_on_the_engine_that_serves_it(tiny_llama: Path, tmp_path: Path) -> None:
    rows = small_run.sentences(40)
    soft = np.array([[0.1, 0.9] if row["sentiment"] == "positive" else [0.9, 0.1] for row in rows])
    linear.fit([row["text"] for row in rows], soft, range(5), ["negative", "positive"], tmp_path)
    found = candidates(recipe(), Models(tiny_llama, tmp_path, tiny_llama, None))
    assert list(found) == ["student", "linear", "untrained"]
    assert {name: one.linear for name, one in found.items()} == {"student": False, "linear": True, "untrained": False}
    names = {name: one.engine.name.partition("-")[0] for name, one in found.items()}
    assert names == {"student": "torch", "linear": "linear", "untrained": "torch"}
    alone = candidates(recipe(student={"initialise": "linear"}, export={}), Models(tmp_path, tmp_path, None, None))
    assert list(alone) == ["student"]
    assert alone["student"].linear


def test_a_start_writes_on_the_students_engine(tiny_llama: Path, tmp_path: Path) -> None:
    gguf_write.write(tiny_llama, tmp_path / "student.gguf", "bf16")
    text = {"kind": "generate", "prompt": "Text: {text}", "max_tokens": 5}
    served = recipe(task=text, export={"serve": "gguf", "engine": "openvino", "precision": "float32"})
    found = candidates(served, Models(tmp_path / "student.gguf", None, tiny_llama, None))
    assert {one.engine.name for one in found.values()} == {"openvino-float32"}
    assert found["student"].answer(EXAMPLES).texts == found["untrained"].answer(EXAMPLES).texts
    labels = recipe(export={"serve": "gguf", "engine": "openvino", "precision": "float32"})
    found = candidates(labels, Models(tmp_path / "student.gguf", None, tiny_llama, None))
    assert found["untrained"].engine.name == "torch-float32"
