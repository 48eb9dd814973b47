"""Blotting keys and declared patterns out of what is recorded, before it is written anywhere.

Bodies are JSON, in which any character may be escaped and texts may hold JSON themselves; so they are parsed wherever
something could match, blotted text by text, and written again. Bodies in which nothing matches stay as they came.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

BLOT = "[redacted]"
_DEEPEST = 4  # levels of JSON within texts of JSON
_WORD = r"(?<![A-Za-z0-9])"
_BLOB = r"(?<![A-Za-z0-9+/_-])"  # so that no picture in base64 is blotted by chance

# Signs without which nothing can match, and what is blotted out; `\1` of a match stays.
_SHAPES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("sk-",), _WORD + r"sk-(?=[A-Za-z_-]*(?:[0-9]|[A-Za-z]{20}))[A-Za-z0-9_-]{12,}"),
    (("k_live_", "k_test_"), _WORD + r"[srp]k_(?:live|test)_[A-Za-z0-9]{10,}"),
    (("earer", "EARER"), r"((?i:\bbearer)\s+)(?=[A-Za-z._~+/=-]*[0-9])[A-Za-z0-9._~+/=-]{12,}"),
    (
        ("AKIA", "ASIA", "AROA", "AIDA", "AGPA", "ANPA", "ANVA"),
        _BLOB + r"A(?:KIA|SIA|ROA|IDA|GPA|NPA|NVA)[A-Z0-9]{16}(?![A-Za-z0-9])",
    ),
    (
        ("api_key", "apikey", "apiKey", "api-key", "API_KEY", "ccess_key", "CCESS_KEY", "ccessKey"),
        r"((?i:api[_-]?key|secret_?access_?key)[\"'\s:=\\]{1,8})(?=[A-Za-z._+/=-]*[0-9])[A-Za-z0-9._+/=-]{16,}",
    ),
    (("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), _WORD + r"gh[pousr]_[A-Za-z0-9]{20,}"),
    (("github_pat_",), _WORD + r"github_pat_[A-Za-z0-9_]{20,}"),
    (("glpat-",), _WORD + r"glpat-[A-Za-z0-9_-]{16,}"),
    (("AIza",), _BLOB + r"AIza[A-Za-z0-9_-]{30,}"),
    (("ya29.",), _WORD + r"ya29\.[A-Za-z0-9_-]{20,}"),
    (("xox",), _WORD + r"xox[abeprs]-[A-Za-z0-9-]{10,}"),
    (("hf_",), _WORD + r"hf_[A-Za-z0-9]{20,}"),
    (("npm_",), _WORD + r"npm_[A-Za-z0-9]{30,}"),
    (("pypi-",), _WORD + r"pypi-[A-Za-z0-9_-]{30,}"),
    (("gsk_",), _WORD + r"gsk_[A-Za-z0-9]{20,}"),
    (("xai-",), _WORD + r"xai-[A-Za-z0-9]{20,}"),
    (("eyJ",), _BLOB + r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?"),
    (
        ("PRIVATE KEY",),
        r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----.*?"
        r"(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\Z)",
    ),
)
_RULES = [(signs, re.compile(shape, re.DOTALL)) for signs, shape in _SHAPES]
# Names of JSON fields whose value is a key, whatever it looks like.
_NAMED = re.compile(r"(?i).*(?:api[_-]?key|secret_?access_?key)$", re.DOTALL)
# Below these, numbers are counts and times of the API, and stay.
_COUNTS = ("usage", "created", "created_at", "logprobs")
# Letters, digits and signs of ASCII that are written as \u00..: nothing can be told from the raw bytes then.
_HIDDEN = re.compile(rb"\\u00[2-7]")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_CONTROL = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


class Redactor:
    """Blots out keys of known shapes, the `secrets` given, and what the regular expressions `patterns` match.

    Patterns are matched against texts as they are meant, not as JSON escapes them, and against numbers.
    """

    def __init__(self, patterns: Sequence[str] = (), secrets: Sequence[str] = ()) -> None:
        literal = sorted({secret for secret in secrets if secret}, key=len, reverse=True)
        self._signs = [sign.encode() for signs, _ in _SHAPES for sign in signs]
        self._signs += [max(re.findall(r"[A-Za-z0-9_.-]+", secret), key=len, default="").encode() for secret in literal]
        self._always = bool(patterns) or b"" in self._signs
        # A rule is tried only on texts that have one of its signs; without signs, on all.
        self._rules = [((secret,), re.compile(re.escape(secret)), BLOT) for secret in literal]
        self._rules += [(signs, rule, r"\1" + BLOT if rule.groups else BLOT) for signs, rule in _RULES]
        self._rules += [((), re.compile(pattern), BLOT) for pattern in patterns]
        self._declared = [re.compile(pattern) for pattern in patterns]
        self.short: Callable[[str], str] = lru_cache(4096)(self.text)  # for texts that come again and again

    def text(self, text: str) -> str:
        """Plain text, blotted."""
        for signs, rule, instead in self._rules:
            if not signs or any(sign in text for sign in signs):
                text = rule.sub(instead, text)
        return text

    def body(self, raw: bytes) -> bytes:
        """A body as it goes over the wire, blotted; what was valid JSON stays so."""
        if not self._suspicious(raw):
            return raw
        repeated: list[bool] = []

        def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
            made = dict(found)
            if len(made) < len(found):
                repeated.append(True)
            return made

        try:
            value = json.loads(raw, object_pairs_hook=pairs)
            blotted = self.value(value)
            # Of a name that comes twice one value is lost in parsing, and what it hid must not stay.
            return raw if blotted == value and not repeated else dumped(blotted)
        except (ValueError, RecursionError):
            return self._loose(raw)

    def value(self, value: Any) -> Any:
        """Parsed JSON, blotted. Of log probabilities, whose tokens would spell out what is blotted, nothing is left."""
        return self._value(value, _DEEPEST, numbers=bool(self._declared))

    def _suspicious(self, raw: bytes) -> bool:
        return self._always or any(sign in raw for sign in self._signs) or _HIDDEN.search(raw) is not None

    def _value(self, value: Any, depth: int, *, numbers: bool) -> Any:
        if isinstance(value, str):
            return self._inner(value, depth)
        if isinstance(value, dict):
            made = {
                self.text(name): BLOT
                if isinstance(inner, str) and len(inner) >= 8 and _NAMED.match(name)
                else self._value(inner, depth, numbers=numbers and name not in _COUNTS)
                for name, inner in value.items()
            }
            if isinstance(value.get("logprobs"), dict) and (
                made.get("message") != value.get("message")
                or made.get("text") != value.get("text")
                or self._spelt(value["logprobs"])
            ):
                made["logprobs"] = None
            return made
        if isinstance(value, list):
            return [self._value(inner, depth, numbers=numbers) for inner in value]
        if numbers and isinstance(value, int | float) and not isinstance(value, bool):
            written = json.dumps(value)
            return BLOT if any(rule.search(written) for rule in self._declared) else value
        return value

    def _inner(self, text: str, depth: int) -> str:
        """A text, which may be JSON itself, as a tool call's arguments are."""
        plain = self.text(text)
        if depth and text[:1] in ("{", "[") and (plain != text or "\\" in text or self._declared):
            try:
                value = json.loads(text)
                blotted = self._value(value, depth - 1, numbers=bool(self._declared))
            except (ValueError, RecursionError):
                return plain
            return plain if blotted == value else self.text(dumped(blotted).decode())
        return plain

    def _spelt(self, logprobs: dict[str, Any]) -> bool:
        """Do the tokens spell something that is blotted?"""
        for tokens in logprobs.values():
            if isinstance(tokens, list):
                joined = "".join(str(t.get("token", "")) if isinstance(t, dict) else str(t) for t in tokens)
                if self.text(joined) != joined:
                    return True
        return False

    def _loose(self, raw: bytes) -> bytes:
        """What is no JSON, or was cut: blotted as it stands, and again with its escapes resolved."""
        text = self.text(raw.decode("utf-8", "surrogateescape"))
        plain = _ESCAPE.sub(
            lambda found: chr(int(found[1], 16)) if found[1] else _CONTROL.get(found[2], found[2]), text
        )
        blotted = self.text(plain)
        if blotted == plain:
            return text.encode("utf-8", "surrogateescape")
        return blotted.encode("utf-8", "replace")


def dumped(value: Any) -> bytes:
    """JSON in ASCII; numbers that JSON cannot say become null."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:  # NaN, or a number beyond a float's range
        return json.dumps(_finite(value), separators=(",", ":")).encode()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
