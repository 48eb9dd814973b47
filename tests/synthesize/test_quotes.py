from __future__ import annotations

import unicodedata

import pytest

from aasut.synthesize.quotes import answers, sentences, shares, verbatim

TEXT = (
    "## वाल्व\n\nThe **relief valve** opens\nat “40 °C” – not before. क़ीमत ₹500 है। हिंदी में “पूरी” जानकारी नीचे है।\n\n"
    "- It weighs 2.5 kg when it is empty.\n- टंकी में अधिकतम 40 लीटर पानी आता है।\n\n"
    "| part | price |\n| --- | --- |\n| a valve of brass | 500 rupees |\n\n1. Turn the tap to the left. Ok."
)


def test_a_quote_that_stands_there_is_left_alone() -> None:
    assert verbatim("क़ीमत ₹500 है।", TEXT) == "क़ीमत ₹500 है।"


@pytest.mark.parametrize(
    ("quote", "stretch"),
    [
        ('the relief valve opens at "40 °C" - not before', "The **relief valve** opens\nat “40 °C” – not before"),
        ("हिंदी में पूरी जानकारी नीचे है", "हिंदी में “पूरी” जानकारी नीचे है"),
        (unicodedata.normalize("NFC", "क़ीमत   ₹500 है।"), "क़ीमत ₹500 है"),
        ("...weighs 2.5 kg.", "weighs 2.5 kg"),
    ],
)
def test_spacing_case_and_marks_do_not_count(quote: str, stretch: str) -> None:
    found = verbatim(quote, TEXT)
    assert found == stretch
    assert found in TEXT


@pytest.mark.parametrize("quote", ["It weighs 25 kg", "क़ीमत ₹600 है।", "...", "", "“”"])
def test_another_text_is_no_quote(quote: str) -> None:
    assert (verbatim(quote, TEXT) or "") == ""


def test_signs_stay_with_their_letter() -> None:
    assert verbatim("**पानी", "ठंडा पानी") == "पानी"
    assert verbatim("ठंडा  पान", "ठंडा पानी है") == "ठंडा पानी"
    assert verbatim("पानि", "पानी") is None


def test_sentences_may_be_quoted_and_headings_and_tables_not() -> None:
    assert sentences(TEXT) == [
        "The **relief valve** opens\nat “40 °C” – not before.",
        "हिंदी में “पूरी” जानकारी नीचे है।",
        "It weighs 2.5 kg when it is empty.",
        "टंकी में अधिकतम 40 लीटर पानी आता है।",
        "Turn the tap to the left.",
    ]
    assert all(sentence in TEXT for sentence in sentences(TEXT))
    assert sentences("- a line that is no sentence\n- another such line of text") == [
        "a line that is no sentence",
        "another such line of text",
    ]
    assert sentences("How is it emptied? क्या यह वाल्व खुला रहता है? It is emptied by hand.") == ["It is emptied by hand."]
    assert sentences("Twice the same sentence. Twice the same sentence.") == ["Twice the same sentence."]


def test_a_part_of_a_sentence_may_answer() -> None:
    whole = "Meals are repaid up to 30 euros a day; alcohol and tips are not repaid (ever)."
    assert answers(whole) == [whole, "Meals are repaid up to 30 euros a day", "alcohol and tips are not repaid"]
    hindi = "अवधि एक बार बढ़ाई जा सकती है, यदि किसी ने वही पुस्तक न माँगी हो।"
    assert answers(hindi) == [hindi, *hindi.split(", ")]
    assert answers("It **costs** `1,500`\n   dollars.") == ["It costs 1,500 dollars."]


def test_shares_are_runs_of_like_number() -> None:
    assert shares(list("abcdefg"), 3) == [["a", "b"], ["c", "d"], ["e", "f", "g"]]
    assert shares(["a"], 3) == [["a"]]
    assert shares([], 3) == []
