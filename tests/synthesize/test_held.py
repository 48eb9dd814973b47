"""What train must not repeat, put together of held-out sets, documents and items; train's own is none of it."""

from __future__ import annotations

import pytest

from aasut.data.held_out import Entry
from aasut.progress import Progress
from aasut.synthesize.held import HeldTexts
from aasut.synthesize.item import Item, Split
from aasut.types import Chunk, Message, Span

PUMP = "The pump of the second circuit must be primed with distilled water before the main valve is opened again."
VALVE = "Close the drain before the tank is filled, and wait until the float has come to rest at its upper mark."
FILTER = "फिल्टर को हर छह महीने में बदलना चाहिए और उससे पहले मुख्य वाल्व को पूरी तरह बंद कर देना चाहिए"
PUBLIC = "Which of the three gauges shows the pressure on the outlet side when the bypass has been opened by hand?"
PARTS: dict[str, Split] = {"pump.md": "train", "valve.md": "tune", "filter.md": "test"}


def chunk(document: str, text: str) -> Chunk:
    return Chunk(f"{document}@0", text, Span(document, 0, len(text)))


def item(split: Split, question: str, answer: str) -> Item:
    turns = (Message("user", question), Message("assistant", answer))
    return Item(question[:9], "questions", split, turns, (), "questions/1", "scripted")


@pytest.fixture
def held() -> HeldTexts:
    items = [
        item(
            "test", "After how many months is the cartridge of the fine filter to be exchanged by the operator?", "Six"
        ),
        item("train", "With what is the pump of the second circuit primed before one opens the main valve?", "Water"),
    ]
    chunks = [chunk("pump.md", PUMP), chunk("valve.md", VALVE), chunk("filter.md", FILTER)]
    sets = [Entry("public.csv", "line 7", (PUBLIC,))]
    return HeldTexts(sets, chunks, PARTS, items, embedder=None, cosine=0.9, progress=Progress(quiet=True))


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (f"As the manual says: {VALVE}", "words in a row: tune documents, valve.md@0"),
        (f"प्रश्न: {FILTER}?", "words in a row: test documents, filter.md@0"),
        (PUBLIC.upper(), "words in a row: public.csv, line 7"),
        (
            "After how many months is the cartridge of the fine filter to be exchanged by the operator?",
            "words in a row: test items, After how",
        ),
    ],
)
def test_held_out_texts_are_found_where_they_stand(held: HeldTexts, text: str, where: str) -> None:
    assert held.find([text]) == [where]


def test_what_train_has_of_its_own_is_free(held: HeldTexts) -> None:
    own = "With what is the pump of the second circuit primed before one opens the main valve?"
    assert held.find([PUMP, own, "", *["Something else entirely, about bearings."] * 600]) == [""] * 603
