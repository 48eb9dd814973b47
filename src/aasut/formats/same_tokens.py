"""Do two tokenizers do the same? Judged by what is in them and by what they make of text, never by a name.

A teacher's distribution over tokens can be learned token by token only where a token's number stands
for the same text in both models.
"""

from __future__ import annotations

import json
from typing import Any

from aasut.files import digest
from aasut.formats.tokenizer import Tokenizer

# Where rules that cut text differ in their written form, they are held against one another on these.
PROBES = (
    "The quick brown fox can't jump over 13 lazy dogs' beds, can it?", "  two  spaces,\ttabs\t\tand\r\nlines\n\n\n",
    "1234567890 3.14159 1,000,000 2024-11-22 0x1F", "don't I'LL we'Re it's d'accord", "naïve café ÅNGSTRÖM ﬁne ①",
    "नमस्ते दुनिया, यह कितने का है?", "漢字かな交じり文。한국어 텍스트", "def f(x):\n    return x**2  # done\n",
    '{"mood": "good", "stars": 5, "tags": ["a", "b"]}', "e\u0301 \u200d \ufeff 👩\u200d👩\u200d👧 🇮🇳",
    "<|im_start|> </s> [INST] <tag>",
    "", " ", "a", " a", "http://example.org/?q=1&r=%20", "A" * 40 + " " * 17 + "…",
)  # fmt: skip


def identity(tokenizer: Tokenizer) -> str:
    """SHA-256 over what decides which tokens a text becomes, and which text a token number stands for."""
    return digest(_parts(tokenizer))


def difference(teacher: Tokenizer, student: Tokenizer) -> str:
    """In what the tokenizers differ, as the end of a sentence; "" where they do the same.

    Names of control tokens do not count, which no text ever becomes, nor do further ones at the end.
    """
    if tokens := _tokens(teacher, student):
        return tokens
    one, other = _parts(teacher), _parts(student)
    if one["pieces"] != other["pieces"]:
        return "its rules that join letters to tokens are others"
    if one["cutting"] == other["cutting"]:
        return ""
    for probe in PROBES:
        if teacher.encode(probe) != student.encode(probe):
            return f"it makes other tokens of {probe[:30]!r}"
    return ""


def _tokens(teacher: Tokenizer, student: Tokenizer) -> str:
    """The first token number that does not stand for the same text in both."""
    one, other = _by_number(teacher), _by_number(student)
    for number in sorted(one.keys() | other.keys()):
        first, second = one.get(number), other.get(number)
        if first == second:
            continue
        if first is None or second is None:
            lone = first or second or ""
            if lone == CONTROL and number > min(max(one), max(other)):
                continue
            return f"token {number} is {lone!r} in the {'teacher' if second is None else 'student'} alone"
        return f"token {number} is {first!r} in the teacher and {second!r} in the student"
    return ""


CONTROL = "<control token>"


def _by_number(tokenizer: Tokenizer) -> dict[int, str]:
    """The text of each token number as it is written in the vocabulary; all control tokens look alike."""
    body = json.loads(tokenizer.to_json())
    control = {int(token["id"]) for token in body.get("added_tokens") or () if token.get("special")}
    named = tokenizer.vocabulary()
    return {number: CONTROL if number in control else text for text, number in named.items()}


def _parts(tokenizer: Tokenizer) -> dict[str, Any]:
    """What counts of a tokenizer: its tokens, how pieces become tokens, how a text is cut into pieces."""
    body = json.loads(tokenizer.to_json())
    model = dict(body["model"])
    merges = [pair.split(" ", 1) if isinstance(pair, str) else list(pair) for pair in model.pop("merges", ())]
    listed = model.pop("vocab", {})
    weights = listed if isinstance(listed, list) else []  # a unigram model's vocabulary has scores
    added = [token for token in body.get("added_tokens") or () if not token.get("special")]
    return {
        "tokens": sorted(_by_number(tokenizer).items()),
        "pieces": [model.pop("type", ""), merges, weights],
        "cutting": [body.get("normalizer"), body.get("pre_tokenizer"), added, model],
    }
