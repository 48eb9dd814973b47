"""What a teacher's answer says, read tolerantly: JSON in fences or prose, with slips, or cut short; and plain text.

Whole elements are kept, half ones never: what was cut in the middle is not guessed. Every repair is counted by kind.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

EMPTY = "the answer is empty"
NO_JSON = "the answer holds no JSON"
STRANGE = "the JSON is of another shape"
BROKEN = "no element before the break is whole"
NO_ELEMENT = "an element of another shape"
BLANK = "an element lacks a text"
CUT = "cut: whole elements kept"
SLIP = "a slip: whole elements before it kept"
DEEPEST = 32  # levels of JSON
TRIES = 20  # places where JSON may begin
_THOUGHT = re.compile(r"\A\s*<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL)
_FENCE = re.compile(r"```[\w-]*[ \t]*\n?(.*?)(?:```|\Z)", re.DOTALL)
_SENTENCE_END = re.compile(r"[.!?।॥。！？…][\"'”’»)\]]*(?=\s|\Z)")


@dataclass
class Found:
    """What an answer holds: `elements` that are whole, repairs by kind, and why there is nothing, "" where there is."""

    elements: list[Any] = field(default_factory=list)
    repairs: Counter[str] = field(default_factory=Counter)
    reason: str = ""


def elements(answer: str, name: str, keys: Sequence[str] = ()) -> Found:
    """The elements of {name: [element, ...]}: objects with `keys`, or texts where there are none; of one object for "".

    Taken too: a bare list, one element alone, and elements in a row without a list. Each is as it stands: see `texts`.
    """
    found = Found()
    text = _bare(answer, found.repairs)
    if not text:
        return Found(repairs=found.repairs, reason=EMPTY)
    found.reason = NO_JSON
    for start in [match.start() for match in re.finditer(r"[\[{]", text)][:TRIES]:
        scan = _Scan(text, start)
        values = scan.row()
        got, kinds = _shaped(values, name, keys)
        if got is None:
            if values:
                found.reason = STRANGE
            elif scan.broken:
                found.reason = BROKEN
            continue
        found.repairs.update(kinds)
        found.repairs.update(scan.slips)
        if text[:start].strip() or (text[scan.at :].strip() and not scan.broken):
            found.repairs["text around the JSON"] += 1
        found.repairs.update([scan.broken] if scan.broken else [])
        found.elements = got
        found.reason = BROKEN if scan.broken and not got else ""
        return found
    return found


def texts(element: Any, keys: Sequence[str], repairs: Counter[str]) -> tuple[str, ...] | None:
    """The texts of an element's keys, without white space around; None where one is missing or blank."""
    if not isinstance(element, Mapping):
        return None
    said = []
    for key in keys:
        value = element.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            repairs["a number for a text"] += 1
            value = str(value)
        if not isinstance(value, str) or not (text := cleaned(value, repairs).strip()):
            return None
        said.append(text)
    return tuple(said)


def passage(answer: str, repairs: Counter[str], *, cut: bool) -> str:
    """The answer as plain text; of one that was cut its whole sentences, "" where there is none."""
    text = cleaned(_THOUGHT.sub("", answer), repairs).strip()
    if text.startswith("```"):
        match = _FENCE.match(text)
        text = match[1].strip() if match else text
        repairs["code fence"] += 1
    if not cut:
        return text
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    repairs.update(["cut: whole sentences kept"] if ends else [])
    return text[: ends[-1]] if ends else ""


def goes_round(text: str) -> bool:
    """Does a text say the same again and again? Less than half of its runs of four words are different ones."""
    words = text.casefold().split()
    runs = list(zip(words, words[1:], words[2:], words[3:], strict=False))
    return len(runs) >= 20 and 2 * len(set(runs)) < len(runs)


def unframed(answer: str, name: str) -> str:
    """The text of {name: text}, also where that is cut; the answer itself where it is no such JSON."""
    begun = re.match(r'\s*\{\s*"' + re.escape(name) + r'"\s*:\s*(?=")', answer)
    if begun is None:
        return answer
    body = re.compile(r'"((?:[^"\\]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*)').match(answer, begun.end())
    return answer if body is None else str(json.loads(f'"{body[1]}"', strict=False))


def cleaned(text: str, repairs: Counter[str]) -> str:
    """Without control characters, and without halves of surrogate pairs, which no file can hold."""
    kept = "".join(
        c
        if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs")
        else "\ufffd"
        if "\ud800" <= c <= "\udfff"
        else " "
        for c in text
    )
    repairs.update(["characters that are none"] if kept != text else [])
    return kept


