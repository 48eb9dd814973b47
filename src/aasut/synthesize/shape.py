"""What an item's own text tells: its length, refusals, answers and questions about the prompt, its language."""

from __future__ import annotations

from aasut import tools as functions
from aasut import words
from aasut.documents import language
from aasut.recipe.field import Filter
from aasut.synthesize import refusals
from aasut.synthesize.item import Item

EMPTY, SHORT, LONG = "an empty turn", "the question is too short", "the item is too long"
ECHO = "the answer repeats the question"
REFUSAL, PROMPT, POINTS = "a refusal", "the answer talks about the prompt", "the question points at a text"
SCRIPT, LANGUAGE = "another script", "another language"
ENOUGH = 60  # letters from which a text's language is told by more than its script


def fault(item: Item, settings: Filter) -> tuple[str, str]:
    """Why an item's length or phrases are none to learn from, and where; ("", "") where nothing is wrong."""
    if not item.answers or not all(turn.content.strip() for turn in item.turns):
        return EMPTY, ""
    for question in item.questions:
        if (count := len(words.words(question))) < settings.shortest:
            return SHORT, f"{count} words"
    if (count := len(words.words(item.text))) > settings.longest:
        return LONG, f"{count} words"
    for question, answer in zip(item.questions, item.answers, strict=not item.is_text):
        if words.words(question) == words.words(answer):
            return ECHO, ""
    spoken = [answer for answer in item.answers if not (item.kind == "calls" and functions.is_calls(answer))]
    for reason, texts, find in (
        (REFUSAL, spoken, refusals.refuses),
        (PROMPT, spoken, refusals.about_the_prompt),
        (POINTS, item.questions, refusals.points),
    ):
        for text in texts:
            if phrase := find(text):
                return reason, phrase
    return "", ""


def language_fault(item: Item, text: str, own: str, wanted: str | None) -> tuple[str, str]:
    """Why an item is not in the language that was wanted; ("", "") where it is, or where that cannot be told.

    text, own: what it was made of and the language of that, which it should have unless another is wanted. Numbers and
    codes have no language, and of a short turn the script alone is looked at.
    """
    expected = words.script(text) if wanted in (None, own) else ""
    goal = wanted or own
    for turn in item.turns:
        if item.kind == "calls" and functions.is_calls(turn.content):
            continue
        script = words.script(turn.content)
        if script and expected and script != expected:
            return SCRIPT, script
        if goal and sum(character.isalpha() for character in turn.content) >= ENOUGH:
            found = language.tell(turn.content)
            if found and found != goal:
                return LANGUAGE, found
    return "", ""
