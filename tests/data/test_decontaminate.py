"""Contamination: planted in every disguise, alone and in longer texts, in English and in Hindi: all of it is found."""

from __future__ import annotations

import random
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from passages import ENGLISH, ENGLISH_QUESTIONS, HINDI, HINDI_QUESTIONS

import tiny_bert
from aasut.data.decontaminate import Held, Match
from aasut.data.held_out import Entry
from aasut.engine import embed
from aasut.progress import Progress
from aasut.words import words
from prose import PARAGRAPHS

QUIET = Progress(quiet=True)
KINDS = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "disguises.py"))["KINDS"]
TEXTS = [
    *list(dict.fromkeys(PARAGRAPHS))[:80],
    "The café in Zürich serves crème brûlée; Ångström's résumé lies there. It closes at 10.",
    "Señor Núñez naïvely paid 1,250 for the façade. The jalapeño soufflé was free.",
    "Naïve études by Dvořák were played: nobody left the hall before the end of the fête.",
]
HINDI_TEXTS = [
    *(text for _, text in HINDI),
    "क़ानून के अनुसार ज़मीन का काग़ज़ ख़रीदार को पढ़कर सुनाना ज़रूरी है। फ़ीस ₹2,500 है। बड़े मामलों में 15 दिन लगते हैं।",
    "विश्व में महत्त्वपूर्ण विज्ञान की प्रक्रिया समझें। क्षमा और ज्ञान का अर्थ श्रद्धा से पढ़ें। प्रश्न १२ का उत्तर लिखें।",
    "पढ़ाई में लड़के और लड़कियाँ बराबर हैं। क़लम से लिखें, और कागज़ फाड़ें नहीं।",
    "कऱ्हाड और नऱ्हे महाराष्ट्र के गाँव हैं। वहाँ के पाऱ्यावर ऩ और ऴ वाले शब्द मिलते हैं।",
    "अपना खाता खोलने के लिए “नया” दबाएँ। फिर राशि 1,200 लिखें और तारीख़ 05-06-2024 चुनें। सहेजना न भूलें!",
]
FILLER = {
    "en": ("Some other words come first, about gardens and rain.", "And then it goes on: nobody knows where to."),
    "hi": ("पहले बाग़ और बारिश के बारे में कुछ और बातें आती हैं।", "फिर बात आगे बढ़ती है और कोई नहीं जानता कि कहाँ तक।"),
}


def held(texts: list[str], **options: Any) -> Held:
    return Held([Entry("exam", f"line {n}", (text,)) for n, text in enumerate(texts, 1)], progress=QUIET, **options)


def found(where: Held, *items: tuple[str, ...]) -> list[Match | None]:
    return where.find(items)


