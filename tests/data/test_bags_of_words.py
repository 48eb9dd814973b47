"""Bags of words: the index proposes all that comparing with every text finds, and a word weighs what it tells."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from aasut.data.bags_of_words import BagsOfWords


def numbers(words: list[int]) -> np.ndarray:
    return np.array(words, dtype=np.int32)


def slowly(texts: list[list[int]], words: list[int], share: float) -> dict[int, float]:
    """Shares by text, of those that reach it: the best of all windows of each text's length."""
    counts = Counter(word for text in texts for word in set(text))
    highest = np.log((len(texts) + 1) / 0.5)  # of a word that no text has
    weight = {word: max(np.log((len(texts) + 1) / (n + 0.5)), 0.3 * highest) for word, n in counts.items()}
    found = {}
    for number, text in enumerate(texts):
        if len(text) < 5:
            continue
        total = sum(weight[word] for word in text)
        windows = [Counter(words[i : i + len(text)]) for i in range(max(len(words) - len(text) + 1, 1))]
        best = max(sum(weight[word] * n for word, n in (Counter(text) & window).items()) for window in windows)
        if best / total >= share:
            found[number] = best / total
    return found


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("share", [0.7, 0.95])
def test_agrees_with_comparing_with_every_text(seed: int, share: float) -> None:
    draw = np.random.default_rng(seed)
    texts = [(draw.zipf(1.3, size=draw.integers(1, 25)) % 60 + 1).tolist() for _ in range(80)]
    bags = BagsOfWords([numbers(text) for text in texts], 60, least=5, share=share)
    some = 0
    for text in texts:
        words = [*draw.integers(0, 61, size=7).tolist(), *draw.permutation(text).tolist(), 0, 3]
        for _ in range(draw.integers(0, 3)):
            words[draw.integers(0, len(words))] = int(draw.integers(0, 61))
        expected = slowly(texts, words, share)
        found = bags.find(numbers(words))
        some += found is not None
        assert (found is None) == (not expected)
        if found is not None:
            assert found[1] == pytest.approx(max(expected.values()))
            assert found[1] == pytest.approx(expected[found[0]])
    assert some >= 20


def test_rare_words_decide() -> None:
    texts = [numbers([1, 2, 3, 4, 5, 6, 7, 8, 9, 10 + n]) for n in range(30)]
    bags = BagsOfWords(texts, 40, least=5, share=0.9)
    assert bags.find(numbers([12, 9, 8, 7, 6, 5, 4, 3, 2, 1])) == (2, pytest.approx(1))
    assert bags.find(numbers([12, 9, 8, 7, 6, 5, 4, 3, 2, 0])) is not None  # a common word is missing
    assert bags.find(numbers([0, 9, 8, 7, 6, 5, 4, 3, 2, 1])) is None  # the rare one is


def test_words_count_as_often_as_they_stand_and_near_one_another() -> None:
    bags = BagsOfWords([numbers([1, 1, 2, 3, 4, 4])], 4, least=5, share=0.95)
    assert bags.find(numbers([4, 1, 4, 2, 3, 1])) == (0, pytest.approx(1))
    assert bags.find(numbers([4, 1, 2, 3])) is None
    assert bags.find(numbers([4, 1, 4, 0, 2, 3, 1])) is None
    assert bags.find(numbers([0, 0, 2, 4, 4, 1, 1, 3, 0])) == (0, pytest.approx(1))


def test_nothing_to_find() -> None:
    assert BagsOfWords([], 0, least=5, share=0.9).find(numbers([0, 0])) is None
    bags = BagsOfWords([numbers([1, 2, 3, 4])], 4, least=5, share=0.9)
    assert bags.find(numbers([1, 2, 3, 4])) is None
    assert bags.find(numbers([])) is None
