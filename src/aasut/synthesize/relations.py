"""Texts about how things that chunks name are related: EntiGraph (Yang et al. 2024, Synthetic Continued Pretraining).

First the names in a chunk, then a text for some pairs of them. Every second text is grounded in two chunks, where a
search for the pair finds another one of the same split that names one of the two.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

from aasut.recipe.field import Synthesize
from aasut.store import digest
from aasut.synthesize.prompts import prompt
from aasut.synthesize.shelf import Shelf, slots_of
from aasut.synthesize.writing import Made, Writing, ask, ask_text, folded, listed
from aasut.types import Chunk, Message

LONGEST = 80  # characters of a name


def write(chunks: Sequence[Chunk], shelf: Shelf, wanted: Synthesize) -> Writing:
    """Two rounds about one chunk."""
    (chunk,) = chunks
    made, most = Made(), wanted.pairs + 2
    told = prompt("names", shelf.language(chunk))
    schema = listed("names", {"type": "string", "minLength": 1, "maxLength": LONGEST}, most)
    (answer,) = yield [ask(told, wanted, schema, slots_of(chunk), most)]
    names = _names(made.elements(answer, "names"), chunk, made)
    pairs = list(itertools.combinations(names, 2))
    random.Random(digest([chunk.id, names])).shuffle(pairs)
    pairs = pairs[: wanted.pairs]
    if not pairs:
        return made
    told = prompt("relations", shelf.language(chunk))
    grounds = [_ground(number, pair, chunk, shelf) for number, pair in enumerate(pairs)]
    answers = yield [
        ask_text(told, wanted, slots_of(*ground) | {"one": one, "other": other}, bound=shelf.bound)
        for (one, other), ground in zip(pairs, grounds, strict=True)
    ]
    for number, (ground, said) in enumerate(zip(grounds, answers, strict=True)):
        if text := made.passage(said):
            made.items.append(shelf.item("relations", told.name, number, ground, (Message("assistant", text),)))
    return made


def _names(found: Sequence[object], chunk: Chunk, made: Made) -> list[str]:
    """Names that stand in the chunk, each once."""
    text, names = folded(chunk.text), {}
    for name in found:
        plain = folded(name) if isinstance(name, str) else ""
        if not plain:
            made.faults["a name that is no text"] += 1
        elif plain in names:
            made.faults["the same name again"] += 1
        elif plain not in text:
            made.faults["a name that is not in the text"] += 1
        else:
            names[plain] = str(name).strip()
    made.faults.update(["fewer than two names"] if len(names) == 1 else [])
    return list(names.values())


def _ground(number: int, pair: tuple[str, str], chunk: Chunk, shelf: Shelf) -> tuple[Chunk, ...]:
    other = shelf.near(" ".join(pair), chunk) if number % 2 else None
    if other is None or not any(folded(name) in folded(other.text) for name in pair):
        return (chunk,)
    return chunk, other
