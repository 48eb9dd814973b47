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

_BEARER = r"((?i:\bbearer)\s+)(?=[A-Za-z._~+/=-]*[0-9])[A-Za-z0-9._~+/=-]{12,}"
_ASSIGNED = r"((?i:api[_-]?key|secret_?access_?key)[\"'\s:=\\]{1,8})(?=[A-Za-z._+/=-]*[0-9])[A-Za-z0-9._+/=-]{16,}"
# What is rare in prose, what stands around it wherever a rule may match, and the rule: what is blotted
# out, but for group 1.
_SHAPES = (
    ("-", r"(?<=aasut-)[0-9a-f]{12}[\w-]{43}", r"aasut-[0-9a-f]{12}[A-Za-z0-9_-]{43}"),
    ("-", r"(?<=sk-)[\w-]{12}", _WORD + r"sk-(?=[A-Za-z_-]*(?:[0-9]|[A-Za-z]{20}))[A-Za-z0-9_-]{12,}"),
    ("-", r"(?<=glpat-)[\w-]{16}", _WORD + r"glpat-[A-Za-z0-9_-]{16,}"),
    ("-", r"(?<=xox[abeprs]-)[\w-]{10}", _WORD + r"xox[abeprs]-[A-Za-z0-9-]{10,}"),
    ("-", r"(?<=xai-)\w{20}", _WORD + r"xai-[A-Za-z0-9]{20,}"),
    ("-", r"(?<=pypi-)[\w-]{30}", _WORD + r"pypi-[A-Za-z0-9_-]{30,}"),
    (
        "-",
        r"(?<=-----)BEGIN [A-Z0-9 ]*PRIVATE KEY",
        r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\Z)",
    ),
    ("_", r"(?<=[srp]k_)(?:live|test)_\w{10}", _WORD + r"[srp]k_(?:live|test)_[A-Za-z0-9]{10,}"),
    ("_", r"(?<=gh[pousr]_)\w{20}", _WORD + r"gh[pousr]_[A-Za-z0-9]{20,}"),
    ("_", r"(?<=github_)pat_\w{20}", _WORD + r"github_pat_[A-Za-z0-9_]{20,}"),
    ("_", r"(?<=hf_)\w{20}", _WORD + r"hf_[A-Za-z0-9]{20,}"),
    ("_", r"(?<=npm_)\w{30}", _WORD + r"npm_[A-Za-z0-9]{30,}"),
    ("_", r"(?<=gsk_)\w{20}", _WORD + r"gsk_[A-Za-z0-9]{20,}"),
    ("A", r"[KS]IA[A-Z0-9]{16}", _BLOB + r"A[KS]IA[A-Z0-9]{16}(?![A-Za-z0-9])"),
    ("A", r"Iza[\w-]{30}", _BLOB + r"AIza[A-Za-z0-9_-]{30,}"),
    ("2", r"(?<=ya2)9\.[\w-]{20}", _WORD + r"ya29\.[A-Za-z0-9_-]{20,}"),
    ("J", r"(?<=eyJ)[\w-]{8,}\.eyJ", _BLOB + r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?"),
    *((sign, r"[\s\\]", _BEARER) for sign in ("earer", "EARER")),
    *((sign, r"(?i:(?<=api.)key|(?<=ccess.)key)[\"'\s:=\\]", _ASSIGNED) for sign in "_-"),
    *((sign, r"(?i:(?<=api.)ey|(?<=ccess.)ey)[\"'\s:=\\]", _ASSIGNED) for sign in "kK"),
)
# Names of JSON fields whose value is a key, whatever it looks like.
_NAMED = re.compile(r"(?i)(?:.*[^a-z])?(?:x[_-])?(?:api[_-]?key|secret_?access_?key)", re.DOTALL)
# Below these, numbers are counts and times of the API, and stay.
_COUNTS = ("usage", "created", "created_at", "logprobs")
# Letters, digits and signs of ASCII that are written as \u00..: nothing can be told from the raw bytes then.
_HIDDEN = re.compile(rb"\\u00[2-7]")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_CONTROL = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}

Rule = tuple[re.Pattern[str], str]  # what is blotted out, and what stands there instead


