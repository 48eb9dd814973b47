from __future__ import annotations

import unicodedata

import pytest

from aasut.synthesize.refusals import about_the_prompt, points, refuses

REFUSED = [
    "I'm sorry, but I can't help with that.",
    "I’M SORRY, as an AI I have no access to it.",
    "As an AI language model, I do not know.",
    "Sorry, I cannot find it.",
    "क्षमा करें, मैं इस प्रश्न का उत्तर नहीं दे सकता।",
    "माफ़ कीजिए, मुझे पता नहीं है।",
    "मुझे खेद है, यह मेरी क्षमता से बाहर है।",
]
ABOUT = [
    "The passage does not say when it opens.",
    "This isn't mentioned in the text.",
    "According to the passage, it opens at 7.",
    "Based on the provided information, 15 A.",
    "The given document does not explicitly mention it.",
    "It is not explicitly stated in the context.",
    "गद्यांश के अनुसार, यह 7 बजे खुलता है।",
    "दिए गए पाठ के अनुसार पंद्रह एम्पियर।",
    "पाठ में इसका कोई उल्लेख नहीं है।",
]
POINTING = [
    "What is the main idea of the passage?",
    "What does the above text describe?",
    "According to the text, when does the pump start?",
    "What is mentioned above?",
    "What does the author recommend?",
    "Which fuse is described in the text?",
    "उपरोक्त गद्यांश में किसकी बात हो रही है?",
    "दिए गए पाठ में कौन-सा फ़्यूज़ है?",
    "लेखक के अनुसार पंप कब चलता है?",
]
GOOD = [
    "I am the resurrection",
    "Press the button below the text box.",
    "If the document does not contain macros, it opens at once.",
    "How do I remove the formatting from the text?",
    "How do I change the author of a document?",
    "What does the UPS do with the information provided by the battery?",
    "How do I write text above a picture?",
    "It's not found in the list of devices.",
    "The text is aligned with the paragraph.",
    "How is a document saved in another format?",
    "I know the pump",
    "यह पाठ बॉक्स में दिखाई देता है।",
    "दस्तावेज़ को कैसे सहेजें?",
    "जानकारी कहाँ सहेजी जाती है?",
    "अनुच्छेद के ऊपर की दूरी कैसे बदलें?",
]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize(
    ("find", "texts"),
    [(refuses, REFUSED), (about_the_prompt, ABOUT), (points, POINTING)],
    ids=["no", "about", "points"],
)
def test_phrases_are_found_in_both_languages_however_they_are_encoded(
    find: object, texts: list[str], form: str
) -> None:
    assert callable(find)
    missed = [text for text in texts if not find(unicodedata.normalize(form, text))]  # type: ignore[arg-type]
    assert missed == []


def test_texts_about_texts_are_left_alone() -> None:
    found = [(text, phrase) for text in GOOD for find in (refuses, about_the_prompt, points) if (phrase := find(text))]
    assert found == []


def test_a_refusal_opens_an_answer() -> None:
    assert refuses("The clerk says: I'm sorry.")
    assert not refuses("word " * 40 + "I'm sorry.")
