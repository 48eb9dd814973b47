"""The language of texts: script first, then the classifier; none rather than a wrong one."""

from __future__ import annotations

import pytest

from aasut.documents.language import _SCRIPTS, _model, main, tell

TEXTS = {
    "en": "How do I open an account in this program and pay money into it?",
    "de": "Die Batterie ist leer und muss vor der nächsten Fahrt geladen werden.",
    "hi": "खाता कैसे खोलें और उसमें पैसे कैसे जमा करें?",
    "mr": "माझे नाव राम आहे आणि मी पुण्यात राहतो",
    "ne": "नेपालमा धेरै मानिसहरू बस्छन् र नेपाली भाषा बोल्छन्",
    "ja": "この文書は東京で出版されたものである",
    "zh": "中文是一种使用汉字书写的语言",
    "ar": "هذا نص عربي عن البطاريات وكيفية شحنها",
    "ur": "یہ اردو زبان میں لکھا ہوا متن ہے اور بیٹری کے بارے میں ہے",
    "ta": "இது தமிழில் எழுதப்பட்ட உரை",
    "ru": "Это текст о батареях, который написан на русском языке.",
}


@pytest.mark.parametrize("code", TEXTS)
def test_sentences(code: str) -> None:
    assert tell(TEXTS[code]) == code
    assert tell(f"## 3.2\n\n| 12 | 5.0 |\n\n{TEXTS[code]} <https://example.org/en/path>") == code


def test_hindi_with_english_names_is_hindi_and_english_with_a_hindi_word_is_not() -> None:
    assert tell("GnuCash में नया खाता खोलने के लिए File मेनू पर जाएँ और New Account चुनें") == "hi"
    assert tell("The Hindi word for account is खाता and you will find it in the menu of the program.") == "en"


@pytest.mark.parametrize(
    "text",
    ["", "   ", "खाता", "The Basics", "P0101", "12345 67 89", "| 1 | 2 |", "नमस्ते hello भाषा world पाठ mixed यहाँ words",
     "CM_ BO_ SG_ ACC_CONTROL VAL_ GAS_COMMAND_CHECKSUM", "\ud800\udfff", "x" * 5000, "́" * 100],
)  # fmt: skip
def test_short_mixed_and_strange_texts_have_none(text: str) -> None:
    assert tell(text) == ""


def test_two_languages_in_equal_parts_have_none() -> None:
    assert tell(f"{TEXTS['en'][:50]} {TEXTS['hi']}") == ""
    assert tell(f"{TEXTS['ru']} {TEXTS['de']}") == ""


def test_every_language_of_a_script_is_one_that_the_classifier_knows() -> None:
    assert {code for codes in _SCRIPTS.values() for code in codes} <= set(_model().labels)


def test_the_language_of_a_whole_is_that_of_over_half_of_what_was_told() -> None:
    assert main({"en": 60, "hi": 40}) == "en"
    assert main({"en": 50, "hi": 50}) == ""
    assert main({"en": 10, "": 90}) == "en"
    assert main({"": 90}) == main({}) == ""
