from __future__ import annotations

from typing import Any

import pytest

from aasut.serve.content import text_of
from aasut.serve.refusal import Refusal


def test_a_text_and_a_list_of_texts_are_read() -> None:
    assert text_of("a", "x") == "a"
    assert text_of([{"type": "text", "text": "a"}, {"type": "text", "text": "b", "cache": None}], "x") == "ab"


@pytest.mark.parametrize(
    ("content", "param"),
    [
        (None, "m"),
        ([], "m"),
        (3, "m"),
        ("\ud800", "m"),
        ([{"type": "text", "text": "\ud83d"}], "m"),
        ([{"type": "input_audio"}], "m[0]"),
        ([{"type": "text", "text": 3}], "m[0].text"),
        ([{"type": "text", "text": "a", "cache": 1}], "m[0].cache"),
    ],
)
def test_anything_else_is_refused_with_its_place(content: Any, param: str) -> None:
    with pytest.raises(Refusal) as caught:
        text_of(content, "m")
    assert caught.value.body["error"]["param"] == param
