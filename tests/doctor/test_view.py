from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from aasut.doctor import view
from aasut.doctor.finding import Finding
from aasut.doctor.subject import Subject
from aasut.engine.packing import Pack
from aasut.serve.student import ServedStudent
from aasut.student import train


def findings(subject: Subject) -> dict[str, Finding]:
    return {found.name: found for found in view.examine(subject, view.view(subject))}


def problem(subject: Subject, name: str) -> str:
    found = findings(subject)[name]
    assert found.level == "fault"
    return found.problem


def test_a_text_token_by_token(text: Subject) -> None:
    shown = view.view(text)
    parts = [token.part for token in shown.tokens]
    assert parts == sorted(parts, key=["prompt", "answer", "end"].index)
    assert parts[-1] == "end"
    assert [token.learned for token in shown.tokens] == [part != "prompt" for part in parts]
    assert "".join(token.text for token in shown.tokens if token.part == "prompt") == shown.prompt
    assert "".join(token.text for token in shown.tokens if token.part == "answer").strip() == shown.answer
    assert sum(token.loss or 0 for token in shown.tokens) == pytest.approx(shown.total, rel=1e-5)
    assert {found.level for found in findings(text).values()} == {"ok"}
    plain = shown.as_dict()
    end = {"id": 1, "text": "<|end|>", "part": "end", "loss": pytest.approx(shown.tokens[-1].loss), "learned": True}
    assert plain["tokens"][-1] == end


def test_labels(labels: Subject) -> None:
    shown = view.view(labels)
    assert {token.part for token in shown.tokens} == {"prompt"}
    assert [answer for answer, _, _ in shown.answers] == ["negative", "positive"]
    assert sum(q for _, _, q in shown.answers) == pytest.approx(1)
    assert shown.answers[0][1] == pytest.approx(0.9 if shown.answer == "negative" else 0.1)
    assert {found.level for found in findings(labels).values()} == {"ok"}


def test_a_terminal_shows_what_is_learned(text: Subject) -> None:
    console = Console(width=100, record=True, file=None)
    with console.capture() as captured:
        console.print(view.render(view.view(text)))
    lines = captured.get().splitlines()
    assert sum("learned," in line for line in lines) == sum(token.learned for token in view.view(text).tokens)
    assert lines[0].startswith("prompt")


def test_a_token_read_from_the_wrong_place_is_found(text: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Off by one: each token's loss is taken where the token itself stands, not where the one before it does."""
    real = Pack.before
    monkeypatch.setattr(Pack, "before", lambda self, *rest: np.minimum(real(self, *rest) + 1, self.tokens - 1))
    assert "predicted from the wrong place" in problem(text, "loss")
    assert "is not learned" in problem(text, "mask")


def test_a_mask_over_all_is_found(text: Subject) -> None:
    """Everything masked, with a loss that looks like any other."""
    nothing = tuple(replace(row, answer=0, own=0) for row in text.rows)
    assert "No token is learned" in problem(replace(text, rows=nothing), "mask")


def test_a_prompt_that_is_learned_is_found(text: Subject) -> None:
    everything = tuple(replace(row, answer=len(row.ids) - 1) for row in text.rows)
    assert "of the prompt is learned" in problem(replace(text, rows=everything), "mask")


def test_a_template_that_drifts_is_found(text: Subject) -> None:
    """Training's prompt has one more token at its end than the server's."""
    drifted = tuple(replace(row, ids=[*row.ids[: -row.answer], 5, *row.ids[-row.answer :]]) for row in text.rows)
    assert "in a way that it was never taught" in problem(replace(text, rows=drifted), "template")


def test_a_server_that_asks_otherwise_is_found(text: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    real = ServedStudent.render
    monkeypatch.setattr(ServedStudent, "render", lambda self, slots: real(self, slots).strip() + " ")
    assert "in a way that it was never taught" in problem(text, "template")


def test_an_answer_that_was_cut_is_found(text: Subject) -> None:
    """Truncated by one token, silently."""
    cut = tuple(replace(row, ids=[*row.ids[:-2], row.ids[-1]], answer=row.answer - 1) for row in text.rows)
    assert "read back as" in problem(replace(text, rows=cut), "answer")


def test_an_end_that_is_not_learned_is_found(text: Subject) -> None:
    endless = tuple(replace(row, ids=row.ids[:-1], answer=row.answer - 1, own=0) for row in text.rows)
    assert "never come to an end" in problem(replace(text, rows=endless), "mask")


def test_labels_that_are_served_otherwise_are_found(labels: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    real = train.answer_texts

    def lower(recipe: Any) -> Sequence[str]:
        return [text.strip() for text in real(recipe)]

    monkeypatch.setattr(train, "answer_texts", lower)
    assert "counted with the wrong weight" in problem(labels, "loss")
