from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from aasut.doctor import teachers
from aasut.doctor.finding import Finding
from aasut.doctor.subject import Subject
from aasut.student import score_logits
from aasut.student.logit_cache import Cache
from aasut.student.targets import Sparse
from aasut.student.teaching import Live
from aasut.student.thinning import Entries


def findings(subject: Subject) -> dict[str, Finding]:
    return {found.name: found for found in teachers.examine(subject)}


def problem(subject: Subject, name: str) -> str:
    found = findings(subject)[name]
    assert found.level == "fault", found.value
    return found.problem


def test_a_student_has_nothing_to_learn_from_itself(text: Subject) -> None:
    before = {name: value.clone() for name, value in text.model.state_dict().items()}
    assert {name: found.level for name, found in findings(text).items()} == {
        "teacher alongside": "ok",
        "logit cache": "ok",
    }
    assert all(torch.equal(before[name], value) for name, value in text.model.state_dict().items())


def test_a_teacher_that_is_asked_a_token_too_late_is_found(text: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Live.states
    monkeypatch.setattr(Live, "states", lambda self, rows: real(self, rows).roll(-1, dims=0))
    assert "not asked at the same places" in problem(text, "teacher alongside")


def test_a_cache_that_is_read_in_the_order_of_steps_is_found(text: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Targets come text after text as they were written, whichever rows are asked for."""
    real = Cache.batch

    def turned(self: Cache, texts: Sequence[Any]) -> Sparse:
        found = real(self, texts)
        return Sparse(found.ids.roll(1, dims=0), found.mass.roll(1, dims=0)) if len(texts) > 1 else found

    monkeypatch.setattr(Cache, "batch", turned)
    assert "learned at another token's place" in problem(text, "logit cache")


def test_distributions_of_other_tokens_are_found(text: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    real = score_logits.Teacher.states

    def late(self: Any, texts: Any) -> Any:
        for which, hidden in real(self, texts):
            yield which, hidden.roll(1, dims=0)

    monkeypatch.setattr(score_logits.Teacher, "states", late)
    assert "standard errors" in problem(text, "logit cache")


def test_a_tail_that_is_cut_off_is_found(text: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """The likeliest tokens alone, renormalised."""

    def likeliest(logits: torch.Tensor, threshold: float, draws: torch.Tensor) -> Entries:
        kept = logits.topk(5, dim=1)
        cut = torch.full_like(logits, -1e4).scatter_(1, kept.indices, kept.values)
        return real(cut, threshold, draws)

    real = score_logits.thin
    monkeypatch.setattr(score_logits, "thin", likeliest)
    assert "standard errors" in problem(text, "logit cache")
