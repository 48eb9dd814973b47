"""Names for slots, out of the text before them: `Review: `, `<document>`, `"title": "`."""

from __future__ import annotations

import re
from collections.abc import Collection

_TAG = re.compile(r"<\s*([^\W\d][\w.-]*)[^<>]*>\s*$")
_KEY = re.compile(r"[\"']([^\W\d][\w .-]*)[\"']\s*:\s*[\"']?$")
_LABEL = re.compile(r"([^\W\d_][^\n:：=.!?<>{}\"]*?)[\s\"'`*_)\]]{0,3}[:：=]\s*[\"'`\[(<*_]*\s*$")
_FENCED = re.compile(r"(?:^|\n)[\s#*>-]*([^\W\d_][^\n:：=.!?<>{}\"]{0,40})[:：=]?[ *]*\s*\n[\"'`=#*~-]{3,}[^\n]*\n\s*$")
_HEADING = re.compile(r"(?:^|\n)\s*#+\s*([^\n]+?)\s*:?\s*\n\s*$")
_LEAST_TELLING = frozenset(
    ("the", "a", "an", "this", "that", "following", "below", "here", "is", "are", "of", "to", "for", "in", "on", "your",
     "my", "our", "his", "her", "its", "and", "or", "with", "as", "by")
)  # fmt: skip


def name_of(before: str, taken: Collection[str], otherwise: str = "text") -> str:
    """A slot's name: an identifier that is not `taken`. `before` is the fixed text in front of the slot."""
    name = label_of(before) or otherwise
    number = 2
    unique = name
    while unique in taken:
        unique, number = f"{name}_{number}", number + 1
    return unique


def label_of(before: str) -> str:
    """The label that the fixed text in front of a slot ends with, as an identifier; empty where it ends with none."""
    end = before[-300:]
    for pattern in (_TAG, _KEY, _HEADING, _FENCED, _LABEL):
        found = pattern.search(end)
        if found is not None:
            return identifier(found[1])
    return ""


def identifier(label: str) -> str:
    """The telling words of a label as one identifier; the last ones of a sentence. Empty where there are none."""
    plain = re.sub(r"[’']s\b", "", label.casefold())
    words = _marked(plain).split()
    telling = [word for word in words if word not in _LEAST_TELLING] or words[-1:]
    name = "_".join(telling if len(words) <= 3 else telling[-1:]).strip("_")
    if not name:
        return ""
    name = name if name.isidentifier() else f"slot_{name}"
    return name if name.isidentifier() else ""


def _marked(text: str) -> str:
    """Vowel signs and other marks are no letters to regular expressions, but belong to the word."""
    return "".join(c if (c.isalnum() or ("a" + c).isidentifier()) else " " for c in text)
