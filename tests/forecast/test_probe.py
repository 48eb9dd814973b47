"""Probes in processes of their own, on a tiny model: they measure, leave nothing, and fail in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aasut.errors import ModelError
from aasut.forecast import probe


def teacher(model: Path, choices: list[str]) -> dict[str, Any]:
    request = {"messages": [["user", "a lovely lens"]], "choices": choices, "max_tokens": 8}
    return {
        "kind": "teacher", "path": str(model), "engine": "torch", "precision": "float32", "batches": [[request] * 4] * 2
    }  # fmt: skip


def test_a_teacher_that_scores_has_a_pace_with_and_without_its_prefix(tiny_llama: Path) -> None:
    before = sorted(tiny_llama.iterdir())
    found = probe.measure(teacher(tiny_llama, ["negative", "positive"]))
    assert found["parameters"] > 50_000
    assert 0 < found["tokens"] < found["process"]
    assert 0 < found["whole"] < found["process"]
    assert 0 < found["import"] < found["process"]
    assert found["peak_gb"] > 0.1
    assert sorted(tiny_llama.iterdir()) == before


def test_a_teacher_that_writes_has_seconds_an_answer(tiny_llama: Path) -> None:
    found = probe.measure(teacher(tiny_llama, []))
    assert 0 < found["written"] < found["process"]
    assert 0 < found["answer_tokens"] <= 8


def test_a_model_that_cannot_be_tried_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    for job in (teacher(tmp_path, ["a", "b"]), {**teacher(tmp_path, []), "kind": "nothing"}):
        with pytest.raises(ModelError, match="could not be tried on this machine") as caught:
            probe.measure(job)
        assert "\n" not in str(caught.value)
        assert caught.value.remedy
