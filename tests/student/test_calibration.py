from __future__ import annotations

from pathlib import Path

import pytest
import torch
from deep_llama import PROMPTS

import reference
from aasut.engine.common import begin
from aasut.engine.torch import load_model
from aasut.formats.tokenizer import Tokenizer
from aasut.student import calibration
from aasut.student.calibration import HELD_OUT, Calibration

MANY = [f"text {number}" for number in range(calibration.PROMPTS + HELD_OUT + 9)]


def test_losses_are_told_of_texts_that_nothing_is_chosen_by(deep: Path) -> None:
    tokenizer = Tokenizer.load(deep)
    found = Calibration.of(tokenizer, MANY, 512)
    rows = [begin(tokenizer, text) for text in MANY]
    assert found.measured == rows[: calibration.PROMPTS]
    assert found.losses == rows[calibration.PROMPTS : calibration.PROMPTS + HELD_OUT]
    assert found.held_out


def test_few_texts_serve_for_both(deep: Path) -> None:
    found = Calibration.of(Tokenizer.load(deep), MANY[: calibration.PROMPTS], 512)
    assert len(found.measured) == calibration.PROMPTS
    assert found.losses == found.measured[:HELD_OUT]
    assert not found.held_out


def test_a_long_text_is_read_as_far_as_the_model_does(deep: Path) -> None:
    tokenizer = Tokenizer.load(deep)
    for context, most in ((12, 12), (9000, calibration.ROW_TOKENS)):
        assert len(Calibration.of(tokenizer, ["word " * 4000], context).measured[0]) == most


def test_the_loss_is_transformers_own(deep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row for row in Calibration.of(Tokenizer.load(deep), PROMPTS, 512).losses if len(row) > 1]
    model = reference.load(deep)
    with torch.inference_mode():
        each = [float(model(torch.tensor([row]), labels=torch.tensor([row])).loss) * (len(row) - 1) for row in rows]
    expected = sum(each) / sum(len(row) - 1 for row in rows)
    ours = load_model(deep, torch.float32)
    assert calibration.loss(ours, rows) == pytest.approx(expected, abs=1e-4)
    assert calibration.loss(ours, [*rows, [7], []]) == pytest.approx(expected, abs=1e-4)
    monkeypatch.setattr(calibration, "ROWS_AT_ONCE", 5)
    assert calibration.loss(ours, rows) == pytest.approx(expected, abs=1e-4)


def test_nothing_to_foretell_has_no_loss(deep: Path) -> None:
    assert calibration.loss(load_model(deep, torch.float32), [[3], []]) is None
