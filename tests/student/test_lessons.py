"""What a text is taught from belongs to its teacher and its example, and to no other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import small_run
from aasut import recipe as recipes
from aasut.data.panel import Panel, Shot
from aasut.engine.torch import load_model
from aasut.errors import DataError
from aasut.formats.tokenizer import Tokenizer
from aasut.student import lessons, logits
from aasut.student.lessons import Given
from aasut.student.logit_cache import Writer
from aasut.student.objective import Row
from aasut.student.thinning import thin
from aasut.types import Example, Label

POOL = [Example(f"e{i}", {"text": f"{'great ' * i}battery"}, f"g{i}") for i in range(5)]


def recipe(teacher: dict[str, Any] | None = None, **changes: Any) -> recipes.Recipe:
    plain = small_run.recipe(
        task={"kind": "generate", "prompt": "Text: {text}", "max_tokens": 16},
        student={"model": {"address": "file:model"}, "prompt": "{text} ="},
        teacher={"model": {"address": "file:teacher"}, "prompt": "Review: {text} =", "precision": "float32"}
        | (teacher or {}),
    )
    return recipes.parse(plain | changes, "test")


@pytest.fixture
def given(tiny_llama: Path) -> Given:
    labels = [Label(example.id, texts=("good",)) for example in POOL[::-1] if example.id != "e2"]

    def load() -> tuple[Any, Tokenizer]:
        return load_model(tiny_llama, torch.float32), Tokenizer.load(tiny_llama)

    def asked() -> Any:
        raise AssertionError("the ledger is for endpoints")

    panel = Panel.plain([()], 0)
    return Given(recipe(), panel, POOL, labels, tiny_llama, "cached_kd", 300, "hash of weights", load, asked)


CHANGES: dict[str, Callable[[Given], Given]] = {
    "revision": lambda given: replace(given, revision="hash of other weights"),
    "vocabulary": lambda given: replace(given, vocabulary=299),
    "method": lambda given: replace(given, method="sparse_kd"),
    "prompt": lambda given: replace(given, recipe=recipe({"prompt": "Text: {text} ="})),
    "shots": lambda given: replace(given, panel=Panel.plain([(Shot({"text": "fine"}, "good"),)], 0)),
    "precision": lambda given: replace(given, recipe=recipe({"precision": "bfloat16"})),
    "seed": lambda given: replace(given, recipe=recipe(seed=99)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_cache_of_another_teacher_or_question_is_not_learned_from(given: Given, tmp_path: Path, change: str) -> None:
    tokenizer, answer = Tokenizer.load(given.student), [5, 9]
    writer = Writer(tmp_path, given.binding(tokenizer), [[("e0#0", answer)]])
    writer.write(0, [thin(torch.randn(2, 300), 0.1, torch.zeros(2, 2))])
    (tmp_path / logits.ALONE).write_text("{}")
    taught = lessons.build(given, given.student, tmp_path)
    assert taught is not None
    assert len(taught.teaching.targets([Row([7, *answer, 1], answer=3, own=1, key="e0#0")])) == 2
    with pytest.raises(DataError, match="was written for another"):
        lessons.build(CHANGES[change](given), given.student, tmp_path)


def test_a_teacher_alongside_is_asked_what_the_rows_own_example_asks(given: Given) -> None:
    taught = lessons.build(replace(given, method="live_kd"), given.student, None)
    assert taught is not None
    tokenizer = Tokenizer.load(given.student)
    for example in given.examples[::-1]:
        (row,) = taught.rows(example, [Row([5, 9, 1], answer=2, own=1, key=f"{example.id}#0")])
        assert row.asked == tokenizer.encode(f"Review: {example.slots['text']} =")
        assert (row.ids, row.answer, row.own) == ([5, 9, 1], 2, 1)
