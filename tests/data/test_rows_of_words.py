"""Rows of words: what a search through all texts finds, and nothing else, whatever the hashes say."""

from __future__ import annotations

import numpy as np
import pytest

from aasut.data import rows_of_words
from aasut.data.rows_of_words import RowsOfWords


def numbers(words: list[int]) -> np.ndarray:
    return np.array(words, dtype=np.int32)


def slowly(texts: list[list[int]], words: list[int], least: int, most: int) -> set[tuple[int, tuple[int, ...]]]:
    """Where rows begin, and the rows."""
    wanted = {
        tuple(text[i : i + size])
        for text in texts
        if (size := min(len(text), most)) >= least
        for i in range(len(text) - size + 1)
    }
    return {
        (start, row)
        for start in range(len(words))
        for size in range(least, most + 1)
        if len(row := tuple(words[start : start + size])) == size and 0 not in row and row in wanted
    }


@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_comparing_everything(seed: int) -> None:
    draw = np.random.default_rng(seed)
    texts = [draw.integers(1, 4, size=draw.integers(0, 9)).tolist() for _ in range(30)]
    words = draw.integers(0, 5, size=3000).tolist()
    index = RowsOfWords([numbers(text) for text in texts], least=3, most=6)
    found = index.find(numbers(words))
    sizes = [min(len(texts[text]), 6) for _, text in found]
    assert sizes == sorted(sizes, reverse=True)
    assert {(s, tuple(words[s : s + n])) for (s, _), n in zip(found, sizes, strict=True)} == slowly(texts, words, 3, 6)
    for (start, text), size in zip(found, sizes, strict=True):
        row = words[start : start + size]
        assert any(texts[text][i : i + size] == row for i in range(len(texts[text])))


def test_hashes_that_collide_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_of_words, "_mixed", lambda words: (words % 2).astype(np.uint64))
    index = RowsOfWords([numbers([1, 2, 3, 4])], least=3, most=3)
    assert index.find(numbers([3, 4, 5, 6])) == []
    assert index.find(numbers([0, 1, 2, 3])) == [(1, 0)]


def test_no_texts_and_short_ones() -> None:
    assert RowsOfWords([], least=3, most=5).find(numbers([1, 2, 3])) == []
    index = RowsOfWords([numbers([1, 2]), numbers([]), numbers([1, 2, 3])], least=3, most=5)
    assert index.find(numbers([1, 2])) == []
    assert index.find(numbers([1, 2, 3])) == [(0, 2)]
