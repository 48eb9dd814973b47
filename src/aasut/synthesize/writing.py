"""What the kinds have in common: they ask in rounds, and give items and an account of what became of the answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aasut.recipe.field import Synthesize
from aasut.synthesize import parse, quotes
from aasut.synthesize.item import Item
from aasut.synthesize.prompts import TEXT, Prompt
from aasut.types import Chunk, Completion, Request

VERBATIM, MENDED, NOWHERE = "verbatim", "mended", "not in the text"
AGAIN = "the same question again"
SHORTEST_TEXT, LONGEST_TEXT = 40, 1200  # characters of a text, where the engine can be bound to it
COPIED = "copied from a worked example"
LONGEST = 200  # characters of a question, where the engine can be bound to it


@dataclass
class Made:
    """What came of the answers about one or several chunks.

    `unread`: answers that cannot be read, by reason; `faults`: parts of answers that make no item, by reason;
    `repairs`: slips that were mended, by kind; `quoted`: how quotes stand in their text.
    """

    items: list[Item] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    repairs: Counter[str] = field(default_factory=Counter)
    unread: Counter[str] = field(default_factory=Counter)
    quoted: Counter[str] = field(default_factory=Counter)

    def elements(self, completion: Completion, name: str, keys: Sequence[str] = ()) -> list[Any]:
        """The whole elements of an answer, see `parse.elements`; none of one that failed."""
        if not usable(completion):
            return []
        found = parse.elements(completion.text, name, keys)
        self.repairs.update(found.repairs)
        self.unread.update([found.reason] if found.reason else [])
        return found.elements

    def texts(self, element: Any, keys: Sequence[str]) -> tuple[str, ...] | None:
        """An element's texts, see `parse.texts`; None, and a fault, where one is missing."""
        said = parse.texts(element, keys, self.repairs)
        if said is None:
            self.faults[parse.NO_ELEMENT if not isinstance(element, dict) else parse.BLANK] += 1
        return said

    def passage(self, completion: Completion) -> str:
        """An answer that is a text, plain or as JSON; "" where there is none."""
        if not usable(completion):
            return ""
        said = parse.unframed(completion.text, TEXT)
        text = parse.passage(said, self.repairs, cut=completion.finish_reason == "length")
        self.unread.update([] if text else [parse.EMPTY if not said.strip() else parse.BROKEN])
        if parse.goes_round(text):
            self.faults["a text that says the same again and again"] += 1
            return ""
        return text

    def quote(self, quote: str, chunk: Chunk) -> str:
        """A quote as its chunk has it; as it is where it is not there."""
        found = quotes.verbatim(quote, chunk.text)
        self.quoted[NOWHERE if found is None else VERBATIM if found == quote else MENDED] += 1
        return quote if found is None else found.strip()


Writing = Generator[list[Request], list[Completion], Made]


def usable(completion: Completion) -> bool:
    """Is there an answer, if only the beginning of one?"""
    return not completion.failure or (completion.finish_reason == "length" and bool(completion.text))


def ask(
    prompt: Prompt, wanted: Synthesize, schema: dict[str, Any] | None, slots: Mapping[str, str], most: int = 1
) -> Request:
    """One request as the recipe wants it."""
    return prompt.request(slots, most=most, max_tokens=wanted.max_tokens, temperature=wanted.temperature, schema=schema)


def ask_text(prompt: Prompt, wanted: Synthesize, slots: Mapping[str, str], *, bound: bool) -> Request:
    """One request for a text. Where the engine can be bound it comes as JSON: small models else tend to say nothing."""
    if not bound:
        return ask(prompt, wanted, None, slots)
    shape = record({TEXT: {"type": "string", "minLength": SHORTEST_TEXT, "maxLength": LONGEST_TEXT}})
    return prompt.request(
        slots, max_tokens=wanted.max_tokens, temperature=wanted.temperature, schema=shape, framed=True
    )


def quoting(keys: Sequence[str], quotable: Sequence[str]) -> dict[str, Any]:
    """The JSON Schema of an object of texts: quote, question and answer, by whatever names.

    Where there are sentences to quote, the quote is one of them, and the answer it or a part of it: small models, which
    invent more than they find, then say what the text says.
    """
    if not quotable:
        return strings(*keys)
    quote, question, answer = keys
    asked = {"type": "string", "minLength": 1, "maxLength": LONGEST}
    each = [
        record({quote: {"const": sentence}, question: asked, answer: {"enum": quotes.answers(sentence)}})
        for sentence in quotable
    ]
    return each[0] if len(each) == 1 else {"anyOf": each}


def listed(name: str, element: dict[str, Any], most: int) -> dict[str, Any]:
    """The JSON Schema of {name: [1 to `most` elements]}."""
    items = {"type": "array", "items": element, "minItems": 1, "maxItems": most}
    return record({name: items})


def record(properties: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of an object with these properties and no others, all of them required."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def strings(*names: str) -> dict[str, Any]:
    """The JSON Schema of an object of texts that say something."""
    return record({name: {"type": "string", "minLength": 1} for name in names})


def folded(text: str) -> str:
    """A text as equal ones are told by."""
    return " ".join(text.casefold().split())
