"""The grammar of home-assistant-intents as an exact teacher: a spoken command, English or Hindi, to calls of the house.

`answer` is what `aasut teacher examples/home/grammar.py` serves. A command is recognised by hassil, in Hindi where it
has Devanagari letters, with the names of house.json; both languages give the house's one English name. A sentence that
Home Assistant would complete with the speaker's room is taken as it stands: a call without `area` is about the whole
house. What the grammar does not know is answered with text, which calls nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hassil.expression import Expression
from hassil.intents import IntentData, Intents, TextSlotList
from hassil.recognize import RecognizeResult, recognize_ranked

FOLDER = Path(__file__).parent
HOUSE: dict[str, Any] = json.loads((FOLDER / "house.json").read_text(encoding="utf-8"))
LANGUAGES = ("en", "hi")
PACKAGE = Path(find_spec("home_assistant_intents").submodule_search_locations[0])  # type: ignore[union-attr,index]
DEPENDS = [FOLDER / "house.json", *(PACKAGE / "data" / f"{language}.json" for language in LANGUAGES)]
UNKNOWN = {"en": "Sorry, I did not understand that.", "hi": "माफ़ कीजिए, मैं यह नहीं समझा।"}
# The order in which a call's arguments are written; in tools.json too.
ORDER = (
    *("name", "area", "floor", "domain", "device_class", "state", "item", "message", "search_query", "media_class"),
    *("brightness", "color", "temperature", "percentage", "position", "fan_mode", "volume_level", "volume_step"),
    *("hours", "minutes", "seconds", "start_hours", "start_minutes", "start_seconds", "conversation_command"),
)
_DEVANAGARI = re.compile(r"[\u0900-\u097f]")


@dataclass(frozen=True)
class Template:
    """A sentence of the grammar, and what its block says about it."""

    language: str
    intent: str
    text: str
    expression: Expression
    block: IntentData

    @property
    def key(self) -> str:
        """Equal texts in blocks of one intent are one template."""
        return f"{self.language}/{self.intent}/{self.text}"


def language_of(sentence: str) -> str:
    """`hi` for Devanagari, else `en`."""
    return "hi" if _DEVANAGARI.search(sentence) else "en"


def answer(text: str) -> str:
    """The calls that the command in a prompt's last line asks for, as a JSON list; a sentence where it is none."""
    lines = text.strip().splitlines()
    sentence = lines[-1].strip().removeprefix("Command:").strip() if lines else ""
    found = readings(sentence)
    return calls(found[0]) if found else UNKNOWN[language_of(sentence)]


def readings(sentence: str) -> list[RecognizeResult]:
    """All ways to read a sentence, the best first, as Home Assistant ranks them."""
    language = language_of(sentence)
    return recognize_ranked(sentence, grammar(language), language=language, best_slot_name="name")


def as_good(one: RecognizeResult, other: RecognizeResult) -> bool:
    """Does Home Assistant rank both readings the same, but for the order of their intents' names?"""
    return _rank(one) == _rank(other)


def _rank(found: RecognizeResult) -> tuple[int, int, int, int]:
    named = found.entities.get("name")
    wild = [entity for entity in found.entities_list if entity.is_wildcard]
    length = len(named.text) if named is not None and not named.is_wildcard else 0
    return length, len(wild), found.text_chunks_matched, sum(len(entity.text or "") for entity in wild)


def calls(found: RecognizeResult) -> str:
    """A reading as a JSON list of one call."""
    return written(found.intent.name, {name: entity.value for name, entity in found.entities.items()})


def written(intent: str, slots: dict[str, Any]) -> str:
    """An intent with its slots as a JSON list of one call."""
    strange = set(slots) - set(ORDER)
    if strange:
        raise ValueError(f"{intent} has the slots {', '.join(sorted(strange))}, which ORDER does not know")
    arguments = {name: _plain(slots[name]) for name in ORDER if name in slots}
    return json.dumps([{"name": intent, "arguments": arguments}], ensure_ascii=False)


def _plain(value: Any) -> Any:
    """Whole numbers without a fraction, text without space around it."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value.strip() if isinstance(value, str) else value


@lru_cache
def grammar(language: str) -> Intents:
    """The language's sentences with the house's names."""
    plain = json.loads((PACKAGE / "data" / f"{language}.json").read_text(encoding="utf-8"))
    for body in plain["intents"].values():
        for block in body["data"]:
            block.get("requires_context", {}).pop("area", None)
    intents = Intents.from_dict(plain)
    intents.slot_lists |= {
        "name": TextSlotList.from_tuples(_names(language), allow_template=False, name="name"),
        "area": TextSlotList.from_tuples(_places("areas", language), allow_template=False, name="area"),
        "floor": TextSlotList.from_tuples(_places("floors", language), allow_template=False, name="floor"),
    }
    return intents


def templates(language: str) -> list[Template]:
    """Every template of a language, in the package's order."""
    return [
        Template(language, intent.name, str(sentence.text), sentence.expression, block)
        for intent in grammar(language).intents.values()
        for block in intent.data
        for sentence in sorted(block.sentences, key=lambda sentence: block.sentence_texts.index(str(sentence.text)))
    ]


def _names(language: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for entity in HOUSE["entities"]:
        for said in entity[language]:
            yield said, entity["name"], {"domain": entity["domain"]}


def _places(kind: str, language: str) -> Iterator[tuple[str, str]]:
    for place in HOUSE[kind]:
        for said in place[language]:
            yield said, place["name"]
