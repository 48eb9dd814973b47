"""Words of any language: what duplicates, contamination, grounding and search compare texts by.

Two writings of one word are one word: texts are compared in NFKC, case folded, without characters that are not seen
(zero-width ones, soft hyphens, marks of direction), with the digits of any script as ASCII digits. A word is a run of
letters and digits with their combining marks, which are a third of the signs of a Devanagari text and which `\\w` does
not match. In scripts that are written without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese) each character is a
word. No language's function words are listed: `Frequencies` tells them by how many texts they stand in.
"""

from __future__ import annotations

import math
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

COMMON = 0.2  # share of the texts from which a word tells nothing of what a text is about
# Characters of scripts without spaces, as NFKC leaves them: Thai and Lao, Burmese, Khmer, kana, Han.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uaa60-\uaa7f"
)

_UNSPACED_BEYOND = "\U0001b000-\U0001b16f\U00020000-\U0003ffff"
_FIRST_PLANE = 0xFFFF
_BEYOND = re.compile("[\U00010000-\U0010ffff]")
_FILLERS = (0x34F, 0x115F, 0x1160, 0x3164, 0xFFA0)  # letters and marks that show nothing
_ASCII_WORD = re.compile(r"[a-z0-9]+")
_NUMBER = re.compile(r"[0-9]+(?:[.,][0-9]+)*")
# Groups of three digits, or India's groups of two with three at the end.
_GROUPED = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3}")
_SPACED_GROUP = re.compile("(?<=[0-9])[\u00a0\u2009\u202f](?=[0-9]{3}(?![0-9]))")


def folded(text: str) -> str:
    """A text as it is compared: NFKC, case folded, without what is not seen, digits as ASCII digits."""
    if text.isascii():
        return text.lower()
    patterns = _for(text)
    # Case folding can undo the normal form (Unicode 3.13, compatibility caseless matching), hence twice. What is not
    # seen goes first, so that it parts no mark from its letter; the normal form brings none of it back.
    text = unicodedata.normalize("NFKC", patterns.unseen.sub("", text))
    if (lower := text.casefold()) != text:
        text = unicodedata.normalize("NFKC", lower)
    return patterns.digit.sub(lambda found: str(unicodedata.decimal(found[0])), text)


def words(text: str) -> list[str]:
    """The words of a text in their order, as they are compared."""
    plain = folded(text)
    return _ASCII_WORD.findall(plain) if plain.isascii() else _for(plain).word.findall(plain)


def numbers(text: str) -> list[str]:
    """The numbers of a text in their order: `1,00,000`, `१०००००` and `100000` are one.

    A comma parts groups of three digits, or of two as in India, and is a decimal comma elsewhere; a point is a decimal
    point. Zeros that change no value are left out, and signs, which cannot be told from hyphens.
    """
    return [_plain_number(found) for found in _NUMBER.findall(folded(_SPACED_GROUP.sub("", text)))]


def script(text: str) -> str:
    """The script of most letters of a text, as Unicode calls it: Latin, Devanagari, Han; "" without letters."""
    counts: Counter[str] = Counter()
    for character, count in Counter(unicodedata.normalize("NFKC", text)).items():
        if character.isalpha():
            counts[_script(character)] += count
    counts.pop("", None)
    return max(counts, key=lambda name: (counts[name], name), default="")


def f1(one: str, other: str) -> float:
    """Agreement of two texts, 0 to 1: the harmonic mean of the shares of each one's words that the other has too.

    Words are counted as often as they stand (F1 of bags, as SQuAD scores answers). Two texts without words agree.
    """
    left, right = Counter(words(one)), Counter(words(other))
    total = left.total() + right.total()
    return 2 * (left & right).total() / total if total else 1.0


def containment(part: str, whole: str, weight: Callable[[str], float] | None = None) -> float:
    """Share of the words of `part` that `whole` has, 0 to 1, each counted by its weight (1 where none is given).

    1 where the words of `part` have no weight at all: nothing is missing.
    """
    held = set(words(whole))
    weights = [(word in held, 1.0 if weight is None else weight(word)) for word in words(part)]
    total = math.fsum(value for _, value in weights)
    return math.fsum(value for found, value in weights if found) / total if total else 1.0


