"""Named, versioned prompts: what a teacher is told, and worked examples, of which small base models learn more.

They stand in prompts/<language>.yaml. All that differs from chunk to chunk is in the last message, so that what comes
before it is computed once; a base model sees the same as one text (see teacher/local.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from aasut.prompts import PromptTemplate
from aasut.types import Message, Request

FOLDER = Path(__file__).with_name("prompts")
TEXT = "text"  # what a text is called in JSON
FALLBACK = "en"  # whose instructions and examples serve a language that has none
# Names, in English, of languages by their code of ISO 639-1; another one is named by its code.
NAMES = {
    "ar": "Arabic", "as": "Assamese", "bn": "Bengali", "cs": "Czech", "da": "Danish", "de": "German", "el": "Greek",
    "en": "English", "es": "Spanish", "fa": "Persian", "fi": "Finnish", "fr": "French", "gu": "Gujarati",
    "he": "Hebrew", "hi": "Hindi", "hu": "Hungarian", "id": "Indonesian", "it": "Italian", "ja": "Japanese",
    "kn": "Kannada", "ko": "Korean", "ml": "Malayalam", "mr": "Marathi", "ms": "Malay", "ne": "Nepali", "nl": "Dutch",
    "no": "Norwegian", "or": "Odia", "pa": "Punjabi", "pl": "Polish", "pt": "Portuguese", "ro": "Romanian",
    "ru": "Russian", "sa": "Sanskrit", "sv": "Swedish", "sw": "Swahili", "ta": "Tamil", "te": "Telugu", "th": "Thai",
    "tr": "Turkish", "uk": "Ukrainian", "ur": "Urdu", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip


@dataclass(frozen=True)
class Prompt:
    """Instructions, worked examples and the form of a question; `name` has the version, `words` are the form's own."""

    name: str
    before: PromptTemplate
    ask: PromptTemplate
    examples: tuple[Message, ...]
    words: Mapping[str, str]
    language: str

    def request(
        self,
        slots: Mapping[str, str],
        *,
        most: int = 1,
        max_tokens: int,
        temperature: float = 0.0,
        schema: Mapping[str, Any] | None = None,
        framed: bool = False,
    ) -> Request:
        """What is asked with these slots of the form; at most `most` elements are wanted.

        framed: the worked examples show their plain texts as JSON, {"text": ...}.
        """
        told = self.before.render({"language": self.language, "most": str(most)})
        asked = self.ask.render(slots)
        shape = "" if schema is None else json.dumps(schema, ensure_ascii=False)
        system = Message("system", told[0].content)
        shown = tuple(map(_framed, self.examples)) if framed else self.examples
        return Request((system, *shown, *asked), (), max_tokens, temperature, schema=shape)

    def shows(self, text: str) -> bool:
        """Does a worked example say this? Small models copy what they were shown."""
        return any(text in message.content for message in self.examples)


@lru_cache(maxsize=64)
def prompt(name: str, language: str) -> Prompt:
    """The prompt of this name for a language, a code of ISO 639-1 or "" where it is unknown.

    Languages without a file of their own are asked for in English, by English examples.
    """
    own = language if (FOLDER / f"{language}.yaml").is_file() else FALLBACK
    plain = _read(own)[name]
    form = PromptTemplate.of(plain["ask"])
    shown: list[Message] = []
    for example in plain["examples"]:
        answer = example["answer"]
        shown += form.render({slot: example[slot] for slot in form.slots})
        shown.append(
            Message("assistant", answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False))
        )
    return Prompt(
        f"{name}/{plain['version']}",
        PromptTemplate.of(plain["instructions"]),
        form,
        tuple(shown),
        plain.get("words", {}),
        _called(language, own),
    )


def _framed(message: Message) -> Message:
    if message.role != "assistant":
        return message
    return Message("assistant", json.dumps({TEXT: message.content}, ensure_ascii=False))


def _called(language: str, written: str) -> str:
    """What instructions in one language call another, or the same."""
    if not language:
        return "the language of the text"
    if written == language:
        return str(_read(written)["language"])
    return NAMES.get(language, f"the language whose ISO 639-1 code is {language}")


@lru_cache(maxsize=8)
def _read(language: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / f"{language}.yaml").read_text(encoding="utf-8"))
    return found
