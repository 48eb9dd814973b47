"""The language of a text, as a code of ISO 639-1, or none where it is not clear.

The script decides first: it leaves the languages that are written in it, and a classifier (langid, naive Bayes over
byte n-grams: Lui and Baldwin 2012) chooses among these. Short texts and mixed ones have no language rather than a
guessed one.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy
from functools import cache
from typing import Any

SAMPLE = 600  # characters that are looked at: more change nothing
LEAST = 20  # letters, signs of vowels included; a third of that in scripts whose signs are words or syllables
MAIN = 0.6  # share of the letters that the main script must have
SURE = 0.7  # probability among the languages of that script
_DENSE = ("HAN", "HANGUL")
_SCRIPTS: Mapping[str, tuple[str, ...]] = {
    "DEVANAGARI": ("hi", "mr", "ne", "sa"),
    "CYRILLIC": ("ba", "be", "bg", "kk", "ky", "mk", "mn", "ru", "sr", "tg", "tt", "uk", "uz"),
    "ARABIC": ("ar", "fa", "ku", "ps", "ug", "ur"),
    "HEBREW": ("he",), "GREEK": ("el",), "ARMENIAN": ("hy",), "GEORGIAN": ("ka",), "ETHIOPIC": ("am",),
    "BENGALI": ("as", "bn"), "GURMUKHI": ("pa",), "GUJARATI": ("gu",), "ORIYA": ("or",), "TAMIL": ("ta",),
    "TELUGU": ("te",), "KANNADA": ("kn",), "MALAYALAM": ("ml",), "SINHALA": ("si",), "THAI": ("th",), "LAO": ("lo",),
    "TIBETAN": ("dz",), "MYANMAR": ("my",), "KHMER": ("km",), "HANGUL": ("ko",), "HAN": ("ja", "zh"),
}  # fmt: skip
_ELSEWHERE = {code for codes in _SCRIPTS.values() for code in codes} - {"az", "ku", "sr", "tk", "tt", "uz"}
# What is no prose: addresses, code, marks of Markdown, words with digits in them.
_NOISE = re.compile(r"https?://\S+|www\.\S+|`[^`]*`|\]\([^)\s]*\)|<[^>\s]+>|(?<!\S)[^\s\d]*\d\S*|[#*_|>\[\]-]+")


def tell(text: str) -> str:
    """The language of a text; "" where it is short, mixed or not clear."""
    sample = _NOISE.sub(" ", text[: 2 * SAMPLE])[:SAMPLE]
    scripts = _scripts(sample)
    if not scripts:
        return ""
    script, count = scripts.most_common(1)[0]
    if count < MAIN * scripts.total() or count < (LEAST // 3 if script in _DENSE else LEAST):
        return ""
    languages = _languages(script)
    if len(languages) < 2:
        return languages[0] if languages else ""
    best, probability = _classifier(script).classify(sample)
    return str(best) if probability >= SURE else ""


def main(counts: Mapping[str, int]) -> str:
    """The language of over half of a text, given the characters of its parts by language; "" parts do not count."""
    told = {code: count for code, count in counts.items() if code}
    most = max(sorted(told), key=lambda code: told[code], default="")
    return most if told.get(most, 0) * 2 > sum(told.values()) else ""


@cache
def _languages(script: str) -> Sequence[str]:
    """The languages written in a script, as far as the classifier knows them."""
    if script == "LATIN":
        return [code for code in _model().labels if len(code) == 2 and code not in _ELSEWHERE]
    return _SCRIPTS.get(script, ())


def _scripts(text: str) -> Counter[str]:
    """Letters, and the marks on them, by script."""
    found: Counter[str] = Counter()
    for character, count in Counter(text).items():
        if unicodedata.category(character)[0] in "LM":
            found[_script(character)] += count
    del found[""]
    return found


@cache
def _script(character: str) -> str:
    """The first word of a letter's name is its script's; a mark that many scripts share has none."""
    name = unicodedata.name(character, "").split(" ")[0]
    if name in ("CJK", "HIRAGANA", "KATAKANA"):
        return "HAN"
    return "" if name in ("COMBINING", "MODIFIER") else name


@cache
def _model() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@cache
def _classifier(script: str) -> Any:
    """Chooses among the languages of one script."""
    found = copy(_model())
    found.set_languages(_languages(script))
    return found
