"""Ways in which a held-out text comes back in other writing: each changes a text, by chance, and not what it says."""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Callable

Disguise = Callable[[str, random.Random], str]

SPACES = ["  ", "\n", "\t", "\u00a0", " \u2009", "\r\n\n"]
UNSEEN = ["\u200b", "\u2060", "\ufeff", "\u200c", "\u200d"]
DIGITS = ["०१२३४५६७८९", "٠١٢٣٤٥٦٧٨٩", "０１２３４５６７８９", "0123456789", "𝟎𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖𝟗"]
TYPOGRAPHIC = {"'": "’", '"': "“", "-": "\u2011", "...": "…", " - ": " \u2014 ", "(": "\uff08", ")": "\uff09"}
NUKTA = {chr(code): unicodedata.normalize("NFD", chr(code)) for code in range(0x958, 0x960)}


def _spaces(text: str, draw: random.Random) -> str:
    return re.sub(" +", lambda _: draw.choice(SPACES), text)


def _inserted(text: str, draw: random.Random, signs: list[str]) -> str:
    """After every few signs of a word, and never at its end."""
    return re.sub(r"(?<=\S)(?=\S)", lambda _: draw.choice(signs) if draw.random() < 0.3 else "", text)


def _digits(text: str, draw: random.Random) -> str:
    other = draw.choice(DIGITS)
    return re.sub(r"\d", lambda found: other[unicodedata.decimal(found[0])], text)


def _full_width(text: str, draw: random.Random) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


def _typographic(text: str, draw: random.Random) -> str:
    for plain, other in TYPOGRAPHIC.items():
        text = text.replace(plain, other)
    return text


def _normal_form(text: str, draw: random.Random) -> str:
    """Letters and their marks apart where they are one, and as one where they are apart."""
    apart = unicodedata.normalize("NFD", text)
    return apart if apart != text else unicodedata.normalize("NFC", text)


def _nukta(text: str, draw: random.Random) -> str:
    """Letters with a dot below as one sign where they are two, and as two where they are one."""
    for one, two in NUKTA.items():
        text = text.replace(two, "\0").replace(one, two).replace("\0", one)
    return text


def _joiners(text: str, draw: random.Random) -> str:
    """Behind a virama, where they choose how a ligature is drawn."""
    return re.sub("\u094d(?=\\S)", lambda found: found[0] + draw.choice("\u200c\u200d"), text)


def _dandas(text: str, draw: random.Random) -> str:
    return re.sub(r"[।॥.](?=\s|$)", lambda found: {"।": ".", "॥": "।"}.get(found[0], " ॥"), text)


def _sentences(text: str, draw: random.Random) -> str:
    """The same sentences in another order; a text of one stays as it is."""
    sentences = [part.strip() for part in re.split(r"(?<=[.!?।])\s+", text) if part.strip()]
    middle = draw.randrange(1, len(sentences)) if len(sentences) > 1 else 0
    return " ".join(sentences[middle:] + sentences[:middle]) if middle else text


def _words(text: str, draw: random.Random) -> str:
    parts = text.split()
    draw.shuffle(parts)
    return " ".join(parts)


def _all(text: str, draw: random.Random) -> str:
    return _inserted(_nukta(_typographic(_digits(_words(text.upper(), draw), draw), draw), draw), draw, UNSEEN)


KINDS: dict[str, Disguise] = {
    "exact": lambda text, _: text,
    "spaces": _spaces,
    "normal form": _normal_form,
    "case": lambda text, _: text.upper(),
    "full width": _full_width,
    "typographic": _typographic,
    "zero width": lambda text, draw: _inserted(text, draw, UNSEEN),
    "soft hyphens": lambda text, draw: _inserted(text, draw, ["\u00ad"]),
    "digits": _digits,
    "nukta": _nukta,
    "joiners": _joiners,
    "dandas": _dandas,
    "sentences reordered": _sentences,
    "words reordered": _words,
    "all at once": lambda text, draw: _inserted(
        _typographic(_digits(_words(text.upper(), draw), draw), draw), draw, UNSEEN
    ),
}


def embedded(text: str, before: str, after: str) -> str:
    """In the midst of a longer text."""
    return f"{before}\n{text}\n{after}"
