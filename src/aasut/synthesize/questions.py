"""Questions that a chunk answers, each with its answer and the sentence that says so."""

from __future__ import annotations

from collections.abc import Sequence

from aasut.recipe.field import Synthesize
from aasut.synthesize import quotes
from aasut.synthesize.prompts import prompt
from aasut.synthesize.shelf import Shelf, slots_of
from aasut.synthesize.writing import AGAIN, COPIED, Made, Writing, ask, folded, listed, quoting
from aasut.types import Chunk, Message

KEYS = ("quote", "question", "answer")  # the quote comes first: small models then ask about what it says


def write(chunks: Sequence[Chunk], shelf: Shelf, wanted: Synthesize) -> Writing:
    """One round about one chunk.

    Where quotes are bound, each question is asked for by itself, about a share of the text of its own: small models
    repeat what they said before.
    """
    (chunk,) = chunks
    told, made = prompt("questions", shelf.language(chunk)), Made()
    shares = quotes.shares(shelf.quotable(chunk), wanted.questions)
    most = 1 if shares else wanted.questions
    answers = yield [
        ask(told, wanted, listed("questions", quoting(KEYS, share), most), slots_of(chunk), most)
        for share in shares or [[]]
    ]
    seen: set[str] = set()
    for answer in answers:
        for number, element in enumerate(made.elements(answer, "questions", KEYS)):
            said = made.texts(element, KEYS)
            if said is None:
                continue
            quote, question, reply = said
            if number >= most:
                made.faults["more questions than wanted"] += 1
            elif told.shows(question):
                made.faults[COPIED] += 1
            elif folded(question) in seen:
                made.faults[AGAIN] += 1
            else:
                turns = (Message("user", question), Message("assistant", reply))
                evidence = (made.quote(quote, chunk),)
                made.items.append(shelf.item("questions", told.name, len(seen), chunks, turns, evidence))
                seen.add(folded(question))
    return made