class Redactor:
    """Blots out keys of known shapes, the `secrets` given, and what the regular expressions `patterns` match.

    Patterns are matched against texts as they are meant, not as JSON escapes them, and against numbers.
    """

    def __init__(self, patterns: Sequence[str] = (), secrets: Sequence[str] = ()) -> None:
        self._secrets = sorted({secret for secret in secrets if secret}, key=len, reverse=True)
        # What is in the raw bytes of any JSON that holds the secret, however it is escaped; b"" where nothing is sure.
        longest = [max(re.findall(r"[A-Za-z0-9_.-]+", secret), key=len, default="") for secret in self._secrets]
        self._parts = [part.encode() for part in longest]
        self._declared = [re.compile(pattern) for pattern in patterns]
        self.short: Callable[[str], str] = lru_cache(4096)(self.text)  # for texts that come again and again

    def text(self, text: str) -> str:
        """Plain text, blotted."""
        return self._declared_out(self._keys_out(text))

    def body(self, raw: bytes) -> bytes:
        """A body as it goes over the wire, blotted; what was valid JSON stays so."""
        keys = self._may_hold_keys(raw)
        if not raw or not (keys or self._declared):
            return raw
        repeated: list[bool] = []

        def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
            made = dict(found)
            if len(made) < len(found):
                repeated.append(True)
            return made

        try:
            value = json.loads(raw, object_pairs_hook=pairs)
            blotted = _Walk(self.text if keys else self._declared_out, self._declared).value(value)
            # Of a name that comes twice one value is lost in parsing, and what it hid must not stay.
            return raw if blotted == value and not repeated else dumped(blotted)
        except (ValueError, RecursionError):
            return self._loose(raw)

    def value(self, value: Any) -> Any:
        """Parsed JSON, blotted."""
        return _Walk(self.text, self._declared).value(value)

    def _keys_out(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, BLOT)
        for sign, gate, rules in _GATES:
            if sign in text and gate.search(text):
                for rule, instead in rules:
                    text = rule.sub(instead, text)
        return text

    def _declared_out(self, text: str) -> str:
        for rule in self._declared:
            text = rule.sub(BLOT, text)
        return text

    def _may_hold_keys(self, raw: bytes) -> bool:
        return (
            any(sign in raw and gate.search(raw) for sign, gate in _RAW_GATES)
            or any(part in raw for part in self._parts)
            or (b"\\u" in raw and _HIDDEN.search(raw) is not None)
        )

    def _loose(self, raw: bytes) -> bytes:
        """What is no JSON, or was cut: blotted as it stands, and again with its escapes resolved."""
        text = self.text(raw.decode("utf-8", "surrogateescape"))
        plain = _ESCAPE.sub(_meant, text)
        blotted = self.text(plain)
        if blotted == plain:
            return text.encode("utf-8", "surrogateescape")
        return blotted.encode("utf-8", "replace")


class _Walk:
    """Parsed JSON, blotted text by text. `text` blots one out; `declared` patterns are matched against numbers too."""

    def __init__(self, text: Callable[[str], str], declared: Sequence[re.Pattern[str]]) -> None:
        self.text, self.declared = text, declared

    def value(self, value: Any, depth: int = _DEEPEST, *, count: bool = False) -> Any:
        """`depth`: how many levels of JSON within texts are looked into; `count`: numbers are the API's own."""
        if isinstance(value, str):
            return self.inner(value, depth)
        if isinstance(value, dict):
            return self.fields(value, depth, count=count)
        if isinstance(value, list):
            return [self.value(inner, depth, count=count) for inner in value]
        if self.declared and not count and isinstance(value, int | float) and not isinstance(value, bool):
            written = json.dumps(value)
            return BLOT if any(rule.search(written) for rule in self.declared) else value
        return value

    def fields(self, value: dict[str, Any], depth: int, *, count: bool) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for name, inner in value.items():
            if isinstance(inner, str) and len(inner) >= 8 and _NAMED.fullmatch(name):
                made[self.text(name)] = BLOT
            else:
                made[self.text(name)] = self.value(inner, depth, count=count or name in _COUNTS)
        logprobs = value.get("logprobs")
        # The tokens would spell out what is blotted.
        if isinstance(logprobs, dict) and (
            any(made.get(name) != value.get(name) for name in ("message", "text")) or self.spelt(logprobs)
        ):
            made["logprobs"] = None
        return made

    def inner(self, text: str, depth: int) -> str:
        """A text, which may be JSON itself, as a tool call's arguments are."""
        plain = self.text(text)
        if not depth or text[:1] not in ("{", "["):
            return plain
        try:
            value = json.loads(text)
            blotted = self.value(value, depth - 1)
        except (ValueError, RecursionError):
            return plain
        return plain if blotted == value else self.text(dumped(blotted).decode())

    def spelt(self, logprobs: dict[str, Any]) -> bool:
        """Do the tokens spell something that is blotted?"""
        for tokens in logprobs.values():
            if isinstance(tokens, list):
                joined = "".join(str(t.get("token", "")) if isinstance(t, dict) else str(t) for t in tokens)
                if self.text(joined) != joined:
                    return True
        return False


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


def _meant(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 16)) if escape[1] else _CONTROL.get(escape[2], escape[2])


def _gates() -> dict[str, tuple[str, list[Rule]]]:
    """By sign: where it stands in what may be a key, and the rules for these."""
    grouped: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
    for sign, around, shape in _SHAPES:
        places, shapes = grouped.setdefault(sign, ({}, {}))
        places[around] = shapes[shape] = None
    found: dict[str, tuple[str, list[Rule]]] = {}
    for sign, (places, shapes) in grouped.items():
        rules = [re.compile(shape, re.DOTALL) for shape in shapes]
        instead = [(rule, r"\1" + BLOT if rule.groups else BLOT) for rule in rules]
        found[sign] = (re.escape(sign) + "(?:" + "|".join(places) + ")", instead)
    return found


_GATES = [(sign, re.compile(gate), rules) for sign, (gate, rules) in _gates().items()]
_RAW_GATES = [(sign.encode(), re.compile(gate.encode())) for sign, (gate, _) in _gates().items()]
