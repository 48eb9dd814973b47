"""Duplicates: what repeats is found, what differs is kept, and every decision stands on the exact similarity."""

from __future__ import annotations

import random

import numpy as np
import pytest

from aasut.data import dedupe
from aasut.data.dedupe import alike, fingerprint, representatives, similarity, united, whole
from aasut.progress import Progress

QUIET = Progress(quiet=True)
VOCABULARY = (
    "the a this that camera phone battery screen works fails breaks shines good bad great poor after before "
    "one two weeks days of use and but with without case cable manual price value money box lens sound keys"
)


def stand(texts: list[str], threshold: float = 0.8) -> list[int]:
    return representatives(texts, threshold=threshold, seed=7, progress=QUIET)


def brute_force(texts: list[str], threshold: float) -> list[int]:
    result: list[int] = []
    for number, text in enumerate(texts):
        kept = [k for k in range(number) if result[k] == k]
        result.append(next((k for k in kept if similarity(texts[k], text) >= threshold), number))
    return result


def test_fingerprint_sees_through_case_width_and_space() -> None:
    assert fingerprint({"text": "  Straße\t\nＡＢＣ ﬁne 𝐃𝐲𝐞 "}, ["text"]) == "strasse abc fine dye"
    assert fingerprint({"text": "café"}, ["text"]) == fingerprint({"text": "CAFE\u0301"}, ["text"])
    assert fingerprint({"text": "क़लम  है"}, ["text"]) == fingerprint({"text": "\u0915\u093cलम है"}, ["text"])
    assert fingerprint({"text": "कलम"}, ["text"]) != fingerprint({"text": "क़लम"}, ["text"])


def test_fingerprint_takes_the_named_slots_and_keeps_them_apart() -> None:
    slots = {"a": "x", "b": "y z", "c": "unused"}
    assert fingerprint(slots, ["a", "b"]) == fingerprint({"b": "y z", "a": "x"}, ["a", "b"])
    assert fingerprint(slots, ["a", "b"]) != fingerprint({"a": "x y", "b": "z"}, ["a", "b"])
    assert fingerprint(slots, ["a"]) == fingerprint({"a": "X"}, ["a"])


def test_similarity_is_jaccard_of_shingles() -> None:
    assert similarity("abcdef", "abcdef") == 1
    assert similarity("abcdef", "abcdeg") == pytest.approx(1 / 3)  # abcde, bcdef / abcde, bcdeg
    assert similarity("abc", "abd") == 0


def test_exact_duplicates_point_to_the_first() -> None:
    assert stand(["short", "other", "short", "a longer text that comes twice", "a longer text that comes twice"]) == [
        0, 1, 0, 3, 3,
    ]  # fmt: skip


def test_near_duplicates_above_the_threshold_and_none_below() -> None:
    first = "the battery of this camera lasts for two weeks of daily use and then some more"
    near, far = first + "!", first[:40] + "but its screen is rather dim in the sun"
    assert similarity(first, near) >= 0.8 > similarity(first, far)
    assert stand([first, near, far]) == [0, 0, 2]


def test_a_threshold_of_one_means_equal_texts_alone() -> None:
    laugh, longer = "ha" * 15, "ha" * 16
    assert similarity(laugh, longer) == 1  # the same shingles
    assert stand([laugh, longer, laugh], threshold=1) == [0, 1, 0]


def test_near_duplicates_in_devanagari() -> None:
    first = "इस फ़ोन की बैटरी दो दिन तक चलती है और कैमरा भी बहुत अच्छा है"
    assert stand([first, first + "।", "इस फ़ोन की बैटरी दो घंटे भी नहीं चलती, पैसे बरबाद हो गए"]) == [0, 0, 2]


def test_very_short_texts_count_only_when_equal() -> None:
    assert similarity("turn on lights 12", "turn on lights 13") >= 0.8
    assert stand(["turn on lights 12", "turn on lights 13", "turn on lights 12"]) == [0, 1, 0]


def test_a_chain_of_likenesses_does_not_drop_what_differs() -> None:
    base = [f"word{i}" for i in range(40)]
    first, middle, last = (" ".join(base[shift : shift + 30]) for shift in (0, 3, 6))
    assert similarity(first, middle) >= 0.75
    assert similarity(middle, last) >= 0.75 > similarity(first, last)
    # The middle one is dropped for the first; the last is like the middle one only, so it stays.
    assert stand([first, middle, last], threshold=0.75) == [0, 0, 2]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 0.9])
