"""Sentences that an answer may quote, and finding what it quotes, though spacing, case or marks differ."""

from __future__ import annotations

import re
import unicodedata

SHORTEST, LONGEST = 20, 320  # characters of a sentence that is worth quoting
ENOUGH = 3  # a part that answers is no shorter than the sentence divided by this
_PART = re.compile(
    r"\n\s*\n|\n(?=\s*(?:[-*+|>#]|\d+[.)]\s))"
)  # between paragraphs, and between lines of lists and tables
_SENTENCE = re.compile(r"(?<=[.!?।॥。！？])[\"'”’)\]*_]*\s+")
_WHOLE = re.compile(r"[.!?।॥。！？][\"'”’)\]*_]*\Z")
_CLAUSE = re.compile(r"[,;:)—–]+(?:\s+|\Z)|\s+[(—–]+|\)[.।]\Z")
_LEAD = re.compile(r"\s*(?:[-*+>]\s+|\d+[.)]\s+)*")

_DROPPED = "*_`\"'“”„‘’«»‹›\u200b\u200c\u200d\ufeff\u00ad"  # marks of quotation and of Markdown, and invisible ones
_DASHES = "‐‑‒–—−"
_AROUND = " .…।"


def verbatim(quote: str, text: str) -> str | None:
    """The stretch of the text that a quote means, character by character; None where there is none."""
    if quote in text:
        return quote
    wanted = "".join(c for c, _ in _plain(quote)).strip(_AROUND)
    plain = _plain(text)
    start = "".join(c for c, _ in plain).find(wanted) if wanted else -1
    if start < 0:
        return None
    first, last = plain[start][1], plain[start + len(wanted) - 1][1]
    end = last + 1
    while end < len(text) and unicodedata.category(text[end]).startswith("M"):
        end += 1  # signs that belong to the last letter
    return text[first:end]


def _plain(text: str) -> list[tuple[str, int]]:
    """The characters that are compared, and where in the text each comes from."""
    found: list[tuple[str, int]] = []
    for place, character in enumerate(text):
        if character in _DROPPED:
            continue
        if character.isspace():
            if found and found[-1][0] != " ":
                found.append((" ", place))
            continue
        folded = "-" if character in _DASHES else unicodedata.normalize("NFKD", character).casefold()
        found += [(part, place) for part in folded]
    return found


def sentences(text: str) -> list[str]:
    """What of a text may be quoted, each stretch as it stands there and once; no headings, rows of tables or questions.

    Stretches that end as sentences do, where there are some; else others of like length.
    """
    found: dict[str, None] = {}
    for part in _PART.split(text):
        if part.lstrip().startswith(("#", "|")):
            continue
        for sentence in _SENTENCE.split(_LEAD.sub("", part, count=1)):
            plain = sentence.strip()
            if SHORTEST <= len(plain) <= LONGEST and not plain.endswith(("?", "？")):
                found[plain] = None
    return [one for one in found if _WHOLE.search(one)] or list(found)


def answers(sentence: str) -> list[str]:
    """What of a sentence may answer a question: itself, or a part of it between commas that says enough.

    In one line, without Markdown's marks.
    """
    plain = " ".join(sentence.replace("**", "").replace("`", "").split())
    parts = (part.strip() for part in _CLAUSE.split(plain))
    return list(dict.fromkeys([plain, *(part for part in parts if ENOUGH * len(part) >= len(plain))]))


def shares(found: list[str], most: int) -> list[list[str]]:
    """Sentences in up to `most` runs of like number, none empty."""
    runs = min(most, len(found))
    return [found[len(found) * run // runs : len(found) * (run + 1) // runs] for run in range(runs)]
