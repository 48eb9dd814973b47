"""The teacher is asked again, greedily, with the passage alone and without its first answer: does it say the same?

The answer comes as JSON, so that an engine that is bound to the form cannot end before it has said anything, as small
models do; one that is no JSON is taken as it stands. Two answers agree where F1 of their words is high enough; two
lists of calls where their written forms are the same. Of a conversation each question is asked after the turns before
it. Texts, which answer nothing, are not asked.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from aasut import tools as functions
from aasut import words
from aasut.synthesize import refusals
from aasut.synthesize.item import Item
from aasut.types import Completion, Message, Request

VERSION = 2  # of the prompts
NOT_STATED, OTHER, UNANSWERED = "a second look does not find it", "a second answer differs", "no second answer"

_SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"answer": {"type": "string", "minLength": 1}},
        "required": ["answer"],
        "additionalProperties": False,
    }
)
_INSTRUCTIONS = {
    "en": "Answer the question with what the text says, briefly, in the language of the question, as JSON. If the text "
    "does not say it, the answer is: Not stated.",
    "hi": "प्रश्न का उत्तर पाठ के आधार पर, संक्षेप में, प्रश्न की भाषा में, JSON में दीजिए। "
    "यदि उत्तर पाठ में न हो तो उत्तर है: नहीं बताया गया।",
}
_CALLING = "Call the functions that do what the user asks. Where none is needed, answer briefly from the text."
_FORM = {"en": ("Text: {text}\n\nQuestion: {question}\nAnswer:", "Question: {question}\nAnswer:"),
         "hi": ("पाठ: {text}\n\nप्रश्न: {question}\nउत्तर:", "प्रश्न: {question}\nउत्तर:")}  # fmt: skip
# Worked examples, from which small base models learn the form: text, question, answer.
_EXAMPLES = {
    "en": (
        ("The pool opens at 7 in the morning. Children under six swim for free.", "Who swims in the pool for free?",
         "Children under six."),
        ("The pool opens at 7 in the morning. Children under six swim for free.", "When does the pool close?",
         "Not stated."),
        ("Turn the key to the left and wait until the green light goes out.", "What should be done before the green "
         "light goes out?", "Turn the key to the left."),
    ),
    "hi": (
        ("तरणताल सुबह 7 बजे खुलता है। छह साल से छोटे बच्चों का प्रवेश निःशुल्क है।", "तरणताल में किसका प्रवेश निःशुल्क है?",
         "छह साल से छोटे बच्चों का।"),
        ("तरणताल सुबह 7 बजे खुलता है। छह साल से छोटे बच्चों का प्रवेश निःशुल्क है।", "तरणताल कब बंद होता है?", "नहीं बताया गया।"),
        ("चाबी बाईं ओर घुमाएँ और हरी बत्ती बुझने तक रुकें।", "हरी बत्ती बुझने से पहले क्या करना चाहिए?", "चाबी बाईं ओर घुमाएँ।"),
    ),
}  # fmt: skip
_UNSAID = ("not stated", "not mentioned", "not specified", "not provided", "नहीं बताया गया", "उल्लेख नहीं", "जानकारी नहीं")


def requests(item: Item, passage: str, max_tokens: int, tools: Sequence[Any] = ()) -> list[Request]:
    """What is asked again about an item, one request an answer; none of a text."""
    if item.is_text:
        return []
    found, turns = [], list[Message]()
    calling = json.dumps(list(tools), ensure_ascii=False) if item.kind == "calls" else ""
    own = item.language if item.language in _INSTRUCTIONS else "en"
    told = Message("system", _CALLING if calling else _INSTRUCTIONS[own])
    before = [told] if calling else [told, *_shown(own)]
    for question, answer in zip(item.questions, item.answers, strict=True):
        form = _FORM[own][0 if not turns else 1]
        asked = Message("user", form.format(text=passage, question=question))
        schema = "" if calling else _SCHEMA
        found.append(Request((*before, *turns, asked), max_tokens=max_tokens, tools=calling, schema=schema))
        turns += [asked, Message("assistant", answer if calling else _written(answer))]
    return found


def fault(item: Item, second: Sequence[Completion], least: float, tools: Sequence[Any] = ()) -> tuple[str, str]:
    """Why second answers speak against an item, with the one that does; ("", "") where none does.

    least: F1 of words that two answers must have.
    """
    defined = json.dumps(list(tools), ensure_ascii=False)
    for first, completion in zip(item.answers, second, strict=True):
        if completion.failure:
            return UNANSWERED, completion.failure
        text = said(completion.text)
        if item.kind == "calls" and functions.is_calls(first):
            if functions.canonical(text, defined) != functions.canonical(first, defined):
                return OTHER, text
        elif unsaid(text):
            return NOT_STATED, text
        elif words.f1(first, text) < least:
            return OTHER, text
    return "", ""


def said(text: str) -> str:
    """The answer in a completion: the field of its JSON, else the text itself, calls of functions among that."""
    try:
        found = json.loads(text)
    except ValueError:
        return text.strip()
    answer = found.get("answer") if isinstance(found, dict) else None
    return answer.strip() if isinstance(answer, str) else text.strip()


def unsaid(answer: str) -> bool:
    """Does an answer say that there is none?"""
    plain = " ".join(words.words(answer))
    short = len(plain) < 60 and any(" ".join(words.words(phrase)) in plain for phrase in _UNSAID)
    return not plain or short or bool(refusals.refuses(answer) or refusals.about_the_prompt(answer))


def _shown(language: str) -> list[Message]:
    turns: list[Message] = []
    for text, question, answer in _EXAMPLES[language]:
        asked = _FORM[language][0].format(text=text, question=question)
        turns += [Message("user", asked), Message("assistant", _written(answer))]
    return turns


def _written(answer: str) -> str:
    return json.dumps({"answer": answer}, ensure_ascii=False)
