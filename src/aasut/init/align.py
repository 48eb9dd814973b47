"""The fixed text of messages that were written with one template: what stands in all of them, in the same order.

Texts are compared by words, so that a slot begins and ends where a word does.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher

_TOKEN = re.compile(r"\n|[^\S\n]+|[!-/:-@\[-`{-~]|[^\s!-/:-@\[-`{-~]+")
_MARKS = frozenset(':=<>{}[]"|#*`/@~^\\\n')

Pieces = list[str]  # a text begins with the first and ends with the last, either may be empty; slots lie between


def tokens(text: str) -> list[str]:
    """Words, single marks, runs of blanks and line ends; joined, they are the text."""
    return _TOKEN.findall(text)


def words(pieces: Sequence[str]) -> int:
    """Tokens of fixed text that are no blanks."""
    return sum(1 for piece in pieces for token in tokens(piece) if not token.isspace())


def edges(pieces: Sequence[str], text: str, *, leftmost: bool = True) -> list[int] | None:
    """Where each inner piece begins, taken as early or as late as can be; None where the text does not match."""
    head, tail = pieces[0], pieces[-1]
    if len(pieces) == 1:
        return [] if text == head else None
    low, high = len(head), len(text) - len(tail)
    if high < low or not text.startswith(head) or not text.endswith(tail):
        return None
    found: list[int] = []
    for piece in pieces[1:-1] if leftmost else reversed(pieces[1:-1]):
        at = text.find(piece, low, high) if leftmost else text.rfind(piece, low, high)
        if at < 0:
            return None
        found.append(at)
        low, high = (at + len(piece), high) if leftmost else (low, at)
    return found if leftmost else found[::-1]


def values(pieces: Sequence[str], text: str) -> list[str]:
    """What stands in the slots of a text that matches."""
    inner = edges(pieces, text)
    assert inner is not None
    starts = [len(pieces[0]), *(at + len(piece) for at, piece in zip(inner, pieces[1:-1], strict=True))]
    ends = [*inner, len(text) - len(pieces[-1])]
    return [text[start:end] for start, end in zip(starts, ends, strict=True)] if len(pieces) > 1 else []


def narrowed(pieces: Sequence[str], text: str) -> Pieces:
    """What of the fixed text stands in this text too."""
    if edges(pieces, text) is not None:
        return list(pieces)
    fixed: list[str | int] = []
    for number, piece in enumerate(pieces):
        fixed += [number] if number else []  # a number equals no token: no match goes across a slot
        fixed += tokens(piece)
    other = tokens(text)
    most = min(len(fixed), len(other))
    head = next((i for i in range(most) if fixed[i] != other[i]), most)
    tail = next((i for i in range(most - head) if fixed[-1 - i] != other[-1 - i]), most - head)
    matcher = SequenceMatcher(None, fixed[head : len(fixed) - tail], other[head : len(other) - tail])
    inner = [
        "".join(other[head + block.b : head + block.b + block.size])
        for block in matcher.get_matching_blocks()
        if block.size
    ]
    return [
        "".join(other[:head]),
        *(piece for piece in inner if is_solid(piece)),
        "".join(other[len(other) - tail :]) if tail else "",
    ]


def is_solid(piece: str) -> bool:
    """Could this stand between two slots: two words, a word with a mark, or three marks?"""
    marks = sum(token in _MARKS for token in tokens(piece))
    plain = sum(token[0].isalnum() for token in tokens(piece))
    return plain >= 2 or (plain >= 1 and marks >= 1) or marks >= 3


def fixed_text(texts: Sequence[str], pieces: Sequence[str]) -> Pieces:
    """What of the fixed text stands in all the texts, in one order."""
    result = list(pieces)
    for text in texts:
        result = narrowed(result, text)
    while len(result) > 2 and any(edges(result, text) is None for text in texts):
        shortest = min(range(1, len(result) - 1), key=lambda n: len(result[n]))
        del result[shortest]
    return result


def without_doubtful(pieces: Pieces, texts: Sequence[str]) -> tuple[Pieces, dict[str, int]]:
    """Without inner pieces that inputs hold too, so that it is not clear where a slot ends.

    Weak ones go where that is so for 1 text in 20, labels (a line's start, a tag) for every second.
    Labels that went are returned too, with the number of texts in which they are unclear.
    """
    gone: dict[str, int] = {}
    while len(pieces) > 2:
        unclear: Counter[int] = Counter()
        for text in texts:
            first, last = edges(pieces, text), edges(pieces, text, leftmost=False)
            unclear.update(n for n, (a, b) in enumerate(zip(first or (), last or (), strict=True), 1) if a != b)
        bad = [n for n, count in unclear.items() if count > (0.5 if _is_label(pieces[n]) else 0.05) * len(texts)]
        if not bad:
            break
        # One muddled piece makes its neighbours unclear; the shortest is the likeliest culprit.
        worst = min(bad, key=lambda n: (_is_label(pieces[n]), -unclear[n], len(pieces[n])))
        if _is_label(pieces[worst]):
            gone[pieces[worst]] = unclear[worst]
        pieces = [*pieces[:worst], *pieces[worst + 1 :]]
    return pieces, gone


def _is_label(piece: str) -> bool:
    return re.search(r"\n\s*\W*\w[^\n]*[:>=]|<[^<>\n]+>|\"\s*:\s*\"?|\n\W{3,}\n", piece) is not None


def with_single_words(pieces: Pieces, texts: Sequence[str]) -> Pieces:
    """With words that stand exactly once in a slot of every text, such as `with` in `Compare {a} with {b}`.

    Asks for 200 different texts in the slot: fewer may share a word by chance.
    """
    if len(pieces) < 2:
        return pieces
    columns = zip(*(values(pieces, text) for text in texts), strict=True)
    result = [pieces[0]]
    for column, piece in zip(columns, pieces[1:], strict=True):
        result += [*_single_words(column), piece]
    return result


def _single_words(column: Sequence[str]) -> list[str]:
    once: list[str] | None = None
    different = set(column)
    if len(different) < 200:
        return []
    for value in different:
        counts = Counter(tokens(value))
        if once is None:
            once = [token for token, count in counts.items() if count == 1]
        else:
            once = [token for token in once if counts[token] == 1]
        if not once:
            return []
    literals = [literal for token in once or [] if (literal := _with_blanks(token, column))]
    # The order must be the same everywhere.
    orders = {tuple(sorted(literals, key=value.find)) for value in column}
    return list(orders.pop()) if len(orders) == 1 else []


def _with_blanks(token: str, column: Sequence[str]) -> str:
    """The token with the blanks around it in all values; nothing where it may be a part of the input."""
    if token == "\n":
        return token
    spaced = f" {token} "
    if token.isspace() or not all(value.count(spaced) == 1 for value in column):
        return ""
    return spaced