ENGLISH_HELD, HINDI_HELD = held(TEXTS), held(HINDI_TEXTS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("language", ["en", "hi"])
def test_every_disguise_is_seen_through(kind: str, language: str) -> None:
    texts, where = (TEXTS, ENGLISH_HELD) if language == "en" else (HINDI_TEXTS, HINDI_HELD)
    draw = random.Random(5)
    before, after = FILLER[language]
    planted = [KINDS[kind](text, draw) for text in texts]
    for items in ([(text,) for text in planted], [(f"{before} {text} {after}",) for text in planted]):
        matches = where.find(items)
        for number, match in enumerate(matches):
            assert match is not None, items[number]
            assert (match.set, match.share >= 0.95) == ("exam", True)
            original = texts[int(match.place.removeprefix("line ")) - 1]
            assert set(words(original)) & set(words(texts[number])), "another entry, which shares words"


def test_disguises_do_change_texts() -> None:
    draw = random.Random(5)
    for kind in list(KINDS)[1:]:
        assert sum(KINDS[kind](text, draw) != text for text in [*TEXTS, *HINDI_TEXTS]) >= 4, kind
    assert KINDS["normal form"](HINDI_TEXTS[-2], draw) != HINDI_TEXTS[-2]
    for kind in ("nukta", "joiners", "dandas", "digits", "zero width", "sentences reordered"):
        assert sum(KINDS[kind](text, draw) != text for text in HINDI_TEXTS) >= 3, kind


def test_what_is_said_of_a_match() -> None:
    where = Held(
        [Entry("a.csv", "line 2", ("What opens the inlet valve of the big pump?", "The green lever does.")),
         Entry("b.txt", "line 9", ("Never mind.",))],
        progress=QUIET,
    )  # fmt: skip
    rows, bag, none, short = found(
        where,
        ("Tell me: what opens the inlet valve of the big pump?",),
        ("The valve of the big inlet pump: what opens?",),
        ("Which colour has the lever?",),
        ("NEVER  MIND!",),
    )
    assert rows == Match("a.csv", "line 2", "words in a row", 1.0)
    assert bag == Match("a.csv", "line 2", "same words", 1.0)
    assert none is None
    assert short == Match("b.txt", "line 9", "words in a row", 1.0)


def test_thirteen_words_in_a_row_and_not_twelve() -> None:
    long = [f"w{n}" for n in range(40)]
    where = held([" ".join(long)])
    for start in (0, 10, 27):
        cut = long[start : start + 13]
        assert found(where, (f"and {' '.join(cut)} then",))[0] is not None
        assert found(where, (f"and {' '.join(cut[1:])} then",)) == [None]
        assert found(where, (f"and {' '.join(cut[:6])} x {' '.join(cut[6:])} then",)) == [None]


def test_short_texts_count_whole() -> None:
    where = held(["the red pump leaks oil", "open the valve", "yes"])
    assert [m is not None for m in found(
        where,
        ("we saw that the red pump leaks oil today",),  # five words in a row
        ("the red pump leaks water",),
        ("Open the valve.",),  # three words, and nothing else
        ("Please open the valve now.",),
        ("Is it? yes",),
        ("oil leaks the red pump",),
        ("oil leaks the red pump daily",),
        ("a whole conversation about oil", "open the valve"),  # a part alone
        ("today oil leaks the old red pump",),
    )] == [True, False, True, False, False, True, True, True, False]  # fmt: skip


def test_rows_do_not_run_from_one_entry_or_one_text_into_the_next() -> None:
    where = held([" ".join(f"a{n}" for n in range(20)), " ".join(f"b{n}" for n in range(20))])
    across = [f"a{n}" for n in range(13, 20)] + [f"b{n}" for n in range(7)]
    assert found(where, (" ".join(across),)) == [None]
    assert found(where, (" ".join(across[:3]), " ".join(f"a{n}" for n in range(12)))) == [None]
    halves = [f"a{n}" for n in range(13)]
    assert found(where, (" ".join(halves[:7]),), (" ".join(halves[7:]),)) == [None, None]


def test_question_and_answer_together_are_looked_for_too() -> None:
    entry = Entry("exam", "line 1", ("How hot may it get?", "At most ninety degrees, says the manual."))
    where = Held([entry], progress=QUIET)
    assert found(where, ("At most ninety degrees. How hot may it get, says the manual?",))[0] is not None


def test_other_texts_of_the_field_are_no_contamination() -> None:
    """Questions about the same manual, in the same words, and every other paragraph of one documentation."""
    where = held([text for _, text in ENGLISH] + [text for _, text in HINDI])
    questions = [(question,) for question, _ in ENGLISH_QUESTIONS + HINDI_QUESTIONS]
    assert where.find(questions) == [None] * len(questions)
    paragraphs = list(dict.fromkeys(PARAGRAPHS))
    half = held(paragraphs[::2])
    for paragraph, match in zip(paragraphs[1::2], half.find([(p,) for p in paragraphs[1::2]]), strict=True):
        if match is not None:
            original = paragraphs[::2][int(match.place.removeprefix("line ")) - 1]
            shared = len(set(words(original)) & set(words(paragraph)))
            assert rows(original) & rows(paragraph) or shared >= 0.9 * len(set(words(original))), (original, paragraph)


def rows(text: str) -> set[tuple[str, ...]]:
    found = words(text)
    length = min(13, len(found))
    return {tuple(found[i : i + length]) for i in range(len(found) - length + 1)}


def test_templates_with_other_values_are_no_contamination() -> None:
    where = held([f"Set the {name} in the {room} to {n} per cent, please" for name in ("lamp", "fan") for room in
                  ("kitchen", "hall", "attic") for n in (10, 20)])  # fmt: skip
    assert where.find([("Set the lamp in the garage to 30 per cent, please",)]) == [None]
    assert where.find([("To 20 per cent, please, set the fan in the attic",)])[0] is not None


def test_order_of_batches_does_not_matter() -> None:
    items = [(text,) for text in [*TEXTS[::2], *(q for q, _ in ENGLISH_QUESTIONS)]]
    assert ENGLISH_HELD.find(items) == [ENGLISH_HELD.find([item])[0] for item in items]


def test_nothing_held_out_and_nothing_asked() -> None:
    assert held([]).find([("some text",)]) == [None]
    assert held(["…"]).find([("…",), ("",), ()]) == [None, None, None]
    assert ENGLISH_HELD.find([]) == []


def test_alike_by_embeddings(tmp_path: Path) -> None:
    embedder = embed.load(tiny_bert.save(tmp_path))
    entries = ["the valve is open", "पंप बंद है और", "hot hot hot"]
    asked = ["the pump is hot", "a valve is open", "hot", "पंप चालू है और"]
    cosines = embedder.embed(asked) @ embedder.embed(entries).T
    threshold = float(np.sort(cosines.max(axis=1))[1])  # three of the four reach it
    where = held(entries, embedder=embedder, cosine=threshold)
    matches = where.find([("cold", text) for text in asked])
    cold = (embedder.embed(["cold"]) @ embedder.embed(entries).T).max()
    assert cold < threshold
    expected = cosines.max(axis=1) >= threshold - 1e-6
    assert [match is not None for match in matches] == expected.tolist()
    assert expected.sum() == 3
    for number, match in enumerate(matches):
        if match is not None:
            assert (match.why, match.place) == ("alike", f"line {cosines[number].argmax() + 1}")
            assert match.share == pytest.approx(cosines[number].max(), abs=1e-5)
    assert where.find([("hot hot hot",)])[0] == Match("exam", "line 3", "words in a row", 1.0)
