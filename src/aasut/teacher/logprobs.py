"""An API's log-probabilities of a text, token by token: read from its answer, checked, and packed to be kept."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aasut.errors import StoreError

LEAST = -9999.0  # stands for minus infinity, as OpenAI has it
ROUNDING = 0.01  # by which what is said twice of one token may differ, in nats
MOST_MASS = 1.05  # of all alternatives to one token, above which they are no distribution
MOST_LISTED = 250  # alternatives to a token; APIs list 20 at most
MOST_BYTES = 65_535  # of a token
FORM = 1  # of what `pack` writes
UNKNOWN = b""  # a token whose bytes the API does not tell


@dataclass(frozen=True, slots=True)
class Token:
    """A token of an answer: its bytes, its natural log-probability given all before it, and the likeliest instead.

    `top` may or may not list the token itself; its tokens that are empty are not known by their bytes.
    """

    token: bytes
    logprob: float
    top: tuple[tuple[bytes, float], ...]


def read(choice: Any, text: str) -> bytes | None:
    """The tokens of a choice whose content is `text`, packed; None where they are missing, garbled or another text's.

    White space may stand before the text in the tokens, and anything behind it, such as an end token.
    """
    try:
        content = (choice.get("logprobs") or {}).get("content")
        if not isinstance(content, list) or not text:
            return None
        tokens = [_token(entry) for entry in content]
        said, wanted = b"".join(token.token for token in tokens), text.encode()
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
        return None
    start = said.find(wanted)
    return pack(tokens) if start >= 0 and not said[:start].strip() else None


def token_bytes(entry: Any) -> bytes:
    """A token's bytes; APIs list them where a token is a part of a character. Raises where there are none."""
    given = entry.get("bytes")
    if given and not isinstance(given, list):  # bytes(n) would be n zeros
        raise TypeError("bytes are a list of numbers")
    return bytes(given) if given else str(entry["token"]).encode("utf-8", "replace")


def _token(entry: Any) -> Token:
    """Raises ValueError and the like for what is no token, or contradicts itself."""
    name, spoken, logprob = entry["token"], _exact(entry), _logprob(entry["logprob"])
    top, its_own = [], []
    for other in entry["top_logprobs"]:
        same = other["token"] == name
        said = _exact(other) or (spoken if same else UNKNOWN)
        found = _logprob(other["logprob"])
        top.append((said, found))
        if same or said == spoken:
            its_own.append(found)
    if not 0 < len(top) <= MOST_LISTED or max(len(spoken), *(len(said) for said, _ in top)) > MOST_BYTES:
        raise ValueError("no alternatives, or too many")
    if sum(math.exp(value) for _, value in top) > MOST_MASS:
        raise ValueError("the alternatives are no distribution")
    # A list that belongs to the token before or after shows here: its own token is likelier than what it leaves.
    agrees = any(abs(value - logprob) <= ROUNDING * (1 - value) for value in its_own)
    if not (agrees if its_own else logprob <= min(value for _, value in top) + ROUNDING):
        raise ValueError("the alternatives are another token's")
    return Token(spoken, logprob, tuple(top))


def _exact(entry: Any) -> bytes:
    """A token's bytes, UNKNOWN where its text is a part of a character and they are not listed."""
    name = entry["token"]
    if not isinstance(name, str):
        raise TypeError("a token is a text")
    partial = "\ufffd" in name or any("\ud800" <= c <= "\udfff" for c in name)
    return UNKNOWN if partial and not entry.get("bytes") else token_bytes(entry)


def _logprob(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value <= ROUNDING:  # NaN is refused too
        raise ValueError("no log-probability")
    return min(max(float(value), LEAST), 0.0)


def pack(tokens: Sequence[Token]) -> bytes:
    """Tokens in a compact form, about a tenth of the JSON that they came in; log-probabilities as float32."""
    entries = [entry for token in tokens for entry in ((token.token, token.logprob), *token.top)]
    return zlib.compress(
        struct.pack(
            f"<BI{len(tokens)}H{len(entries)}H{len(entries)}f",
            FORM,
            len(tokens),
            *(len(token.top) for token in tokens),
            *(len(said) for said, _ in entries),
            *(value for _, value in entries),
        )
        + b"".join(said for said, _ in entries)
    )


def unpack(packed: bytes) -> list[Token]:
    """What was packed. Raises StoreError where it is damaged, or of a form that this version does not know."""
    try:
        raw = zlib.decompress(packed)
        form, count = struct.unpack_from("<BI", raw)
        if form != FORM:
            raise ValueError(f"form {form}")
        counts = struct.unpack_from(f"<{count}H", raw, 5)
        total, at = count + sum(counts), 5 + 2 * count
        lengths = struct.unpack_from(f"<{total}H", raw, at)
        values = struct.unpack_from(f"<{total}f", raw, at + 2 * total)
        if at + 6 * total + sum(lengths) != len(raw):
            raise ValueError("its parts do not fit together")
    except (ValueError, zlib.error, struct.error) as error:
        raise StoreError(
            f"An answer's log-probabilities in the ledger cannot be read: {error}.",
            "Upgrade aasut, or restore ledger.db from a copy.",
        ) from None
    entries, at = [], at + 6 * total
    for length, value in zip(lengths, values, strict=True):
        entries.append((raw[at : at + length], value))
        at += length
    tokens, first = [], 0
    for alternatives in counts:
        tokens.append(Token(*entries[first], tuple(entries[first + 1 : first + 1 + alternatives])))
        first += 1 + alternatives
    return tokens


def holds(packed: bytes, secret: bytes) -> bool:
    """Whether a token, or several listed one after the other, hold some bytes."""
    return secret in zlib.decompress(packed)