def test_agrees_with_comparing_all_pairs(threshold: float) -> None:
    rng = random.Random(3)
    words = VOCABULARY.split()
    texts = [" ".join(rng.choices(words, k=rng.randint(6, 60))) for _ in range(120)]
    for text in rng.sample(texts, 100):  # planted: a few letters changed
        letters = list(text)
        for _ in range(rng.randint(1, 4)):
            letters[rng.randrange(len(letters))] = rng.choice("xyz")
        texts.append("".join(letters))
    expected = brute_force(texts, threshold)
    assert sum(k != i for i, k in enumerate(expected)) >= 15  # the planted ones make a real sample
    assert stand(texts, threshold) == expected


def test_any_seed_can_be_given() -> None:
    texts = ["a text that is long enough for shingles", "a text that is long enough for shingles."]
    assert representatives(texts, threshold=0.8, seed=-1, progress=QUIET) == [0, 0]


def test_nothing_to_do() -> None:
    assert stand([]) == []


def test_conversations_are_compared_as_wholes() -> None:
    opening = "How do I enter an opening balance for a new account?"
    first = whole([opening, "Choose Equity as the account to transfer from, and enter the amount on the first day."])
    other = whole([opening, "See the chapter about the import of bank statements; it says what each column is for."])
    again = whole(
        [opening.upper(), "Choose  Equity as the account to transfer from, and enter the amount on the first."]
    )
    assert stand([first, other, again]) == [0, 1, 0]
    assert whole(["a", "b c"]) != whole(["a b", "c"])


@pytest.mark.parametrize("block", [5, 64, 4096])
def test_alike_agrees_with_comparing_all_pairs(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedupe, "_BLOCK", block)
    drawn = np.random.default_rng(5)
    vectors = drawn.normal(size=(160, 8)).astype(np.float32)
    near = np.concatenate([vectors, vectors[::2] + drawn.normal(size=(80, 8)) * 0.25]).astype(np.float32)
    near = near[drawn.permutation(len(near))]
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    expected: list[int] = []
    for number in range(len(near)):
        kept = [k for k in range(number) if expected[k] == k]
        expected.append(next((k for k in kept if near[k] @ near[number] >= 0.9), number))
    assert sum(k != i for i, k in enumerate(expected)) >= 40
    assert alike(near, threshold=0.9, progress=QUIET) == expected


@pytest.mark.parametrize("block", [1, 2, 3])
def test_the_first_of_two_that_are_alike_stands(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedupe, "_BLOCK", block)
    angles = np.radians([0, 50, 25, 25.5])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert alike(vectors, threshold=0.9, progress=QUIET) == [0, 1, 0, 0]


def test_alike_of_equal_and_of_no_texts() -> None:
    one = np.ones((3, 384), dtype=np.float32) / np.sqrt(np.float32(384))
    assert alike(one, threshold=1, progress=QUIET) == [0, 0, 0]
    assert alike(np.eye(3, dtype=np.float32), threshold=0.1, progress=QUIET) == [0, 1, 2]
    assert alike(np.empty((0, 4), dtype=np.float32), threshold=0.9, progress=QUIET) == []


def components(texts: list[str], threshold: float) -> list[int]:
    """By all pairs."""
    first = list(range(len(texts)))
    for number, text in enumerate(texts):
        for other in range(number):
            if similarity(texts[other], text) >= threshold and first[other] != first[number]:
                low, high = sorted((first[other], first[number]))
                first = [low if place == high else place for place in first]
    return first


@pytest.mark.parametrize("threshold", [0.6, 0.8])
def test_all_that_hangs_together_by_pairs_is_united(threshold: float) -> None:
    draw = random.Random(3)
    texts = [" ".join(draw.choices(VOCABULARY.split(), k=25)) for _ in range(40)]
    for _ in range(160):  # each a change of an earlier one: chains whose ends differ
        words = draw.choice(texts).split()
        words[draw.randrange(len(words))] = draw.choice(VOCABULARY.split())
        texts.append(" ".join(words))
    found = united(texts, threshold=threshold, seed=7, progress=QUIET)
    assert found == components(texts, threshold)
    assert found != stand(texts, threshold)


def test_a_text_between_two_unites_them_whenever_it_comes() -> None:
    words = (
        "the battery of this camera lasts for two weeks of daily use and then some more but its screen is dim " * 2
    ).split()
    first, last = list(words), list(words)
    first[5], last[30] = "recorder", "display"
    first[12], last[36] = "heavy", "bright"
    texts = [" ".join(first), " ".join(last), " ".join(words)]
    between = min(similarity(texts[0], texts[2]), similarity(texts[1], texts[2]))
    assert similarity(texts[0], texts[1]) < between
    assert united(texts, threshold=between, seed=7, progress=QUIET) == [0, 0, 0]
    assert united([texts[2], *texts[:2]], threshold=between, seed=7, progress=QUIET) == [0, 0, 0]
    assert united(texts[:2], threshold=between, seed=7, progress=QUIET) == [0, 1]
