"""How fast models write: all are asked as often, a batch is spread over several models, and no end stops an answer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from aasut.engine.base import Piece, Prompt
from aasut.evaluate import writing
from aasut.formats.tokenizer import Tokenizer
from aasut.progress import Progress

QUIET = Progress(quiet=True)


class Counting:
    """An engine that says `a` as often as it is asked to, and keeps the prompts."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def generate(self, prompts: Sequence[Prompt], *, prefix: str = "") -> Iterator[Piece]:
        self.asked.append([prefix + prompt.text for prompt in prompts])
        for row, prompt in enumerate(prompts):
            yield Piece(row, "a" * prompt.max_tokens, prompt.max_tokens, "length")


def test_every_arm_has_its_turns(tiny_llama: Path) -> None:
    arms = {"one": [tiny_llama], "two": [tiny_llama, tiny_llama]}
    texts = ["the battery", "is great", "and small", "positive"]
    found = writing.measure(arms, texts, "float32", writing.Effort(5, 3), QUIET)
    turns = {name: {batch: len(each) for batch, each in of.items()} for name, of in found.items()}
    assert turns == {"one": {"1": 3, "4": 3}, "two": {"1": 3, "4": 3}}
    assert all(speed > 0 for of in found.values() for each in of.values() for speed in each)
    assert writing.medians({"1": [3.0, 1.0, 2.0]}) == {"1": 2.0}


def test_a_batch_is_spread_over_several_models() -> None:
    engines = [Counting(), Counting()]
    assert writing._speed(engines, ["p", "q", "r"], 0, 5) > 0
    assert writing._speed(engines, ["s"], 3, 5) > 0
    assert [engine.asked for engine in engines] == [[["p", "r"]], [["q"], ["s"]]]


def test_prompts_are_of_each_kind_in_turn(tiny_llama: Path) -> None:
    tokenizer = Tokenizer.load(tiny_llama)
    kinds = [["aaaa " * 50, "bbbb " * 50], ["cccc " * 50]]
    found = writing.prompts(tokenizer, kinds, 5)
    assert [text[0] for text in found] == ["a", "c", "b", "c", "a"]
    assert all(len(tokenizer.encode(text)) == writing.PROMPT for text in found)


def test_the_machine_is_named() -> None:
    assert re.fullmatch(r".+, (1 thread|\d+ threads)|NVIDIA .*", writing.machine())
