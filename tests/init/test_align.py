from __future__ import annotations

import random

import pytest

from aasut.init import align

PIECES = ["{", "}", "\n", "\r\n", "\t", " ", "नमस्ते", "é", "a", "word", "_", "1", ".", "🙂", "\u2028", "\0", "don't"]


def test_tokens_joined_are_the_text() -> None:
    draw = random.Random(1)
    for _ in range(300):
        text = "".join(draw.choices(PIECES, k=draw.randrange(20)))
        assert "".join(align.tokens(text)) == text


def test_a_word_is_never_cut() -> None:
    assert align.narrowed(["Order 12 of Anna"], "Order 13 of Annabel") == ["Order ", " of ", ""] or align.narrowed(
        ["Order 12 of Anna"], "Order 13 of Annabel"
    ) == ["Order ", ""]
    assert align.narrowed(["नमस्ते दुनिया"], "नमस्कार दुनिया") == ["", " दुनिया"]


@pytest.mark.parametrize(
    ("pieces", "text", "result"),
    [
        (["A: x"], "A: x", ["A: x"]),
        (["A: x"], "A: y", ["A: ", ""]),
        (["A: x\nB: y"], "A: z\nB: w", ["A: ", "\nB: ", ""]),
        (["A: ", "\nB: ", ""], "A: one\nB: two", ["A: ", "\nB: ", ""]),
        (["A: ", "\nB: ", ""], "A: one\nC: two", ["A: ", ""]),
        (["A: ", " end"], "A: one", ["A: ", ""]),
        (["A: ", " end"], "B", ["", ""]),
        (["aa", "aa"], "aaa", ["", ""]),
    ],
)
def test_what_two_texts_share(pieces: list[str], text: str, result: list[str]) -> None:
    assert align.narrowed(pieces, text) == result
    assert align.edges(result, text) is not None


def test_what_is_left_always_matches_all_the_texts() -> None:
    draw = random.Random(2)
    for _ in range(60):
        texts = ["".join(draw.choices(PIECES, k=draw.randrange(1, 25))) for _ in range(6)]
        pieces = align.fixed_text(texts, [texts[0]])
        for text in texts:
            values = align.values(pieces, text)
            woven = "".join(p + v for p, v in zip(pieces, [*values, ""], strict=True))
            assert woven == text


def test_doubtful_pieces_go_and_labels_are_named() -> None:
    texts = [f"x {n} of the y {n} of the q z" for n in range(40)]
    assert align.without_doubtful(["x ", " of the ", " z"], texts) == (["x ", " z"], {})
    texts = [f"a {n}\nTo: b\nTo: c {n}" for n in range(40)]
    assert align.without_doubtful(["a ", "\nTo: ", ""], texts) == (["a ", ""], {"\nTo: ": 40})


def test_single_words_part_slots_where_every_text_has_them_once() -> None:
    texts = [f"Compare item{n} with thing{n * 7}" for n in range(220)]
    assert align.with_single_words(["Compare ", ""], texts) == ["Compare ", " with ", ""]
    assert align.with_single_words(["Compare ", ""], texts[:199]) == ["Compare ", ""]
    assert align.with_single_words(["Compare ", ""], [*texts, "Compare a to b"]) == ["Compare ", ""]
    assert align.with_single_words(["", ""], [f"12.{n} at 13:{n}" for n in range(220)]) == ["", " at ", ""]
