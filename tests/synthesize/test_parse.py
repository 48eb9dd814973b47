from __future__ import annotations

import json
from collections import Counter

import pytest

from aasut.synthesize import parse

KEYS = ("quote", "question", "answer")
FIRST = {"quote": "वाल्व बाईं ओर है।", "question": "वाल्व कहाँ है?", "answer": "बाईं ओर।"}
SECOND = {"quote": 'It {opens} at "40" °C, not [50].', "question": "When?", "answer": "At 40 °C."}
WHOLE = json.dumps({"questions": [FIRST, SECOND]}, ensure_ascii=False)


def found(answer: str) -> tuple[list[object], dict[str, int], str]:
    got = parse.elements(answer, "questions", KEYS)
    return got.elements, dict(got.repairs), got.reason


def test_json_of_the_wanted_shape_needs_no_repair() -> None:
    assert found(WHOLE) == ([FIRST, SECOND], {}, "")
    assert found(json.dumps({"questions": []})) == ([], {}, "")


@pytest.mark.parametrize(
    ("answer", "repairs"),
    [
        (f"Here you are:\n```json\n{WHOLE}\n```\nGood luck!", {"code fence": 1}),
        (f"Sure! {WHOLE} I hope this helps.", {"text around the JSON": 1}),
        (f"[1] says so: {WHOLE}", {"text around the JSON": 1}),
        (f"<think>A list {{of}} [two]?</think>\n{WHOLE}", {"thoughts before the answer": 1}),
        (WHOLE.replace("}]}", "},\n]\n,}"), {"a comma too many": 2}),
        (json.dumps([FIRST, SECOND]), {"a list without its object": 1}),
        (f"{json.dumps(FIRST)}\n{json.dumps(SECOND)}", {"elements in a row without a list": 1}),
        (f"{json.dumps(FIRST)}, {json.dumps(SECOND)}", {"elements in a row without a list": 1}),
        (WHOLE[:-1], {"cut: whole elements kept": 1}),
        (WHOLE[:-1] + ', "note": "and', {"cut: whole elements kept": 1}),
    ],
    ids=["fence", "prose", "brackets", "thoughts", "commas", "list", "lines", "row", "brace", "half a key"],
)
def test_slips_are_mended_and_counted(answer: str, repairs: dict[str, int]) -> None:
    assert found(answer) == ([FIRST, SECOND], repairs, "")


def test_one_element_alone_is_taken() -> None:
    assert found(json.dumps(FIRST)) == ([FIRST], {"one element without a list": 1}, "")
    assert found(json.dumps({"questions": FIRST})) == ([FIRST], {"one element without a list": 1}, "")
    alone = parse.elements(json.dumps(FIRST), "", KEYS)
    assert (alone.elements, dict(alone.repairs), alone.reason) == ([FIRST], {}, "")


def test_of_an_answer_that_is_cut_the_whole_elements_are_kept_and_no_half_one() -> None:
    first_ends = WHOLE.index(', {"quote": "It') - 1
    kept = Counter(len(found(WHOLE[:end])[0]) for end in range(len(WHOLE)))
    assert set(kept) == {0, 1, 2}
    for end in range(len(WHOLE)):
        elements, repairs, reason = found(WHOLE[:end])
        assert elements == [FIRST, SECOND][: len(elements)]
        assert len(elements) == (0 if end <= first_ends else 2 if end >= len(WHOLE) - 2 else 1)
        assert bool(reason) == (not elements)
        assert repairs == ({"cut: whole elements kept": 1} if elements else {}) or not elements


def test_one_element_that_is_cut_is_none() -> None:
    alone = json.dumps(FIRST)
    for end in range(1, len(alone)):
        cut = parse.elements(alone[:end], "", KEYS)
        assert (cut.elements, cut.reason) == ([], parse.BROKEN), alone[:end]


def test_after_a_slip_that_cannot_be_mended_the_elements_before_it_are_kept() -> None:
    broken = WHOLE.replace('"question": "When?"', '"question": "When "exactly"?"')
    assert found(broken) == ([FIRST], {"a slip: whole elements before it kept": 1}, "")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", parse.EMPTY),
        (" \n", parse.EMPTY),
        ("मैं यह नहीं कर सकता।", parse.NO_JSON),
        ('{"error": "no text"}', parse.STRANGE),
        ('{"questions": 3}', parse.STRANGE),
        ("[1, 2]", parse.STRANGE),
        ('{"questions": [{"quote": "a', parse.BROKEN),
        ("[" * 5000, parse.BROKEN),
        ('{"questions": [{"quote": NaN}]}', parse.BROKEN),
    ],
)
def test_what_cannot_be_read_has_a_reason(answer: str, reason: str) -> None:
    elements, _, said = found(answer)
    assert (elements, said) == ([], reason)


def test_elements_may_be_texts() -> None:
    names = parse.elements('{"names": ["पंप", "valve", "mo', "names")
    assert (names.elements, dict(names.repairs)) == (["पंप", "valve"], {"cut: whole elements kept": 1})
    assert parse.elements('["पंप", "valve"]', "names").elements == ["पंप", "valve"]
    assert parse.elements('[{"name": "पंप"}]', "names").reason == parse.STRANGE


def test_the_texts_of_an_element() -> None:
    repairs: Counter[str] = Counter()
    assert parse.texts({"a": " नमस्ते\u0000 ", "b": 40, "c": "\ud800x"}, ("a", "b", "c"), repairs) == (
        "नमस्ते",
        "40",
        "\ufffdx",
    )
    assert repairs == {"a number for a text": 1, "characters that are none": 2}
    for bad in ("text", {"a": "x"}, {"a": "x", "b": " "}, {"a": "x", "b": None}, {"a": "x", "b": True}):
        assert parse.texts(bad, ("a", "b"), Counter()) is None


def test_a_text_that_goes_round_is_told() -> None:
    said = "यह पंप पानी चालू करता है। "
    assert parse.goes_round(said * 10)
    assert not parse.goes_round(said * 2)
    assert not parse.goes_round(" ".join(f"The part number {number} is cleaned every week." for number in range(20)))


def test_a_text_may_come_as_json_whole_or_cut() -> None:
    text = 'पंप "चलता" है।\nफिर \\ वह 😀 रुकता है।'
    for ascii_only in (True, False):
        whole = json.dumps({"text": text}, ensure_ascii=ascii_only)
        assert parse.unframed(whole, "text") == text
        for end in range(whole.index("पंप"[0] if not ascii_only else "\\u"), len(whole)):
            got = parse.unframed(whole[:end], "text")
            assert text.startswith(got.rstrip("\ud83d"))
    assert parse.unframed('{"text": ""}', "text") == ""
    for plain in ("plain", '{"other": "x"}', '{"text": 3}', ""):
        assert parse.unframed(plain, "text") == plain


def test_a_cut_passage_ends_with_its_last_whole_sentence() -> None:
    repairs: Counter[str] = Counter()
    assert parse.passage("पंप चलता है। फिर वह रुक", repairs, cut=True) == "पंप चलता है।"
    assert parse.passage("It costs 3.5 dollars. Then it st", repairs, cut=True) == "It costs 3.5 dollars."
    assert repairs == {"cut: whole sentences kept": 2}
    assert parse.passage("It never ends and", repairs, cut=True) == ""
    assert parse.passage("It never ends and", repairs, cut=False) == "It never ends and"
    assert parse.passage("<think>Hm.</think>```\n- one\n- two\n```", Counter(), cut=False) == "- one\n- two"
