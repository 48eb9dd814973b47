"""Ways to study a document, each applied: Active Reading (Lin et al. 2025, Learning Facts at Scale).

The teacher proposes strategies for each document by its headings and beginning, then does each with every chunk of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from aasut.recipe.field import Synthesize
from aasut.synthesize.prompts import prompt
from aasut.synthesize.shelf import Shelf, slots_of
from aasut.synthesize.writing import Made, Writing, ask, ask_text, folded, listed, strings
from aasut.types import Chunk, Message

KEYS = ("name", "task")
BEGINNING = 600  # characters of the document that strategies are proposed by
OUTLINE = 20  # headings of it


def write(chunks: Sequence[Chunk], shelf: Shelf, wanted: Synthesize, outline: str) -> Writing:
    """Two rounds about chunks of one document, its first one first; outline: the document's headings."""
    first, made = chunks[0], Made()
    told = prompt("strategies", shelf.language(first))
    schema = listed("strategies", strings(*KEYS), wanted.strategies)
    shown = _beginning(first.text)
    slots = {"source": first.span.document, "outline": outline, "text": shown}
    (answer,) = yield [ask(told, wanted, schema, slots, wanted.strategies)]
    tasks: list[str] = []
    for element in made.elements(answer, "strategies", KEYS):
        said = made.texts(element, KEYS)
        if said is None:
            continue
        if folded(said[1]) in map(folded, tasks):
            made.faults["the same strategy again"] += 1
        elif len(tasks) >= wanted.strategies:
            made.faults["more strategies than wanted"] += 1
        else:
            tasks.append(said[1])
    if not tasks:
        return made
    turns = [(chunk, number, task) for chunk in chunks for number, task in enumerate(tasks)]
    prompts = {chunk.id: prompt("reading", shelf.language(chunk)) for chunk in chunks}
    answers = yield [
        ask_text(prompts[chunk.id], wanted, slots_of(chunk) | {"task": task}, bound=shelf.bound)
        for chunk, _, task in turns
    ]
    for (chunk, number, _), said_text in zip(turns, answers, strict=True):
        if text := made.passage(said_text):
            name = prompts[chunk.id].name
            made.items.append(shelf.item("reading", name, number, (chunk,), (Message("assistant", text),)))
    return made


def outline_of(chunks: Sequence[Chunk]) -> str:
    """The innermost headings of a document's chunks, in order, each once."""
    found = dict.fromkeys(chunk.span.headings[-1] for chunk in chunks if chunk.span.headings)
    return "; ".join(list(found)[:OUTLINE]) or "-"


def _beginning(text: str) -> str:
    """The first characters, up to the end of a line or a word."""
    text = text.strip()
    if len(text) <= BEGINNING:
        return text
    cut = text[:BEGINNING]
    return cut[: max(cut.rfind("\n"), cut.rfind(" "), BEGINNING // 2)].rstrip()
