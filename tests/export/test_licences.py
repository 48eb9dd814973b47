from __future__ import annotations

import pytest

from aasut.export import licences


def test_one_entry_for_each_part_that_a_student_descends_from() -> None:
    found = licences.ledger("pypi:teacher==1", "apache-2.0", "pypi:student==1", "MIT")
    assert [(e["what"], e["licence"]) for e in found] == [
        ("teacher: pypi:teacher==1", "apache-2.0"),
        ("student's start: pypi:student==1", "MIT"),
    ]
    assert "learned from" in found[0]["note"]
    assert licences.combined(found) == "MIT"


@pytest.mark.parametrize("stated", ["gemma", "Gemma Terms of Use"])
def test_gemmas_terms_follow_its_answers(stated: str) -> None:
    found = licences.ledger("pypi:gemma==1", stated, "pypi:student==1", "apache-2.0")
    assert "Model Derivative" in found[0]["note"]
    assert "Model Derivative" not in found[1]["note"]
    assert licences.combined(found) == "gemma"


def test_the_terms_of_a_students_start_follow_its_weights() -> None:
    found = licences.ledger("scripted", "own", "hf:meta/llama@1", "llama3.2")
    assert "must carry 'Llama'" in found[1]["note"]
    assert licences.combined(found) == "llama"


@pytest.mark.parametrize("stated", ["", "unknown", None])
def test_an_unknown_licence_is_named_as_such(stated: str | None) -> None:
    found = licences.ledger("pypi:teacher==1", "unknown", "pypi:student==1", stated)
    assert [e["note"] for e in found] == [licences.UNKNOWN] * 2
    assert licences.combined(found) == "unknown"


def test_a_linear_student_descends_from_its_teacher_alone() -> None:
    found = licences.ledger("scripted", "own", None, None)
    assert [e["what"] for e in found] == ["teacher: scripted"]
    assert licences.combined(found) == "own"


def test_the_terms_of_every_teacher_count() -> None:
    found = licences.ledger("scripted", "own", "hf:x/y@1", "MIT", [("gemma-3", "gemma"), ("other", "apache-2.0")])
    assert [e["what"] for e in found][1:3] == ["other teacher: gemma-3", "other teacher: other"]
    assert licences.combined(found) == "gemma"
    assert licences.combined(licences.ledger("scripted", "own", None, None, [("house", "MIT")])) == "own"
    assert licences.combined(licences.ledger("scripted", "own", None, None, [("house", "unknown")])) == "unknown"
    assert licences.combined(licences.ledger("scripted", "own", "hf:x/y@1", "MIT", [("house", "unknown")])) == "MIT"
