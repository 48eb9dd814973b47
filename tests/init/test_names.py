from __future__ import annotations

import pytest

from aasut.init.names import identifier, label_of, name_of


@pytest.mark.parametrize(
    ("before", "name"),
    [
        ("Review: ", "review"),
        ("Rules apply.\nReview:\n", "review"),
        ("**Subject:** ", "subject"),
        ("1. Question: ", "question"),
        ("Customer's message:\n\n", "customer_message"),
        ("Here is the customer's long e-mail to us: ", "us"),
        ("Classify the sentiment of this review: ", "review"),
        ("Text to translate: ", "text_translate"),
        ("<document>\n", "document"),
        ('<doc id="1">', "doc"),
        ('{{"title": "', "title"),
        ('"a", "unit price": ', "unit_price"),
        ("## Input\n", "input"),
        ('Text:\n"""\n', "text"),
        ("Text:\n```json\n", "text"),
        ("ग्राहक का संदेश: ", "ग्राहक_का_संदेश"),
        ("本文：", "本文"),
        ("class: ", "class"),
        ("Answer with one word. ", ""),
        ("", ""),
        ("\n", ""),
        ("...", ""),
    ],
)
def test_a_slot_is_named_by_the_label_before_it(before: str, name: str) -> None:
    assert label_of(before) == name
    assert not name or name.isidentifier()


def test_names_differ() -> None:
    taken: list[str] = []
    for before in ("Text: ", "and\nText: ", "no label ", "none "):
        taken.append(name_of(before, taken))
    assert taken == ["text", "text_2", "text_3", "text_4"]


@pytest.mark.parametrize(
    ("label", "name"),
    [("Text", "text"), ("12", "slot_12"), ("x.y c", "x_y_c"), ("{x}", "x"), ("the", "the"), ("!?", ""), ("", "")],
)
def test_any_label_becomes_an_identifier_or_nothing(label: str, name: str) -> None:
    assert identifier(label) == name
