"""Conversations about a chunk: each question follows from what was said before, each answer has its sentence."""

from __future__ import annotations

from collections.abc import Sequence

from aasut.recipe.field import Synthesize
from aasut.synthesize.prompts import Prompt, prompt
from aasut.synthesize.shelf import Shelf, slots_of
from aasut.synthesize.writing import AGAIN, COPIED, Made, Writing, ask, folded, quoting
from aasut.types import Chunk, Message

KEYS = ("quote", "question", "answer")
FEWEST = 2  # questions that make a conversation


def write(chunks: Sequence[Chunk], shelf: Shelf, wanted: Synthesize) -> Writing:
    """A round a question about one chunk, until one is not usable."""
    (chunk,) = chunks
    told, made = prompt("conversations", shelf.language(chunk)), Made()
    turns: list[Message] = []
    evidence: list[str] = []
    quotable = shelf.quotable(chunk)
    while len(evidence) < wanted.turns:
        unused = [sentence for sentence in quotable if sentence not in evidence]
        if quotable and not unused:
            break
        slots = slots_of(chunk) | {"so_far": _so_far(turns, told)}
        (answer,) = yield [ask(told, wanted, quoting(KEYS, unused), slots)]
        elements = made.elements(answer, "", KEYS)
        said = made.texts(elements[0], KEYS) if elements else None
        if said is None:
            break
        quote, question, reply = said
        if told.shows(question):
            made.faults[COPIED] += 1
            break
        if folded(question) in [folded(turn.content) for turn in turns]:
            made.faults[AGAIN] += 1
            break
        turns += [Message("user", question), Message("assistant", reply)]
        evidence.append(made.quote(quote, chunk))
    if len(evidence) >= FEWEST:
        made.items.append(shelf.item("conversations", told.name, 0, chunks, turns, evidence))
    elif evidence:
        made.faults["a conversation that ends after its first question"] += 1
    return made


def _so_far(turns: Sequence[Message], told: Prompt) -> str:
    if not turns:
        return " " + told.words["nothing"]
    return "".join(f"\n{told.words[turn.role]}: {' '.join(turn.content.split())}" for turn in turns)
