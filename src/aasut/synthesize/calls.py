"""Requests that the declared functions serve, with the calls that do so, and some that need none of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from aasut import tools
from aasut.recipe.field import Synthesize
from aasut.store import digest
from aasut.synthesize.prompts import prompt
from aasut.synthesize.shelf import Shelf, slots_of
from aasut.synthesize.writing import COPIED, Made, Writing, ask, quoting, record
from aasut.types import Chunk, Message

MOST = 3  # calls that serve a request
NEEDS_NONE = 4  # of so many chunks, one is for a request without calls
PLAIN_KEYS = ("quote", "request", "answer")


def write(chunks: Sequence[Chunk], shelf: Shelf, wanted: Synthesize) -> Writing:
    """One round about one chunk."""
    (chunk,) = chunks
    none = int(digest(chunk.id)[:8], 16) % NEEDS_NONE == 0
    return (yield from (_plain if none else _calls)(chunk, shelf, wanted))


def _calls(chunk: Chunk, shelf: Shelf, wanted: Synthesize) -> Writing:
    made, told = Made(), prompt("calls", shelf.language(chunk))
    defined = json.dumps(wanted.tools, ensure_ascii=False)
    (answer,) = yield [ask(told, wanted, _schema(defined), _slots(chunk, wanted))]
    for number, element in enumerate(made.elements(answer, "", ("request", "calls"))[:1]):
        said = made.texts(element, ("request",))
        if said is None:
            continue
        if told.shows(said[0]):
            made.faults[COPIED] += 1
            continue
        written = tools.canonical(json.dumps(element.get("calls"), ensure_ascii=False), defined)
        if written is None:
            made.faults["calls that do not fit the functions"] += 1
            continue
        turns = (Message("user", said[0]), Message("assistant", written))
        made.items.append(shelf.item("calls", told.name, number, (chunk,), turns))
    return made


def _plain(chunk: Chunk, shelf: Shelf, wanted: Synthesize) -> Writing:
    made, told = Made(), prompt("no_calls", shelf.language(chunk))
    (answer,) = yield [ask(told, wanted, quoting(PLAIN_KEYS, shelf.quotable(chunk)), _slots(chunk, wanted))]
    for number, element in enumerate(made.elements(answer, "", PLAIN_KEYS)[:1]):
        said = made.texts(element, PLAIN_KEYS)
        if said is None:
            continue
        if told.shows(said[1]):
            made.faults[COPIED] += 1
            continue
        quote, request, reply = said
        if tools.is_calls(reply):
            made.faults["an answer that reads as calls"] += 1
            continue
        turns = (Message("user", request), Message("assistant", reply))
        evidence = (made.quote(quote, chunk),)
        made.items.append(shelf.item("calls", told.name, number, (chunk,), turns, evidence))
    return made


def _slots(chunk: Chunk, wanted: Synthesize) -> dict[str, str]:
    """What fills the form; the functions are shown without what says nothing."""
    shown = [
        {name: tool["function"][name] for name in ("name", "description", "parameters") if tool["function"].get(name)}
        for tool in wanted.tools
    ]
    functions = json.dumps(shown, ensure_ascii=False)
    return slots_of(chunk) | {"functions": functions}


def _schema(defined: str) -> dict[str, Any]:
    """The JSON Schema of {request, calls}; references in the functions' own schemas hold where they now stand."""
    calls = json.loads(tools.schema(defined, most=MOST))
    definitions = calls.pop("$defs")
    return record({"request": {"type": "string", "minLength": 1}, "calls": calls}) | {"$defs": definitions}
