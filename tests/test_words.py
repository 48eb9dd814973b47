"""Words: writings of one word are one, in every script; numbers by value; weights without a list of any language."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from aasut.words import Frequencies, containment, f1, folded, numbers, script, words

HINDI = "ज़िंदगी में क्षमा और विज्ञान, दोनों का महत्त्व है। १२३"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don’t STOP—it's e‑mail", ["don", "t", "stop", "it", "s", "e", "mail"]),
        ("naïve ﬁne ＦＵＬＬ　width", ["naïve", "fine", "full", "width"]),
        ("_emphasis_ **bold** snake_case", ["emphasis", "bold", "snake", "case"]),
        ("con\u00adtami\u200bna\u2060tion\ufeff a\u00a0b", ["contamination", "a", "b"]),
        (HINDI, ["ज\u093cिंदगी", "में", "क्षमा", "और", "विज्ञान", "दोनों", "का", "महत्त्व", "है", "123"]),
        ("कर\u094d\u200dता क\u094d\u200cष", ["कर्ता", "क्ष"]),
        ("தமிழ் நாடு", ["தமிழ்", "நாடு"]),
        ("漢字とカナ12", ["漢", "字", "と", "カ", "ナ", "12"]),
        ("น้ำใจ", ["น\u0e49\u0e4d", "า", "ใ", "จ"]),
        ("한국어 글", ["한국어", "글"]),
        ("٣٤ ۵ 𝟗", ["34", "5", "9"]),
        ("𠀀𠀁 𝐃𝐲𝐞", ["𠀀", "𠀁", "dye"]),
        ("1️⃣ …!? ", ["1"]),
    ],
)
def test_words_of_scripts(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_writings_of_a_word_are_one() -> None:
    for one in (HINDI, "Café Ångström STRASSE", "ḍūḍhā"):
        other = unicodedata.normalize("NFD", one).upper()
        assert words(one) == words(other) == words(unicodedata.normalize("NFKC", one).lower())
    assert words("straße") == words("STRASSE")
    assert words("कलम") != words("क़लम")
    assert words("का") != words("की")  # a vowel sign is no ornament


def test_folding_twice_changes_nothing_for_any_character() -> None:
    for code in range(sys.maxunicode + 1):
        once = folded(chr(code))
        assert folded(once) == once, hex(code)


def test_ascii_and_the_rest_of_unicode_have_one_rule() -> None:
    text = "A_b-c 1.5 x\tY\x00z ~ Don't"
    assert words(text) == words(text + " é")[:-1]
    assert words(text) == words(text + " 𠀀")[:-1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,00,000 100000 १,००,००० 100,000 100\u202f000", ["100000"] * 5),
        ("1.50 1,5 01.5", ["1.5"] * 3),
        ("1,234.50 1.234,50 1234.5", ["1234.5"] * 3),
        ("P0420 on 2024-05-06 at 12:30", ["420", "2024", "5", "6", "12", "30"]),
        ("version 1.2.10, 0.0 and 000", ["1.2.10", "0", "0"]),
        ("12 345 is two", ["12", "345"]),
        ("none", []),
    ],
)
def test_numbers_by_value(text: str, expected: list[str]) -> None:
    assert numbers(text) == expected


def test_the_script_of_most_letters() -> None:
    assert script("GnuCash में खाता खोलें और फिर सहेजें") == "Devanagari"
    assert script("Press the key का") == "Latin"
    assert (script("漢字かな漢"), script("مرحبا"), script("Ｆull"), script("12 …")) == ("Han", "Arabic", "Latin", "")


def test_f1_of_bags() -> None:
    assert f1("the red lamp", "The lamp, red!") == 1
    assert f1("a b c d", "a b") == pytest.approx(2 * 2 / 6)
    assert f1("a a b", "a b b") == pytest.approx(2 / 3)  # counted as often as they stand
    assert (f1("a", "b"), f1("a", ""), f1("", "…")) == (0, 0, 1)


def test_containment_of_a_part() -> None:
    assert containment("बैटरी दो दिन", "इस फ़ोन की बैटरी दो दिन चलती है") == 1
    assert containment("red lamp blue lamp", "a red lamp") == pytest.approx(3 / 4)
    assert containment("the lamp", "a red lamp", lambda word: float(word != "the")) == 1
    assert containment("the", "", lambda _: 0.0) == 1


@pytest.mark.parametrize(
    ("texts", "function", "rare"),
    [
        (
            ["the pump is on", "the valve is shut", "the fan is off", "the motor is hot", "the relay is open"],
            "the",
            "fan",
        ),
        (["पंप चालू है", "वाल्व बंद है", "पंखा धीमा है", "मोटर गरम है", "रिले खुला है"], "है", "पंखा"),
    ],
)
def test_function_words_are_told_by_their_frequency(texts: list[str], function: str, rare: str) -> None:
    known = Frequencies.of(texts)
    assert known.texts == 5
    assert known.common(words(function)[0])
    assert known.weight(words(function)[0]) == 0
    assert 0 < known.weight(words(rare)[0]) < known.weight("unheard") == 1
    assert containment(f"{rare} {function}", rare, known.weight) == 1
    assert containment(f"{rare} {function}", function, known.weight) == 0


def test_few_texts_make_no_word_common() -> None:
    assert not Frequencies.of(["the pump"]).common("the")
    assert Frequencies.of([]).weight("the") == 1
