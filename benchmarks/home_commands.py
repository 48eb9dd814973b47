"""Smart-home commands with their intents, drawn from the grammar of the package home-assistant-intents (Apache-2.0).

The package's sentences are templates: (a|b) one of, [a] maybe, (a;b) in any order, <rule>, {list:name}. Names of
devices and rooms, which a household has and the package does not, are stood in for.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from aasut.sources import fetch

PACKAGE = "home-assistant-intents==2026.11.25"
SHA256 = "65a7162518fffb15bd07590ff1c630bc45eedd5065738eeea96ce2f8d0cc02be"
OWN = {
    "name": ["ceiling fan", "kitchen light", "front door", "desk lamp", "garage door", "tv", "blinds", "thermostat",
             "vacuum", "coffee machine", "bedroom window", "heater"],
    "area": ["kitchen", "bedroom", "living room", "garage", "office", "bathroom", "hallway"],
    "floor": ["first floor", "basement", "upstairs"],
}  # fmt: skip
WORDS = ["milk", "call mum", "a song by queen", "eggs", "clean the oven", "the weather in paris", "dinner is ready"]
Alternatives = list[list[tuple[str, Any]]]


def commands(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Different commands, and the intent of each."""
    grammar = _Grammar(_english(), random.Random(seed))
    found: dict[str, str] = {}
    while len(found) < count:
        intent, text = grammar.draw()
        found.setdefault(text, intent)
    return list(found), list(found.values())


def _english() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(fetch.pypi_wheel(PACKAGE, Path(folder))) as wheel:
        content = wheel.read("home_assistant_intents/data/en.json")
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise SystemExit(f"{PACKAGE}: its en.json is another one.")
    return dict(json.loads(content))


class _Grammar:
    def __init__(self, plain: dict[str, Any], draw: random.Random) -> None:
        self.rules, self.lists, self.random = plain["expansion_rules"], plain["lists"], draw
        self.templates = [
            (intent, text, part.get("expansion_rules") or {})
            for intent, body in plain["intents"].items()
            for part in body["data"]
            for text in part["sentences"]
        ]
        self.parsed: dict[str, tuple[Alternatives, bool]] = {}

    def draw(self) -> tuple[str, str]:
        intent, template, own = self.random.choice(self.templates)
        return intent, " ".join(self._say(template, own).split())

    def _say(self, template: str, own: dict[str, str]) -> str:
        if template not in self.parsed:
            parts = re.findall(r"\{[^}]*\}|<[^>]*>|[()\[\]|;]|[^{}<>()\[\]|;]+", template)
            self.parsed[template] = _parse(parts[::-1])
        return self._one_of(self.parsed[template], own)

    def _one_of(self, node: tuple[Alternatives, bool], own: dict[str, str]) -> str:
        alternatives, in_any_order = node
        if in_any_order:
            mixed = self.random.sample(alternatives, len(alternatives))
            return " ".join(self._sequence(one, own) for one in mixed)
        return self._sequence(self.random.choice(alternatives), own)

    def _sequence(self, parts: list[tuple[str, Any]], own: dict[str, str]) -> str:
        return "".join(self._part(kind, value, own) for kind, value in parts)

    def _part(self, kind: str, value: Any, own: dict[str, str]) -> str:
        if kind == "group" or (kind == "maybe" and self.random.random() < 0.5):
            return self._one_of(value, own)
        if kind == "maybe":
            return ""
        if value[0] == "<":
            return self._say(own.get(value[1:-1]) or self.rules[value[1:-1]], own)
        return self._listed(value[1:-1].partition(":")[0]) if value[0] == "{" else str(value)

    def _listed(self, name: str) -> str:
        if name in OWN:
            return self.random.choice(OWN[name])
        known = self.lists.get(name, {})
        if "range" in known:
            return str(self.random.randint(known["range"]["from"], known["range"]["to"]))
        if "values" in known:
            value = self.random.choice(known["values"])
            return self._say(value if isinstance(value, str) else value["in"], {})
        return self.random.choice(WORDS)


def _parse(parts: list[str], close: str = "") -> tuple[Alternatives, bool]:
    """Takes parts off the end of the list up to `close`."""
    alternatives: Alternatives = [[]]
    in_any_order = False
    while parts and (part := parts.pop()) != close:
        if part in "([":
            kind = "group" if part == "(" else "maybe"
            alternatives[-1].append((kind, _parse(parts, ")" if part == "(" else "]")))
        elif part in "|;":
            alternatives.append([])
            in_any_order |= part == ";"
        else:
            alternatives[-1].append(("text", part))
    return alternatives, in_any_order
