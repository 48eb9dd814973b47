from __future__ import annotations

import json

import pytest

from aasut.synthesize import grounding
from aasut.synthesize.grounding import fault, founded, quoted, unfounded_argument, unfounded_number
from aasut.synthesize.item import Item
from aasut.synthesize.sources import Sources
from written import HINDI, MANUAL, TOOL, asked, chunks

ENGLISH, DEVANAGARI = chunks("a.md", MANUAL), chunks("b.md", HINDI, "hi", ["देखभाल"])


def never(word: str) -> bool:
    return False


def of(item: Item, least: float = 0.6) -> tuple[str, str]:
    source = Sources([*ENGLISH, *DEVANAGARI], [item]).of(item)
    assert source is not None
    return fault(item, source, least, never, [TOOL])


@pytest.mark.parametrize(
    ("quote", "stands"),
    [
        (MANUAL[0].strip(), True),
        ("The  fuel pump is **protected** by fuse\nF12", True),
        ("the fuel pump … in the box", True),
        ("the fuel pump [...] in the box", True),
        ("the fuel pump ... in the glove box", False),
        ("protected by a fuse F12", False),
        ("uel pump is", False),
        ("…", True),
    ],
)
def test_a_quote_stands_word_for_word(quote: str, stands: bool) -> None:
    assert quoted(quote, "\n".join(MANUAL)) == stands


def test_a_quote_in_hindi_is_found_in_either_form() -> None:
    assert quoted("सुरक्षा 15 एम्पियर का फ\u093c\u094dय\u0942ज\u093c F12", HINDI[0])
    assert not quoted("सुरक्षा 15 एम्पियर के फ़्यूज़", HINDI[0])


@pytest.mark.parametrize(
    ("answer", "text", "missing"),
    [
        ("Every 10000 km.", MANUAL[1], ""),
        ("Every 10,000 km.", HINDI[1], ""),
        ("हर १०००० किमी पर", MANUAL[1], ""),
        ("Every 20,000 km.", MANUAL[1], "20000"),
        ("1. Drain it.\n2) Wait.\n - 3. Fill it.", MANUAL[1], ""),
        ("Fuse 12", MANUAL[0], ""),
        ("1.5 A", "15 A", "1.5"),
    ],
)
def test_every_number_stands_in_the_span(answer: str, text: str, missing: str) -> None:
    assert unfounded_number(answer, text) == missing


def test_common_words_say_nothing() -> None:
    assert founded("It is the fuse", MANUAL[0], never) == (0.75, ["it"])
    assert founded("It is the fuse", MANUAL[0], {"it", "is", "the"}.__contains__) == (1.0, [])
    assert founded("It is the", "another", {"it", "is", "the"}.__contains__) == (1.0, [])
    assert founded("एक अलग बात", HINDI[0], never)[0] == 0
    assert founded("फ़्यूज़ F12", HINDI[0], never) == (1.0, [])


def test_an_item_rests_on_its_own_span_alone() -> None:
    good = asked("1", "Which fuse protects the pump?", "Fuse F12, rated 15 A.", ENGLISH[0], evidence=("by fuse F12",))
    assert of(good) == ("", "")
    elsewhere = asked("2", "How long is the gearbox covered?", "24 months.", ENGLISH[0])
    assert of(elsewhere) == (grounding.NUMBER, "24")
    made_up = asked("3", "Why?", "The mechanic hid treasure in the engine.", ENGLISH[1])
    assert of(made_up) == (grounding.WORDS, "0.43: mechanic hid treasure in")
    assert of(made_up, least=0.4) == ("", "")
    quote = asked("4", "Which fuse?", "Fuse F12.", ENGLISH[0], evidence=("The pump hums.",))
    assert of(quote) == (grounding.EVIDENCE, "The pump hums.")
    headed = asked("5", "विषय?", "देखभाल", DEVANAGARI[0])
    assert of(headed) == ("", "")  # the heading says it


def test_arguments_stand_in_the_request_or_the_span_or_the_schema() -> None:
    def calls(**given: object) -> str:
        return json.dumps([{"name": "order", "arguments": given}], ensure_ascii=False)

    def item(request: str, **given: object) -> Item:
        return asked("1", request, calls(**given), ENGLISH[0], kind="calls")

    assert of(item("Order two.", part="fuse F12", speed="express", count=2)) == ("", "")
    assert of(item("गियर बॉक्स मँगवाइए", part="गियर बॉक्स")) == ("", "")
    assert of(item("Order it.", part="gearbox")) == (grounding.ARGUMENT, "gearbox")
    assert of(item("Order it.", part="fuse F12", speed="tomorrow")) == (grounding.ARGUMENT, "tomorrow")
    assert unfounded_argument(calls(part=["a", {"b": "c"}]), "a", [TOOL]) == "c"
    plain = asked("2", "Which fuse is it?", "Fuse F12.", ENGLISH[0], kind="calls")
    assert of(plain) == ("", "")
    assert of(asked("3", "Which fuse is it?", "Fuse F99.", ENGLISH[0], kind="calls", evidence=("F99",)))[0]
