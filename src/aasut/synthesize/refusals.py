"""Answers that refuse or talk about the prompt, and questions that point at a text that nobody will see later.

By phrases, in English and in Hindi; what is written in another language passes. A phrase is found as words are
compared (see words.py), so case, kinds of apostrophes and the two ways to write Hindi's dotted letters do not count.
Documents may be about texts and documents themselves, so a phrase must say that the text is the one at hand.
"""

from __future__ import annotations

import re

from aasut.words import folded

OPENING = 160  # characters in which an answer that refuses says so

_NEAR = "(?:passage|text|excerpt|snippet|context|paragraph|article)"
_ANY = "(?:passage|text|excerpt|snippet|context|paragraph|article|document|source|information|content|section)"
_SHOWN = "(?:provided|given|supplied|above|following|preceding|aforementioned)"
_PASSAGE = "(?:गद्यांश|अनुच्छेद|पाठ|लेख|दस्तावेज़|संदर्भ|सामग्री|जानकारी|अंश)"
_GIVEN = "(?:उपरोक्त|उपर्युक्त|दिए गए|दिये गए|दी गई|दी गयी|दिए हुए|ऊपर के|ऊपर दिए गए|ऊपर दी गई|प्रस्तुत)"
_SAYS = "(?:say|state|mention|specify|provide|contain|give|include|explain|indicate|tell|describe|recommend|suggest)"

REFUSES = (
    r"\bi(?:'m| am) (?:very )?(?:sorry|afraid)\b",
    r"\bi apologi[sz]e\b",
    r"\bsorry, (?:but )?i\b",
    r"\bas an? (?:ai|artificial)\b",
    r"\bi (?:can't|cannot|can not|could not|couldn't|am unable to|won't|do not|don't) "
    r"(?:answer|help|assist|provide|determine|find|know|have (?:access|enough|the information|information))\b",
    r"\blanguage model\b",
    "क्षमा करें|क्षमा कीजिए|माफ़ कीजिए|माफ़ करें|मुझे खेद है|मुझे पता नहीं|मुझे नहीं पता",
    "मैं (?:इसका |इस प्रश्न का )?(?:उत्तर|जवाब) नहीं दे सक",
    "एआई के रूप में|भाषा मॉडल",
)
ABOUT_THE_PROMPT = (
    rf"(?<!if )\b(?:the|this|your) (?:{_SHOWN} {_ANY}|{_NEAR}) (?:above |below )?"
    rf"(?:does not|doesn't|do not|did not|never) (?:\w+ )?{_SAYS}",
    r"\b(?:not|isn't|never) (?:\w+ )?(?:mentioned|stated|specified|provided|given|found|said) (?:anywhere )?"
    rf"(?:in|by) (?:the|this) (?:{_SHOWN} {_ANY}|{_NEAR})\b",
    rf"\b(?:according to|based on|as (?:stated|mentioned|described) (?:in|by)) (?:the|this) "
    rf"(?:{_SHOWN} {_ANY}|passage|text|excerpt|snippet|context|paragraph)\b",
    rf"\b(?:the|this) (?:{_SHOWN} {_ANY}|passage|excerpt|snippet|paragraph) (?:says|states|mentions|explains)",
    r"\bthe quote (?:says|states)\b",
    rf"(?:{_GIVEN} |इस ){_PASSAGE} (?:के अनुसार|में (?:नहीं|यह नहीं|इसका|इसकी|कहा गया|बताया गया|उल्लेख))",
    rf"{_PASSAGE} में (?:इसका |इसकी |ऐसा |यह )?(?:कोई )?(?:उल्लेख|जानकारी) नहीं",
    "पाठ में (?:यह )?नहीं (?:है|बताया|कहा|दिया)|गद्यांश के अनुसार|गद्यांश में",
)
POINTS = (
    rf"\b(?:the|this|that) {_SHOWN} {_ANY}\b",
    rf"\b{_NEAR} (?:above|below|provided|given)\b(?! (?:by|to|in|for|an?|the|it|another)\b)",
    r"\b(?:mentioned|described|stated|given) above\b",
    r"\b(?:the|this|that) (?:passage|excerpt|snippet)\b",
    r"\b(?:described|mentioned|stated|given|discussed) in (?:the|this) (?:text|context|paragraph|article)\b",
    r"\baccording to (?:the|this) (?:text|context|paragraph|article|author)\b",
    rf"\b(?:the|this) (?:text|article|paragraph|author) (?:\w+ )?{_SAYS}s?\b",
    rf"{_GIVEN} {_PASSAGE}",
    "(?:इस|उस) (?:गद्यांश|अनुच्छेद|अंश|पाठ)|गद्यांश|(?:पाठ|लेख|लेखक) के अनुसार|लेखक (?:क्या|ने)",
    "ऊपर (?:बताए|बताई|लिखे|लिखी|कहे|कही)",
)


def _any(phrases: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{folded(phrase)})" for phrase in phrases))


_REFUSES, _ABOUT, _POINTS = _any(REFUSES), _any(ABOUT_THE_PROMPT), _any(POINTS)


def refuses(answer: str) -> str:
    """The phrase with which an answer refuses, "" where it does not."""
    return _found(_REFUSES, answer, OPENING)


def about_the_prompt(answer: str) -> str:
    """The phrase with which an answer talks about the text that it was made of, "" where it does not."""
    return _found(_ABOUT, answer)


def points(question: str) -> str:
    """The phrase with which a question points at a text beside it, "" where it does not."""
    return _found(_POINTS, question)


def _found(pattern: re.Pattern[str], text: str, most: int | None = None) -> str:
    plain = " ".join(folded(text).replace("’", "'").split())[:most]
    found = pattern.search(plain)
    return found[0] if found else ""
