"""Hand-made documents, chunks and items of a field, in English and Hindi."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aasut.recipe.field import FieldRecipe
from aasut.synthesize.item import Item
from aasut.types import Chunk, Message, Span

MANUAL = (
    "The fuel pump is protected by fuse F12, rated 15 A, in the box under the bonnet. ",
    "Check the coolant every 10,000 km. Drain it when the engine is cold, never when it is hot. ",
    "The warranty covers the gearbox for 24 months. It ends when the seal is broken.",
)
HINDI = (
    "ईंधन पंप की सुरक्षा 15 एम्पियर का फ़्यूज़ F12 करता है, जो बोनट के नीचे के डिब्बे में है। ",
    "शीतलक की जाँच हर १०,००० किमी पर करें। इंजन ठंडा होने पर ही उसे निकालें, गर्म होने पर कभी नहीं।",
)


def chunks(
    document: str, texts: Sequence[str], language: str = "en", headings: Sequence[str] = ("Care",)
) -> list[Chunk]:
    """A document's text in pieces, end to end."""
    found, start = [], 0
    for number, text in enumerate(texts):
        span = Span(document, start, start + len(text), number + 1, tuple(headings))
        found.append(Chunk(f"{document}@{start}", text, span, language))
        start = span.end
    return found


def asked(name: str, question: str, answer: str, chunk: Chunk, **more: Any) -> Item:
    """A question with its answer, made of a chunk."""
    return conversation(name, [(question, answer)], chunk, **({"kind": "questions"} | more))


def conversation(name: str, pairs: Sequence[tuple[str, str]], chunk: Chunk, **more: Any) -> Item:
    """Questions and answers in turn."""
    turns = [turn for one, other in pairs for turn in (Message("user", one), Message("assistant", other))]
    plain: dict[str, Any] = {"kind": "conversations", "split": "train", "spans": (chunk.span,)}
    plain |= {"prompt": "questions/1", "teacher": "scripted", "language": chunk.language}
    return Item(id=name, turns=tuple(turns), **(plain | more))


def read(name: str, text: str, chunk: Chunk, **more: Any) -> Item:
    """A text that is read."""
    plain: dict[str, Any] = {"kind": "relations", "split": "train", "spans": (chunk.span,)}
    plain |= {"prompt": "relations/1", "teacher": "scripted", "language": chunk.language}
    return Item(id=name, turns=(Message("assistant", text),), **(plain | more))


def recipe(**changes: Any) -> FieldRecipe:
    """A recipe of a field, with top-level sections replaced."""
    plain: dict[str, Any] = {"name": "cars", "documents": [{"source": "docs"}], "teacher": {"scripted": {"": "x"}}}
    return FieldRecipe.model_validate(plain | changes)


TOOL = {
    "type": "function",
    "function": {
        "name": "order",
        "parameters": {
            "type": "object",
            "properties": {
                "part": {"type": "string"},
                "speed": {"type": "string", "enum": ["express", "normal"]},
                "count": {"type": "integer"},
            },
            "required": ["part"],
        },
    },
}
