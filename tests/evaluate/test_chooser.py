"""The classifier in front of separate students."""

from __future__ import annotations

import random

import mixed
from aasut.evaluate.chooser import MOST, PIECE, Chooser, pieces


def texts(name: str, count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(mixed.WORDS[name], k=30)) for _ in range(count)]


def test_texts_go_to_their_own_field() -> None:
    chooser = Chooser({name: texts(name, 5, 1) for name in ("pumps", "ledger", "chess")}, 1)
    asked = [text for name in ("chess", "pumps") for text in texts(name, 4, 2)]
    assert chooser.choose(asked) == ["chess"] * 4 + ["pumps"] * 4
    assert chooser.choose([]) == []


def test_long_texts_are_cut_and_many_are_drawn_from() -> None:
    assert [len(piece) for piece in pieces(["x" * (2 * PIECE + 5), "y"], 1)] == [PIECE, PIECE, 5, 1]
    many = [str(number) for number in range(3 * MOST)]
    assert len(pieces(many, 1)) == MOST
    assert pieces(many, 1) == pieces(many, 1) != pieces(many, 2)
