from __future__ import annotations

import pytest

from aasut.recipe.field import Filter
from aasut.synthesize import shape
from aasut.synthesize.item import Item
from aasut.synthesize.shape import fault, language_fault
from written import HINDI, MANUAL, asked, chunks, conversation, read

CHUNK, HINDI_CHUNK = chunks("a.md", MANUAL)[0], chunks("b.md", HINDI, "hi")[0]
LIMITS = Filter(shortest=3, longest=12)
LONG_ENGLISH = "The fuel pump of this car is protected by a fuse in the box under the bonnet, as in most others."
LONG_HINDI = "ईंधन पंप की सुरक्षा एक फ़्यूज़ करता है, जो बोनट के नीचे के डिब्बे में लगा हुआ है, जैसा अधिकतर गाड़ियों में होता है।"
LONG_GERMAN = "Die Kraftstoffpumpe dieses Wagens wird durch eine Sicherung im Kasten unter der Motorhaube geschützt."


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (asked("1", "Which fuse is it?", "Fuse F12.", CHUNK), ""),
        (asked("1", "पंप का फ़्यूज़ कौन-सा है?", "F12 फ़्यूज़।", HINDI_CHUNK), ""),
        (asked("1", "Which fuse is it?", " \n", CHUNK), shape.EMPTY),
        (asked("1", "", "Fuse F12.", CHUNK), shape.EMPTY),
        (asked("1", "Which fuse?", "Fuse F12.", CHUNK), shape.SHORT),
        (asked("1", "कौन फ़्यूज़?", "F12", HINDI_CHUNK), shape.SHORT),
        (asked("1", "Which fuse is it?", "one two three four five six seven eight nine", CHUNK), shape.LONG),
        (asked("1", "The pump has a fuse.", "The pump has a fuse!", CHUNK), shape.ECHO),
        (asked("1", "पंप का फ़्यूज़ F12 है।", "पंप का फ़्यूज़ F12 है", HINDI_CHUNK), shape.ECHO),
        (asked("1", "Which fuse is it?", "I'm sorry, I do not know.", CHUNK), shape.REFUSAL),
        (asked("1", "Which fuse is it?", "The passage does not say.", CHUNK), shape.PROMPT),
        (asked("1", "What does the passage say?", "Fuse F12.", CHUNK), shape.POINTS),
        (asked("1", "गद्यांश में क्या है?", "F12", HINDI_CHUNK), shape.POINTS),
        (conversation("1", [("Which fuse is it?", "F12."), ("And why?", "It burns.")], CHUNK), shape.SHORT),
        (read("1", "Short.", CHUNK), ""),  # a text has no question
        (asked("1", "Order the fuse now", '[{"name": "as an ai", "arguments": {}}]', CHUNK, kind="calls"), ""),
    ],
)
def test_the_first_fault_is_told(item: Item, reason: str) -> None:
    assert fault(item, LIMITS)[0] == reason


@pytest.mark.parametrize(
    ("answer", "made_of", "language", "wanted", "reason"),
    [
        (LONG_ENGLISH, MANUAL[0], "en", None, ""),
        (LONG_HINDI, HINDI[0], "hi", None, ""),
        (LONG_HINDI, MANUAL[0], "en", "hi", ""),
        (LONG_HINDI, MANUAL[0], "en", None, shape.SCRIPT),
        (LONG_ENGLISH, HINDI[0], "hi", None, shape.SCRIPT),
        (LONG_ENGLISH, MANUAL[0], "en", "hi", shape.LANGUAGE),
        (LONG_GERMAN, MANUAL[0], "en", None, shape.LANGUAGE),
        (LONG_GERMAN, MANUAL[0], "en", "de", ""),
        ("P0101 15", HINDI[0], "hi", None, shape.SCRIPT),
        ("15.4", HINDI[0], "hi", None, ""),  # numbers are of no script
        (LONG_GERMAN, MANUAL[0], "", None, ""),  # nobody knows what was wanted
    ],
)
def test_an_answer_is_in_the_language_that_was_wanted(
    answer: str, made_of: str, language: str, wanted: str | None, reason: str
) -> None:
    item = read("1", answer, CHUNK)
    assert language_fault(item, made_of, language, wanted)[0] == reason
