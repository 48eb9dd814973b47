"""Two answers that differ in form alone look the same to a judge, and what is said stays."""

from __future__ import annotations

import pytest

from aasut.plain_form import plain


@pytest.mark.parametrize(
    ("formatted", "bare"),
    [
        ("**Yes**, it is  *good*.", "Yes, it is good."),
        ("# Title\n\n- one\n* two\n> three", "Title\none\ntwo\nthree"),
        ('```json\n{"a":1,\n  "b": [1,2]}\n```', '{"a": 1, "b": [1, 2]}'),
        ("  use `x = 1`\t\there\r\n", "use x = 1 here"),
        ("__init__ and __bold words__", "init and bold words"),
        ("a\n---\nb", "a\nb"),
        ("", "(no answer)"),
        (" \n", "(no answer)"),
    ],
)
def test_form_goes(formatted: str, bare: str) -> None:
    assert plain(formatted) == bare
    assert plain(bare) == bare


@pytest.mark.parametrize("text", ["2*3*4 is 24", "a * b * c", "snake_case_name", "5 > 3", "1. one", "Nein", "[x](y)"])
def test_what_is_said_stays(text: str) -> None:
    assert plain(text) == text


def test_a_label_has_the_letters_of_the_list() -> None:
    assert plain(" **POSITIVE** ", ("positive", "negative")) == "positive"
    assert plain("Positive") == "Positive"
    assert plain("a", ("A", "a")) == "a"  # two labels that differ in their letters
