"""Prompts with slots: rendered from what fills the slots, and read back from what was sent."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence

from aasut.errors import AmbiguousPrompt, PromptMismatch, RecipeError
from aasut.types import Message, Role


class PromptTemplate:
    """A conversation with named slots, such as `Review: {text}`; `{{` and `}}` are literal braces.

    `render` fills the slots; `read` is its inverse and raises PromptMismatch where the text does
    not match, AmbiguousPrompt where it could be read in more than one way.
    """

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = tuple(messages)
        self.slots: tuple[str, ...] = tuple(name for m in self.messages for name in _fields(m.content))
        if not self.messages or self.messages[-1].role != "user":
            raise RecipeError("A prompt must end with a user message.", "Add one, or give the prompt as plain text.")
        if len(set(self.slots)) != len(self.slots):
            raise RecipeError(f"A prompt uses a slot twice: {', '.join(self.slots)}.", "Use each slot once.")
        if not self.slots:
            raise RecipeError("A prompt has no slot.", "Mark where the input goes, for example {text}.")

    @classmethod
    def of(cls, prompt: str | Sequence[Mapping[str, str]]) -> PromptTemplate:
        """From a recipe: plain text is one user message; a list has `role` and `content` each."""
        if isinstance(prompt, str):
            return cls([Message("user", prompt)])
        strange = next((m for m in prompt if set(m) != {"role", "content"}), None)
        if strange is not None:
            raise RecipeError(
                f"A prompt's message has {', '.join(strange) or 'nothing'}.",
                "Give each message role and content alone.",
            )
        return cls([Message(_role(m["role"]), m["content"]) for m in prompt])

    def plain(self) -> list[list[str]]:
        """Roles and texts as plain data."""
        return [[m.role, m.content] for m in self.messages]

    @property
    def begins_fixed(self) -> bool:
        """Does it begin with text of its own, and not with a slot?"""
        return bool(_pieces(self.messages[0].content)[0][0].strip()) if self.messages[0].content else False

    def render(self, slots: Mapping[str, str]) -> tuple[Message, ...]:
        missing = [name for name in self.slots if name not in slots]
        if missing:
            raise RecipeError(
                f"The prompt needs the slot {{{missing[0]}}}, which the data does not fill.",
                f"Map a column to it under data.tables[].slots; mapped now: {', '.join(slots) or 'none'}.",
            )
        # Slot text is inserted once and never scanned again, so braces in it stay what they are.
        return tuple(Message(m.role, _fill(m.content, slots)) for m in self.messages)

    def read(self, messages: Sequence[Message]) -> dict[str, str]:
        if [m.role for m in messages] != [m.role for m in self.messages]:
            raise PromptMismatch(
                f"The request has the roles {', '.join(m.role for m in messages)}; "
                f"the prompt has {', '.join(m.role for m in self.messages)}.",
                "Send the prompt as the recipe declares it.",
            )
        lazy: dict[str, str] = {}
        greedy: dict[str, str] = {}
        for message, template in zip(messages, self.messages, strict=True):
            first = _read(template.content, message.content, leftmost=True)
            second = _read(template.content, message.content, leftmost=False)
            if first is None or second is None:
                raise PromptMismatch(
                    "The request's text does not match the declared prompt.",
                    "Send the prompt as the recipe declares it, with only the slots changed.",
                )
            lazy |= first
            greedy |= second
        if lazy != greedy:
            raise AmbiguousPrompt(
                "The request can be read in more than one way: a slot holds text of the prompt itself.",
                "Put a marker between the slots that inputs never contain.",
            )
        return lazy


def _role(name: str) -> Role:
    if name not in ("system", "user", "assistant"):
        raise RecipeError(f"Unknown role {name!r} in a prompt.", "Use system, user or assistant.")
    return name  # type: ignore[return-value]


def _pieces(text: str) -> list[tuple[str, str | None]]:
    try:
        found = list(string.Formatter().parse(text))
    except ValueError as error:
        raise RecipeError(
            f"A prompt's braces are unbalanced: {error}.", "Write {{ and }} for literal braces."
        ) from None
    # A conversion or a format, as in {a!r} or {a:>9}, stays with the name, so that it is refused as no name.
    return [
        (literal, name and name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else ""))
        for literal, name, spec, conversion in found
    ]


def _fields(text: str) -> list[str]:
    names = [name for _, name in _pieces(text) if name is not None]
    for name in names:
        if not name.isidentifier():
            raise RecipeError(f"{{{name}}} is no slot name.", "Use a plain word, or {{ and }} for literal braces.")
    return names


def _fill(text: str, slots: Mapping[str, str]) -> str:
    return "".join(literal + (slots[name] if name is not None else "") for literal, name in _pieces(text))


def _read(template: str, text: str, *, leftmost: bool) -> dict[str, str] | None:
    """The slots of a text, None where it does not match; each literal is taken where it comes first, or last.

    What a lazy and a greedy regular expression find, in linear time on any text.
    """
    names: list[str] = []
    literals = [""]
    for literal, name in _pieces(template):  # escaped braces come as pieces of their own
        literals[-1] += literal
        if name is not None:
            names.append(name)
            literals.append("")
    if not names:
        return {} if text == literals[0] else None
    head, *middle, tail = literals
    start, end = len(head), len(text) - len(tail)
    if end < start or not text.startswith(head) or not text.endswith(tail):
        return None
    edges = [start, end]
    low, high = start, end
    for number in range(len(middle)):
        literal = middle[number] if leftmost else middle[-1 - number]
        at = text.find(literal, low, high) if leftmost else text.rfind(literal, low, high)
        if at < 0:
            return None
        place = len(edges) - 1 if leftmost else 1
        edges[place:place] = [at, at + len(literal)]
        low, high = (at + len(literal), high) if leftmost else (low, at)
    return {name: text[edges[2 * i] : edges[2 * i + 1]] for i, name in enumerate(names)}
