from __future__ import annotations

import json
import re

import pytest
import yaml

from aasut.store import digest
from aasut.synthesize.prompts import FALLBACK, FOLDER, prompt
from aasut.teacher.local import plain_text
from aasut.types import Message

NAMES = ["questions", "names", "relations", "strategies", "reading", "conversations", "calls", "no_calls"]
LANGUAGES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
# Of each prompt's version: hash of what a teacher is shown. Another text needs another version, and a line here.
SHOWN = {
    ("en", "questions/1"): "016780409a9a",
    ("en", "names/1"): "1a50c1c43a02",
    ("en", "relations/1"): "576b5526f285",
    ("en", "strategies/1"): "7f2a335574ae",
    ("en", "reading/1"): "5297b39627a1",
    ("en", "conversations/1"): "cb15390790a9",
    ("en", "calls/1"): "7bd97fe6c152",
    ("en", "no_calls/1"): "27bf007ae796",
    ("hi", "questions/1"): "c396e089e875",
    ("hi", "names/1"): "3087f07faa95",
    ("hi", "relations/1"): "3e6d7770edfe",
    ("hi", "strategies/1"): "bf845ce7f0fd",
    ("hi", "reading/1"): "ac88802afb96",
    ("hi", "conversations/1"): "4783316f6d7b",
    ("hi", "calls/1"): "bf7887b29c3e",
    ("hi", "no_calls/1"): "112767c090f6",
}


def slots_of(name: str, mark: str) -> dict[str, str]:
    return {slot: f"{mark} {slot} {{x}}" for slot in prompt(name, "en").ask.slots}


def shown(name: str, language: str) -> tuple[Message, ...]:
    return prompt(name, language).request(slots_of(name, "a"), most=3, max_tokens=9).messages


def test_there_are_english_and_hindi_ones() -> None:
    assert {"en", "hi"} <= set(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", NAMES)
def test_all_that_differs_from_chunk_to_chunk_is_in_the_last_message(name: str, language: str) -> None:
    told = prompt(name, language)
    one, other = (told.request(slots_of(name, mark), most=3, max_tokens=9).messages for mark in "ab")
    assert one[:-1] == other[:-1]
    assert one[-1] != other[-1]
    assert [message.role for message in one] == ["system"] + ["user", "assistant"] * (len(told.examples) // 2) + [
        "user"
    ]
    before, last = plain_text(one)
    assert before.startswith(one[0].content)
    assert before.endswith("\n\n")
    assert last.endswith(":")
    assert all("{x}" in last.split(f"a {slot} ")[1] for slot in told.ask.slots)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", NAMES)
def test_the_examples_are_in_the_language_and_what_is_quoted_stands_in_their_text(name: str, language: str) -> None:
    told = prompt(name, language)
    script = {"hi": r"[\u0900-\u097f]"}.get(language, r"[a-z]")
    for asked, answer in zip(told.examples[::2], told.examples[1::2], strict=True):
        assert len(re.findall(script, asked.content)) > 60
        assert "\n\n" not in answer.content  # a blank line ends the answer of a base model
        if not answer.content.startswith("{"):
            assert len(re.findall(script, answer.content)) > 60
            continue
        plain = json.loads(answer.content)
        assert answer.content == json.dumps(plain, ensure_ascii=False)
        for element in plain.get("questions", [plain]):
            assert next(iter(element)) == "quote" or "quote" not in element
            assert element.get("quote", "") in asked.content
        assert all(found.casefold() in asked.content.casefold() for found in plain.get("names", []))


def test_another_language_is_named_and_gets_the_examples_of_english() -> None:
    german, none, odd = (prompt("questions", code) for code in ("de", "", "xx"))
    assert german.examples == prompt("questions", FALLBACK).examples != prompt("questions", "hi").examples
    said = [
        told.request(slots_of("questions", "a"), most=3, max_tokens=9).messages[0].content
        for told in (german, none, odd)
    ]
    assert "in German." in said[0]
    assert "in the language of the text." in said[1]
    assert "ISO 639-1 code is xx." in said[2]
    assert "अधिक से अधिक 3 " in shown("questions", "hi")[0].content
    assert "हिन्दी में" in shown("questions", "hi")[0].content


def test_all_languages_have_all_prompts_in_one_form() -> None:
    files = {code: yaml.safe_load((FOLDER / f"{code}.yaml").read_text(encoding="utf-8")) for code in LANGUAGES}
    for code, plain in files.items():
        assert list(plain) == ["language", *NAMES], code
        for name in NAMES:
            assert plain[name].keys() == files[FALLBACK][name].keys()
            assert prompt(name, code).ask.slots == prompt(name, FALLBACK).ask.slots


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_shown_has_a_version_of_its_own(name: str, language: str) -> None:
    told = prompt(name, language)
    assert re.fullmatch(rf"{name}/[1-9]\d*", told.name)
    found = digest([[message.role, message.content] for message in shown(name, language)])[:12]
    assert SHOWN.get((language, told.name)) == found, "a prompt was changed: give it a new version, and note its hash"
