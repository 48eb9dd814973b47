"""Where a text that is too long is cut: between paragraphs, else sentences or lines, else words.

Never inside what a reader sees as one character (an extended grapheme cluster, UAX #29), unless that alone is too long.
Sentence ends are told by the marks of many scripts, the Devanagari danda and the CJK full stop among them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import regex

_CLOSING = r"""["'”’»›)\]」』）】]*"""
# A single letter before a full stop is an initial, and a number after it is counted ("no. 7"). Nor may a digit follow a
# danda without a space, as in ॥१॥.
_SENTENCE = regex.compile(
    rf"(?:(?<!(?:^|[\s.])\p{{L}})[.!?…؟۔։።။]+{_CLOSING}\s+(?![\p{{Ll}}\p{{N}}])|[।॥]+{_CLOSING}(?:\s+|(?![\p{{N}}।॥]))"
    rf"|[。！？｡]+{_CLOSING}\s*)"
)
_LINE = regex.compile(r"\s*\n\s*")
_SPACE = regex.compile(r"\s+")
_CLUSTER = regex.compile(r"\X")
_EXTENDS = regex.compile(r"[\p{M}\p{Emoji_Modifier}\u200c\u200d]")
_LINED = regex.compile(r"\||[-*+] |\d+[.)] |```|~~~|    ")
_BEYOND = 256  # characters after the limit that tell what stands at it


@dataclass(frozen=True, slots=True)
class Piece:
    """A block as Markdown, with what stands between it and the next; `path` are the headings above it, itself included.

    `page` is None where there are none.
    """

    text: str
    page: int | None
    path: tuple[str, ...]
    heading: bool = False

    @property
    def lined(self) -> bool:
        """Is it a table, a list or code, whose parts are lines?"""
        return _LINED.match(self.text) is not None


def cut(pieces: Sequence[Piece], most: int, keep: int) -> Generator[list[Piece], None, list[Piece]]:
    """The pieces by groups of at most `most` characters, cut where they must be; gives back what is left.

    Goes on while more than `keep` characters are left. Where `keep` is 0 the groups are about the same size, else each
    is as large as may be: more is to come.
    """
    starts = [0]
    for piece in pieces:
        starts.append(starts[-1] + len(piece.text))
    text = "".join(piece.text for piece in pieces)
    at = 0
    while (left := len(text) - at) > keep:
        parts = -(-left // most)
        aim = most if keep else -(-left // parts)
        end = len(text) if left <= most else _end(text, at, at + aim, at + most, pieces, starts)
        yield _between(pieces, starts, at, end)
        at = end
    return _between(pieces, starts, at, len(text))


def _between(pieces: Sequence[Piece], starts: Sequence[int], at: int, end: int) -> list[Piece]:
    """Characters `at` to `end` of the pieces laid end to end."""
    found = []
    for number in range(bisect_right(starts, at) - 1, bisect_left(starts, end)):
        piece, start = pieces[number], starts[number]
        text = piece.text[max(at - start, 0) : end - start]
        found.append(replace(piece, text=text) if len(text) < len(piece.text) else piece)
    return found


def _end(text: str, at: int, aim: int, last: int, pieces: Sequence[Piece], starts: Sequence[int]) -> int:
    """The best place for a cut after `at` and at `last` at most: of the best kind there is, the nearest to `aim`."""
    lined = partial(_is_lined, pieces, starts)
    paragraphs = [starts[n] for n in range(bisect_right(starts, at), bisect_right(starts, last))]
    paragraphs = [place for place in paragraphs if not pieces[bisect_left(starts, place) - 1].heading]
    half = at + (aim - at) // 2
    kinds: list[Callable[[], Iterator[int]]] = [
        lambda: (place for place in paragraphs if place >= half),
        lambda: (p for p in _places(_SENTENCE, text, half, last) if not lined(p)),
        lambda: (p for p in _places(_LINE, text, half, last) if lined(p)),
        lambda: _places(_LINE, text, half, last),
        lambda: _places(_SENTENCE, text, half, last),
        lambda: _places(_SPACE, text, half, last),
        lambda: iter(paragraphs),
    ]
    for kind in kinds:
        best = min(kind(), key=lambda place: (abs(place - aim), place), default=None)
        if best is not None:
            return best
    ends = (found.end() for found in _CLUSTER.finditer(text, at, min(last + _BEYOND, len(text))))
    return max((end for end in ends if at < end <= last), default=last)


def _is_lined(pieces: Sequence[Piece], starts: Sequence[int], place: int) -> bool:
    return pieces[bisect_left(starts, place) - 1].lined


def _places(kind: regex.Pattern[str], text: str, first: int, last: int) -> Iterator[int]:
    """Ends of the matches from `first` to `last`, but not inside white space or a cluster."""
    for found in kind.finditer(text, first, last + _BEYOND):
        place = found.end()
        if first < place <= last and not text[place].isspace() and not _EXTENDS.match(text, place):
            yield place