class Frequencies:
    """In how many of the texts of a corpus each word stands: what tells function words, in any language.

    `texts`: how many texts. `counts`: texts by word.
    """

    def __init__(self, texts: int, counts: Mapping[str, int]) -> None:
        self.texts, self.counts = texts, counts

    @classmethod
    def of(cls, texts: Iterable[str]) -> Frequencies:
        """Counted over texts."""
        counts: Counter[str] = Counter()
        number = 0
        for text in texts:
            counts.update(set(words(text)))
            number += 1
        return cls(number, dict(counts))

    def common(self, word: str) -> bool:
        """Does it stand in so many texts that it says nothing of any?"""
        return self.counts.get(word, 0) > max(COMMON * self.texts, 1)

    def weight(self, word: str) -> float:
        """What a word tells, 0 to 1: nothing where it is common, else its inverse document frequency by the highest."""
        if self.common(word):
            return 0.0
        return math.log((self.texts + 1) / (self.counts.get(word, 0) + 0.5)) / math.log(2 * self.texts + 2)


def _plain_number(found: str) -> str:
    if _GROUPED.fullmatch(found.partition(".")[0]):
        found = found.replace(",", "")
    elif found.count(",") == 1 and found.rfind(",") > found.rfind("."):
        found = found.replace(".", "").replace(",", ".")
    whole, *rest = re.split("[.,]", found)
    if len(rest) == 1:
        rest = [rest[0].rstrip("0")] if rest[0].rstrip("0") else []
    return ".".join([whole.lstrip("0") or "0", *rest])


@cache
def _script(letter: str) -> str:
    name = unicodedata.name(letter, "").partition(" ")[0]
    return "Han" if name == "CJK" else name.capitalize()


@dataclass(frozen=True)
class _Patterns:
    """What is not seen; digits that are not ASCII; words."""

    unseen: re.Pattern[str]
    digit: re.Pattern[str]
    word: re.Pattern[str]


@cache
def _patterns(last: int) -> _Patterns:
    """For texts of characters up to `last`; made once, since it goes through all of Unicode.

    Classes within the first plane become tables in `re`, larger ones lists that are gone through for each character.
    """
    marks, unseen, digits = [], [], []
    for code in range(0x80, last + 1):
        if 0x20000 <= code < 0xE0000 or code >= 0xE0200:  # Han, and what is unassigned or private
            continue
        category = unicodedata.category(chr(code))
        if category == "Cf" or code in _FILLERS or 0xFE00 <= code <= 0xFE0F or 0xE0100 <= code <= 0xE01EF:
            unseen.append(code)
        elif category in ("Mn", "Mc"):
            marks.append(code)
        elif category == "Nd":
            digits.append(code)
    unspaced = _UNSPACED + (_UNSPACED_BEYOND if last > _FIRST_PLANE else "")
    joined, spaced = _ranges(marks), rf"[^\W_{unspaced}]"
    word = rf"{spaced}+(?:[{joined}]+{spaced}*)*|[{unspaced}](?<=\w)[{joined}]*"
    return _Patterns(re.compile(f"[{_ranges(unseen)}]+"), re.compile(f"[{_ranges(digits)}]"), re.compile(word))


def _for(text: str) -> _Patterns:
    return _patterns(sys.maxunicode if _BEYOND.search(text) else _FIRST_PLANE)


def _ranges(codes: Iterable[int]) -> str:
    """A class of characters as a regular expression has it, of codes that rise."""
    return "".join(re.escape(chr(first)) + "-" + re.escape(chr(last)) for first, last in _runs(codes))


def _runs(codes: Iterable[int]) -> Iterator[tuple[int, int]]:
    first = last = -2
    for code in codes:
        if code != last + 1:
            if first >= 0:
                yield first, last
            first = code
        last = code
    if first >= 0:
        yield first, last
