"""Rows that join and leave while others go on, on a model that reads its tokens back from its blocks."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from aasut.engine import session as sessions
from aasut.engine.base import Piece, Prompt
from aasut.engine.blocks import SIZE, Blocks
from aasut.engine.decode import Row
from aasut.engine.session import Session, Span, write_all
from aasut.errors import ModelError, RecipeError
from aasut.formats.tokenizer import Tokenizer

SCHEMA = json.dumps({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})


class Remembering:
    """Blocks hold the tokens themselves; what comes next is told by all tokens of a row, as its blocks have them."""

    def __init__(self, size: int, blocks: int = 200) -> None:
        self.size, self.blocks = size, Blocks(blocks)
        self.held = np.full((blocks, SIZE), -1)
        self.steps: list[list[Span]] = []
        self.broken = False

    def start(self, spans: Sequence[Span]) -> Result:
        self.steps.append(list(spans))
        found = []
        for span in spans:
            for place, token in enumerate(span.ids, span.past):
                self.held[span.blocks[place // SIZE], place % SIZE] = token
            if span.ends:
                found.append(self.logits(self.held[list(span.blocks)].ravel()[: span.past + len(span.ids)].tolist()))
        return Result(np.array(found, np.float32).reshape(-1, self.size), self.broken)

    def logits(self, tokens: Sequence[int]) -> np.ndarray:
        return np.random.default_rng(zlib.crc32(repr(list(tokens)).encode())).normal(0, 3, self.size).astype(np.float32)


class Result:
    def __init__(self, logits: np.ndarray, broken: bool) -> None:
        self.found, self.broken = logits, broken

    def logits(self) -> np.ndarray:
        if self.broken:
            raise RuntimeError("out of memory")
        return self.found


@pytest.fixture(scope="session")
def tokenizer(tiny_llama: Path) -> Tokenizer:
    return Tokenizer.load(tiny_llama)


@pytest.fixture
def model(tokenizer: Tokenizer) -> Remembering:
    return Remembering(tokenizer.size)


@pytest.fixture
def session(model: Remembering, tokenizer: Tokenizer) -> Session:
    return Session(model, tokenizer, 2000, rows=4)


def alone(model: Remembering, tokenizer: Tokenizer, prompt: Prompt) -> list[Piece]:
    """The pieces of one answer by the plainest of loops."""
    tokens, row, pieces = tokenizer.encode(prompt.text), Row(0, prompt, tokenizer), []
    while not pieces or not pieces[-1].finish:
        pieces.append(row.take(model.logits(tokens + row.answer)))
    return pieces


def whole(pieces: Sequence[Piece]) -> tuple[str, int, str, tuple[float, ...]]:
    last = pieces[-1]
    return "".join(piece.text for piece in pieces), last.tokens, last.finish, last.logprobs


def prompts(count: int, seed: int = 0) -> list[Prompt]:
    rng = random.Random(seed)
    shared = "the battery is great " * 4
    return [
        Prompt(
            shared[: rng.choice((0, 40, 84))] + "".join(rng.choices("abcdefg ", k=rng.choice((1, 20, 90, 700)))),
            rng.randint(1, 30),
            temperature=rng.choice((0.0, 1.0)),
            seed=number,
            stop=rng.choice(((), ("a",))),
            schema=rng.choice(("", "", SCHEMA)),
            logprobs=rng.random() < 0.5,
        )
        for number in range(count)
    ]


def step(session: Session, texts: dict[int, list[Piece]]) -> None:
    for row, said in session.step():
        assert isinstance(said, Piece)
        assert said.row == row
        texts.setdefault(row, []).append(said)


def test_answers_are_those_of_each_alone_whoever_joins_and_leaves(
    session: Session, model: Remembering, tokenizer: Tokenizer
) -> None:
    rng = random.Random(3)
    asked, texts, left = prompts(60), {}, set()
    for number, prompt in enumerate(asked):
        assert session.add(prompt) == number
        for _ in range(rng.choice((0, 0, 1, 5))):
            step(session, texts)
        if rng.random() < 0.2:
            left.add(rng.randrange(number + 1))
            session.cancel(max(left))
    while session:
        step(session, texts)
    for number, prompt in enumerate(asked):
        ended = texts.get(number, [Piece(0, "", 0)])[-1].finish
        assert ended or number in left
        if ended:
            assert whole(texts[number]) == whole(alone(model, tokenizer, prompt))
    assert model.blocks.free == model.blocks.count
    assert max(len(spans) for spans in model.steps) == 4
    assert max(sum(len(span.ids) for span in spans) for spans in model.steps) <= sessions.TOKENS


def test_a_row_joins_at_the_next_step_and_leaves_at_its_end(session: Session, model: Remembering) -> None:
    session.add(Prompt("ab", 8))
    for _ in range(5):
        session.step()
    session.add(Prompt("cdef", 4))
    while session:
        session.step()
    assert [[len(span.ids) for span in spans] for spans in model.steps] == [
        *([2], [1], [1], [1], [1], [1]),  # the last of them was begun before the other came
        *([1, 4], [1, 1]),
        *([1], [1]),
    ]


def test_pieces_come_as_they_are_made(session: Session, model: Remembering, tokenizer: Tokenizer) -> None:
    texts: dict[int, list[Piece]] = {}
    session.add(Prompt("ab", 50))
    counts = []
    while session:
        step(session, texts)
        counts.append(len(texts.get(0, [])))
    assert len(counts) == 50
    expected = [piece for piece in alone(model, tokenizer, Prompt("ab", 50)) if piece.text]
    assert texts[0] == expected
    assert len(expected) > 20
    assert counts[25] > 5


def test_a_long_prompt_goes_in_by_parts_while_others_go_on(session: Session, model: Remembering) -> None:
    session.add(Prompt("ab", 50))
    session.step()
    session.add(Prompt("zq" * 700, 5))
    for _ in range(5):
        session.step()
    lengths = [[len(span.ids) for span in spans] for spans in model.steps]
    assert lengths == [[2], [1], [1, 511], [1, 511], [1, 378], [1, 1], [1, 1]]
    assert [span.ends for spans in model.steps for span in spans if len(span.ids) > 2] == [False, False, True]


def test_a_shared_beginning_is_computed_once(model: Remembering, tokenizer: Tokenizer) -> None:
    beginning = "zq" * 40
    for share, tokens in ((True, 83 + 3 * (83 - 2 * SIZE)), (False, 4 * 83)):
        model.steps.clear()
        session = Session(model, tokenizer, 2000, share=share)
        for end in ("abc", "bcd", "cde", "def"):
            session.add(Prompt(beginning + end, 1))
        while session:
            session.step()
        assert sum(len(span.ids) for spans in model.steps for span in spans) == tokens


def test_one_that_left_gives_its_place_and_its_blocks_to_the_next(session: Session, model: Remembering) -> None:
    for length in range(1, 6):
        session.add(Prompt("a" * length, 500))
    session.step()
    free = model.blocks.free
    session.cancel(1)
    session.cancel(1)  # twice is once
    assert model.blocks.free > free
    session.step()
    assert [len(span.ids) for span in model.steps[-1]] == [1, 1, 1, 5]
    assert len(session) == 4


def test_one_that_waits_can_leave(session: Session) -> None:
    texts: dict[int, list[Piece]] = {}
    for _ in range(6):
        session.add(Prompt("ab", 3))
    session.cancel(4)
    while session:
        step(session, texts)
    assert set(texts) == {0, 1, 2, 3, 5}


def test_who_finds_no_blocks_waits_and_is_not_overtaken(tokenizer: Tokenizer) -> None:
    model = Remembering(tokenizer.size, blocks=4)
    session = Session(model, tokenizer, 128)
    texts: dict[int, list[Piece]] = {}
    session.add(Prompt("a", 40))
    session.add(Prompt("b", 100))
    session.add(Prompt("c", 2))
    while 1 not in texts:
        step(session, texts)
        assert 2 not in texts
    assert texts[0][-1].finish
    while session:
        step(session, texts)
    assert texts[2][-1].finish


def test_what_cannot_be_taken_is_refused_and_disturbs_no_other(session: Session, tokenizer: Tokenizer) -> None:
    session.add(Prompt("ab", 3))
    with pytest.raises(ModelError, match="context of 2000"):
        session.add(Prompt("ab", 2000))
    with pytest.raises(ModelError, match="no tokens"):
        session.add(Prompt("", 3))
    with pytest.raises(RecipeError, match="objct"):
        session.add(Prompt("ab", 3, schema='{"type": "objct"}'))
    assert len(session) == 1


def test_a_row_that_fails_ends_alone(session: Session, model: Remembering) -> None:
    texts: dict[int, list[Piece]] = {}
    session.add(Prompt("ab", 9))
    bad = session.add(Prompt("cd", 9))
    step(session, texts)

    def take(logits: np.ndarray) -> Piece:
        raise ValueError("no such token")

    session._seats[bad].row.take = take  # type: ignore[method-assign]
    said = dict(session.step())
    assert isinstance(said.pop(bad), ValueError)
    while session:
        step(session, texts)
    assert texts[0][-1].tokens == 9
    assert model.blocks.free == model.blocks.count


def test_a_step_that_fails_ends_all_that_are_under_way(session: Session, model: Remembering) -> None:
    for _ in range(3):
        session.add(Prompt("ab", 9))
    model.broken = True
    said = session.step()
    assert [row for row, _ in said] == [0, 1, 2]
    assert all(isinstance(one, RuntimeError) for _, one in said)
    assert model.blocks.free == model.blocks.count
    model.broken = False
    texts: dict[int, list[Piece]] = {}
    session.add(Prompt("ab", 2))
    while session:
        step(session, texts)
    assert texts[3][-1].finish


def test_nothing_to_do_is_nothing_done(session: Session, model: Remembering) -> None:
    assert session.step() == []
    assert model.steps == []


def test_all_at_once_as_an_engine_does_it(model: Remembering, tokenizer: Tokenizer) -> None:
    asked = [prompt for prompt in prompts(30, seed=5) if prompt.text]
    found: dict[int, list[Piece]] = {}
    for piece in write_all(Session(model, tokenizer, 2000), asked, ""):
        found.setdefault(piece.row, []).append(piece)
    assert [whole(found[row]) for row in range(30)] == [whole(alone(model, tokenizer, prompt)) for prompt in asked]
    assert model.blocks.free == model.blocks.count


def test_who_stops_reading_leaves_nothing_behind(model: Remembering, tokenizer: Tokenizer) -> None:
    reading = write_all(Session(model, tokenizer, 2000), [Prompt("ab", 50), Prompt("cd", 50)], "")
    next(reading)
    reading.close()
    assert model.blocks.free == model.blocks.count
    with pytest.raises(ModelError, match="context"):
        next(write_all(Session(model, tokenizer, 20), [Prompt("ab", 5), Prompt("cd", 50)], ""))
    assert model.blocks.free == model.blocks.count
