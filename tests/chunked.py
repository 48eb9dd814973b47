"""A small field for tests of what is written about it: chunks in English and Hindi, and a scripted teacher's rules.

As a program it writes the items of a recipe: `python chunked.py RECIPE.json FOLDER`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aasut.progress import Progress
from aasut.recipe.field import FieldRecipe
from aasut.synthesize import item, write
from aasut.synthesize.item import Item, Split
from aasut.synthesize.shelf import Search
from aasut.teacher import base
from aasut.teacher.ledger import Ledger
from aasut.types import Chunk, Span

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "order_part",
            "parameters": {
                "type": "object",
                "properties": {"part": {"type": "string"}, "count": {"type": "integer"}},
                "required": ["part"],
            },
        },
    }
]
ONE = '{"quote": "{{sentence 1}}", "question": "What of {{word 1}}?", "answer": "{{sentence 1}}"}'
TWO = '{"quote": "{{sentence 2}}", "question": "What of {{word 2}}?", "answer": "{{sentence 2}}"}'
NAMES = '{"names": ["{{word 1}}", "{{word 2}}", "{{word 3}}"]}'
PLAIN = '{"quote": "{{sentence 1}}", "request": "What of {{word 1}}?", "answer": "{{sentence 1}}"}'
CALL = '{"request": "Order {{word 2}}.", "calls": [{"name": "order_part", "arguments": {"part": "{{word 2}}"}}]}'
WAYS = '{"strategies": [{"name": "list", "task": "List it."}, {"name": "tell", "task": "Tell it."}]}'
# By the words with which questions end, in English and in Hindi.
RULES = {
    "Ways to study it as JSON": WAYS,
    "पढ़ने के तरीके": WAYS,
    "Names as JSON": NAMES,
    "JSON में नाम": NAMES,
    "are related:": "Both stand in this: {{sentence 1}}",
    "का संबंध": "दोनों इसमें हैं: {{sentence 1}}",
    "Result:": "In short: {{sentence 1}}",
    "परिणाम:": "संक्षेप में: {{sentence 1}}",
    "So far: nothing": ONE,
    "अब तक: कुछ नहीं": ONE,
    "Next question": TWO,
    "अगला प्रश्न": TWO,
    "Request without calls": PLAIN,
    "बिना कॉल": PLAIN,
    "Request and calls": CALL,
    "अनुरोध और कॉल": CALL,
    "Questions as JSON": f'{{"questions": [{ONE}, {TWO}]}}',
    "JSON में प्रश्न": f'{{"questions": [{ONE}, {TWO}]}}',
}
DEVICES = ["compressor", "thermostat", "condenser", "evaporator", "regulator", "circulator", "humidifier", "ventilator"]
UPKEEP = ["संपीडक", "तापनियंत्रक", "संघनित्र", "वाष्पित्र", "नियामक", "परिसंचरक", "आर्द्रकारी", "संवातक"]


def english(number: int) -> str:
    """A chunk's text, another one for each number."""
    device = DEVICES[number % len(DEVICES)]
    return (
        f"## Upkeep {number}\n\nThe {device} number {number} is cleaned every {number + 2} weeks with lukewarm water. "
        f"Its filter lasts {number + 20} days.\n\n"
    )


def hindi(number: int) -> str:
    """The same in Hindi."""
    device = UPKEEP[number % len(UPKEEP)]
    return (
        f"## रखरखाव {number}\n\nक्रमांक {number} का {device} हर {number + 2} सप्ताह में गुनगुने पानी से साफ़ किया जाता है। "
        f"उसकी छन्नी {number + 20} दिन चलती है।\n\n"
    )


def chunks(count: int, language: str = "en", each: int = 2) -> list[Chunk]:
    """Chunks of documents that have `each` of them."""
    made, start = [], 0
    for number in range(count):
        start = 0 if number % each == 0 else start
        text = hindi(number) if language == "hi" else english(number)
        document = f"{language}/{number // each}.md"
        span = Span(document, start, start + len(text), number // each + 1, (f"Upkeep {number}",))
        made.append(Chunk(f"{document}:{start}", text, span, language))
        start += len(text)
    return made


def parts(made: Iterable[Chunk], held_out: int = 5) -> dict[str, Split]:
    """The split of each document: of every `held_out` one goes to tune and one to test."""
    documents = dict.fromkeys(chunk.span.document for chunk in made)
    kinds: dict[int, Split] = {0: "tune", 1: "test"}
    return {document: kinds.get(place % held_out, "train") for place, document in enumerate(documents)}


@dataclass
class Hit:
    """A chunk that was found."""

    chunk: Chunk


class SharedWords:
    """Searches chunks by the words that they share with a query; `asked` are the queries."""

    def __init__(self, made: Sequence[Chunk]) -> None:
        self.made = made
        self.asked: list[str] = []

    def search(self, query: str, k: int = 5, keep: Callable[[str], bool] | None = None) -> list[Hit]:
        """The `k` with the most of the query's words, of documents that `keep` lets pass."""
        self.asked.append(query)
        open_ = [chunk for chunk in self.made if keep is None or keep(chunk.span.document)]
        return [Hit(chunk) for chunk in sorted(open_, key=lambda c: -sum(w in c.text for w in query.split()))[:k]]


def recipe(**changes: Any) -> FieldRecipe:
    """A recipe with a scripted teacher; `changes` of sections."""
    plain: dict[str, Any] = {
        "name": "upkeep",
        "documents": [{"source": "documents"}],
        "chunks": {"least": 20},
        "teacher": {"scripted": RULES},
    }
    return FieldRecipe.model_validate(plain | changes)


def open_ledger(wanted: FieldRecipe, folder: Path) -> Ledger:
    """The recipe's teacher, scripted or an endpoint, behind a ledger in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return Ledger(base.create(wanted.teacher.kind, wanted.teacher, None, ""), folder / "ledger.db")


def build(
    wanted: FieldRecipe, made: Sequence[Chunk], folder: Path, index: Search | None = None, held_out: int = 5
) -> tuple[dict[str, Any], list[Item]]:
    """The stage's facts and its items."""
    ledger = open_ledger(wanted, folder)
    try:
        facts = write.build(wanted, made, parts(made, held_out), ledger, index, folder, Progress(quiet=True))
    finally:
        ledger.close()
    return facts, list(item.load(folder / write.FILE))


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    asked_about = [*chunks(given["chunks"]), *chunks(given["chunks"], "hi")]
    build(FieldRecipe.model_validate(given["recipe"]), asked_about, Path(sys.argv[2]))