def _bare(answer: str, repairs: Counter[str]) -> str:
    """The answer without thoughts before it and fences around its JSON."""
    text = _THOUGHT.sub("", answer).strip()
    if text != answer.strip():
        repairs["thoughts before the answer"] += 1
    fenced = [match[1] for match in _FENCE.finditer(text) if match[1].lstrip()[:1] in ("[", "{")]
    if fenced and not text.startswith(("[", "{")):
        repairs["code fence"] += 1
        return fenced[0].strip()
    return text


def _shaped(values: Sequence[Any], name: str, keys: Sequence[str]) -> tuple[list[Any] | None, list[str]]:
    """The elements among values in a row, None where they have another shape; and the repairs that this took."""
    if not values:
        return None, []
    first = values[0]
    if isinstance(first, Mapping) and name in first:
        inner = first[name]
        if isinstance(inner, list):
            return inner, []
        return ([inner], ["one element without a list"]) if isinstance(inner, Mapping | str) else (None, [])
    if isinstance(first, list):
        fits = all(isinstance(one, Mapping if keys else str) for one in first)
        return (first, ["a list without its object"]) if fits else (None, [])
    if keys and isinstance(first, Mapping) and any(key in first for key in keys):
        same = [one for one in values if isinstance(one, Mapping)]
        if len(same) == 1:
            return same, ["one element without a list"] if name else []
        return same, ["elements in a row without a list"]
    return None, []


class _Cut(Exception):
    """The text ends, or goes wrong, before a value is whole; the argument says which."""


class _Scan:
    """JSON from `start` on. `slips` are what was wrong and is mended, `broken` says how it ends too early, if so."""

    def __init__(self, text: str, start: int) -> None:
        self.text, self.at = text, start
        self.slips: Counter[str] = Counter()
        self.broken = ""
        self._decoder = json.JSONDecoder(strict=False, parse_constant=_refuse)

    def row(self) -> list[Any]:
        """Values one after another, with nothing but commas and white space between; the whole ones."""
        values = []
        while self.at < len(self.text) and self.text[self.at] in "[{":
            try:
                values.append(self._value(0, keeps=True))
            except _Cut as cut:
                self.broken = str(cut)
                break
            if self.broken:
                break
            end = self.at
            self._skip(",")
            if self.text[self.at : self.at + 1] not in ("[", "{"):
                self.at = end
                break
        return values

    def _value(self, depth: int, *, keeps: bool) -> Any:
        """The value that begins here. `keeps`: of a list that breaks off, the elements before are its value."""
        if depth > DEEPEST:
            raise _Cut("too deep")
        mark = self._peek()
        if mark == "{":
            return self._object(depth, keeps=keeps)
        if mark == "[":
            return self._list(depth, keeps=keeps)
        try:
            value, self.at = self._decoder.raw_decode(self.text, self.at)
        except (ValueError, RecursionError):
            begun = mark == '"' and not re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL).match(self.text, self.at)
            raise _Cut(CUT if begun else SLIP) from None
        return value

    def _object(self, depth: int, *, keeps: bool) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self.at += 1
        try:
            while (mark := self._peek()) != "}":
                if mark != '"':
                    raise _Cut(SLIP)
                key = self._value(depth, keeps=False)
                if self._peek() != ":":
                    raise _Cut(SLIP)
                self.at += 1
                found[key] = self._value(depth + 1, keeps=keeps and depth == 0 and self._peek() == "[")
                if self.broken:
                    return found
                self._comma("}")
        except _Cut as cut:
            if not (keeps and depth == 0 and any(isinstance(value, list) for value in found.values())):
                raise
            self.broken = str(cut)
            return found
        self.at += 1
        return found

    def _list(self, depth: int, *, keeps: bool) -> list[Any]:
        found: list[Any] = []
        self.at += 1
        try:
            while self._peek() != "]":
                found.append(self._value(depth + 1, keeps=False))
                self._comma("]")
        except _Cut as cut:
            if not keeps:
                raise
            self.broken = str(cut)
            return found
        self.at += 1
        return found

    def _comma(self, end: str) -> None:
        """Go on to the next member; a comma before the end is a slip."""
        mark = self._peek()
        if mark == ",":
            self.at += 1
            self.slips.update(["a comma too many"] if self._peek() == end else [])
        elif mark != end:
            raise _Cut(SLIP)

    def _peek(self) -> str:
        self._skip("")
        if self.at >= len(self.text):
            raise _Cut(CUT)
        return self.text[self.at]

    def _skip(self, marks: str) -> None:
        while self.at < len(self.text) and (self.text[self.at].isspace() or self.text[self.at] in marks):
            self.at += 1


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
