from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax

from aasut.engine.base import Piece, Prompt
from aasut.engine.decode import NARROW, Text, decode, draw, likeliest, logprob
from aasut.errors import ModelError, RecipeError
from aasut.formats.tokenizer import Tokenizer

SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Goa", "Pune"]}, "n": {"type": "integer"}},
        "required": ["city", "n"],
        "additionalProperties": False,
    }
)


@pytest.fixture(scope="session")
def tokenizer(tiny_llama: Path) -> Tokenizer:
    return Tokenizer.load(tiny_llama)


class Scripted:
    """A stepper whose rows greedily say their texts, then the end token; `given` are the tokens that came in."""

    def __init__(self, tokenizer: Tokenizer, *texts: str, end: int = 1) -> None:
        self.size = tokenizer.size
        self.left = [[*tokenizer.encode(text), end] for text in texts]
        self.given: list[list[list[int]]] = []
        self.rows: list[int] = []
        self.prefix: tuple[int, ...] = ()

    def start(self, prefix: tuple[int, ...], rows: Sequence[Sequence[int]]) -> np.ndarray:
        self.prefix, self.rows = prefix, list(range(len(rows)))
        self.given.append([list(row) for row in rows])
        return self._logits()

    def advance(self, keep: Sequence[int], tokens: Sequence[Sequence[int]]) -> np.ndarray:
        self.rows = [self.rows[place] for place in keep]
        self.given.append([list(row) for row in tokens])
        for row, given in zip(self.rows, tokens, strict=True):  # all but the first came without being asked for
            del self.left[row][: len(given) - 1]
        return self._logits()

    def _logits(self) -> np.ndarray:
        logits = np.zeros((len(self.rows), self.size), np.float32)
        for place, row in enumerate(self.rows):
            logits[place, self.left[row].pop(0)] = 9
        return logits


class Fixed(Scripted):
    """A stepper that always gives the same logits."""

    def __init__(self, logits: np.ndarray) -> None:
        self.logits = logits

    def start(self, prefix: tuple[int, ...], rows: Sequence[Sequence[int]]) -> np.ndarray:
        return np.stack([self.logits] * len(rows))

    def advance(self, keep: Sequence[int], tokens: Sequence[Sequence[int]]) -> np.ndarray:
        return np.stack([self.logits] * len(keep))


def all_pieces(tokenizer: Tokenizer, model: Scripted, prompts: list[Prompt], context: int = 512) -> list[Piece]:
    return list(decode(model, tokenizer, prompts, "", reuse=True, context=context))


def pieces(
    tokenizer: Tokenizer,
    model: Scripted,
    *,
    prompt: str = "ab",
    max_tokens: int = 50,
    context: int = 512,
    temperature: float = 0.0,
    seed: int = 0,
    stop: tuple[str, ...] = (),
    schema: str = "",
) -> list[str]:
    asked = Prompt(prompt, max_tokens, temperature, 1.0, seed, stop, schema)
    found = all_pieces(tokenizer, model, [asked], context)
    assert [bool(piece.finish) for piece in found] == [False] * (len(found) - 1) + [True]
    return [piece.text for piece in found if piece.text]


def test_text_comes_in_pieces_until_the_end_token(tokenizer: Tokenizer) -> None:
    model = Scripted(tokenizer, " the battery")
    found = pieces(tokenizer, model)
    assert "".join(found) == " the battery"
    assert len(found) > 1
    assert model.left == [[]]
    ids = tokenizer.encode(" the battery")
    assert model.given == [[tokenizer.encode("ab")], *[[[i]] for i in ids]]


def test_any_of_a_models_end_tokens_ends(tiny_llama: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_llama, tmp_path / "model")
    (tmp_path / "model" / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 40]}))
    tokenizer = Tokenizer.load(tmp_path / "model")
    model = Scripted(tokenizer, " the battery", end=40)
    assert "".join(pieces(tokenizer, model)) == " the battery"


def test_max_tokens_is_kept(tokenizer: Tokenizer) -> None:
    model = Scripted(tokenizer, "zqjzqjzqj")
    assert "".join(pieces(tokenizer, model, max_tokens=4)) == "zqjz"
    assert len(model.given) == 4


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("zqj\n\nReview", ("\n\n",), "zqj"),
        ("zqj\nReview", ("\n\n",), "zqj\nReview"),  # a beginning that goes on otherwise is shown
        ("zqj END", ("END", "j E"), "zq"),  # the earliest stop text
        ("zqj\n", ("\n\n",), "zqj\n"),  # a beginning at the end is shown too
        ("\n\nzqj", ("\n\n",), ""),
    ],
)
def test_stop_texts_end_and_are_not_shown(
    tokenizer: Tokenizer, text: str, stop: tuple[str, ...], expected: str
) -> None:
    assert "".join(pieces(tokenizer, Scripted(tokenizer, text), stop=stop)) == expected


def test_of_two_stop_texts_in_one_token_the_first_ends(tokenizer: Tokenizer) -> None:
    long = next(w for w in (" battery", " great", " the", " positive") if len(tokenizer.encode(w)) == 1)
    found = pieces(tokenizer, Scripted(tokenizer, "zqj" + long), stop=(long[-2:], long[:2]))
    assert "".join(found) == "zqj"


def test_a_piece_never_ends_inside_a_character(tokenizer: Tokenizer) -> None:
    text = "Preis 5 € für 猫 🐈"
    found = pieces(tokenizer, Scripted(tokenizer, text))
    assert "".join(found) == text
    assert len(found) > 10
    assert not any("�" in piece for piece in found)


def test_prompt_and_answer_must_fit_the_context_together(tokenizer: Tokenizer) -> None:
    prompt = "zqj" * 4
    length = len(tokenizer.encode(prompt))
    assert pieces(tokenizer, Scripted(tokenizer, "a"), prompt=prompt, max_tokens=5, context=length + 5) == ["a"]
    with pytest.raises(ModelError, match=f"context of {length + 4}"):
        pieces(tokenizer, Scripted(tokenizer, "a"), prompt=prompt, max_tokens=5, context=length + 4)


def test_temperature_draws_from_the_tempered_softmax_and_a_seed_repeats_it(tokenizer: Tokenizer) -> None:
    a, b = tokenizer.encode("a")[0], tokenizer.encode("b")[0]
    logits = np.full(tokenizer.size, -1e9, np.float32)
    logits[a], logits[b] = 2.0, 0.0

    def text(temperature: float, seed: int) -> str:
        drawn = pieces(tokenizer, Fixed(logits), max_tokens=800, context=9999, temperature=temperature, seed=seed)
        return "".join(drawn)

    for temperature in (1.0, 2.0):
        share = text(temperature, 1).count("a") / 800
        assert share == pytest.approx(1 / (1 + np.exp(-2.0 / temperature)), abs=0.05)
    assert text(1.0, 1) == text(1.0, 1) != text(1.0, 2)
    assert set(text(0.0, 1)) == {"a"}


def test_rows_end_by_themselves_and_the_others_go_on(tokenizer: Tokenizer) -> None:
    model = Scripted(tokenizer, "zq", "zqjzqj", "j")
    found = all_pieces(tokenizer, model, [Prompt("ab", 9), Prompt("abc", 4), Prompt("a", 9, stop=("j",))])
    texts = ["".join(piece.text for piece in found if piece.row == row) for row in range(3)]
    assert texts == ["zq", "zqjz", ""]
    assert {piece.row: (piece.tokens, piece.finish) for piece in found if piece.finish} == {
        0: (2, "stop"),
        1: (4, "length"),
        2: (1, "stop"),
    }
    assert [len(step) for step in model.given] == [3, 2, 2, 1]


def test_the_shared_prefix_is_taken_in_once_unless_it_is_not_to_be_reused(tokenizer: Tokenizer) -> None:
    for reuse in (True, False):
        model = Scripted(tokenizer, "z", "z")
        list(decode(model, tokenizer, [Prompt("qj a", 2), Prompt("qj b", 2)], "qj", reuse=reuse, context=99))
        shared = tokenizer.encode("qj")
        assert model.prefix == (tuple(shared) if reuse else ())
        assert model.given[0][0] == ([] if reuse else shared) + tokenizer.encode(" a")


def test_a_schema_binds_the_answer(tokenizer: Tokenizer) -> None:
    everything = Fixed(np.zeros(tokenizer.size, np.float32))
    for seed in range(20):
        text = "".join(pieces(tokenizer, everything, max_tokens=60, temperature=1.0, seed=seed, schema=SCHEMA))
        if text.endswith("}"):
            found = json.loads(text)
            assert found["city"] in ("Goa", "Pune")
            assert isinstance(found["n"], int)
            assert text.strip().replace("-0", "0") == json.dumps(found)
            break
    else:
        pytest.fail("no answer came to its end")


def test_an_answer_that_says_what_the_schema_allows_ends_by_itself(tokenizer: Tokenizer) -> None:
    for text in ('{"city": "Goa", "n": 7}', ' {"city": "Pune", "n": -1}'):
        assert "".join(pieces(tokenizer, Scripted(tokenizer, text), schema=SCHEMA)) == text


def test_a_schema_that_cannot_be_followed_is_refused_in_one_line(tokenizer: Tokenizer) -> None:
    with pytest.raises(RecipeError, match=r"task.schema cannot be followed: .*objct\.") as caught:
        pieces(tokenizer, Scripted(tokenizer, "a"), schema='{"type": "objct"}')
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("top_p", "allowed"), [(0.0, {2}), (0.5, {2}), (0.7, {2, 0}), (0.95, {0, 1, 2}), (1.0, {0, 1, 2})]
)
def test_top_p_keeps_the_fewest_likeliest_that_reach_it(top_p: float, allowed: set[int]) -> None:
    logits = np.log(np.array([0.3, 0.1, 0.6], np.float32))
    random = np.random.default_rng(1)
    assert {draw(logits, 1.0, top_p, random) for _ in range(300)} == allowed


def test_logprobs_of_the_tokens_chosen(tokenizer: Tokenizer) -> None:
    asked = Prompt("x", 8, logprobs=True)
    *others, last = decode(Scripted(tokenizer, "ab"), tokenizer, [asked], "", reuse=True, context=64)
    tokens = len(tokenizer.encode("ab"))
    # Nine for the token of the text, zero for all others; the end token counts too.
    chance = np.exp(9) / (np.exp(9) + tokenizer.size - 1)
    assert last.logprobs == pytest.approx([np.log(chance)] * (tokens + 1), abs=1e-6)
    assert all(piece.logprobs == () for piece in others)
    pieces = list(decode(Scripted(tokenizer, "ab"), tokenizer, [Prompt("x", 8)], "", reuse=True, context=64))
    assert pieces[-1].logprobs == ()


def test_logprobs_are_those_of_a_softmax() -> None:
    logits = np.random.default_rng(0).normal(0, 3, 500).astype(np.float32)
    assert [logprob(logits, t) for t in range(500)] == pytest.approx(log_softmax(logits.astype(np.float64)), abs=1e-6)
    masked = np.where(np.arange(500) % 2, -np.inf, logits)
    assert logprob(masked, 4) == pytest.approx(log_softmax(masked[::2].astype(np.float64))[2], abs=1e-6)


def test_what_a_schema_forces_is_certain(tokenizer: Tokenizer) -> None:
    even = Fixed(np.zeros(tokenizer.size, np.float32))
    asked = Prompt("x", 64, schema=SCHEMA, logprobs=True)
    last = list(decode(even, tokenizer, [asked], "", reuse=True, context=256))[-1]
    assert len(last.logprobs) >= last.tokens > 0
    assert max(last.logprobs) == pytest.approx(0.0, abs=1e-6)
    assert min(last.logprobs) < -0.1


def test_what_must_come_is_not_asked_for(tokenizer: Tokenizer) -> None:
    text = '{"city": "Pune", "n": 42}'
    model = Scripted(tokenizer, text)
    asked = Prompt("x", 64, schema=SCHEMA, logprobs=True, top_logprobs=2)
    found = all_pieces(tokenizer, model, [asked])
    ids = tokenizer.encode(text)
    assert list(found[-1].ids) == ids
    steps = model.given[1:]
    read = [token for step in steps for token in step[0]]
    assert read == ids[: len(read)]
    assert len(steps) < len(read)
    assert len(found[-1].logprobs) == len(ids)
    said = [token for piece in found for token in piece.said]
    assert "".join(token.text for token in said) == text
    certain = [token for token in said if token.top == ((token.raw, 0.0),)]
    assert len(certain) >= len(read) - len(steps) > 3
    assert all(token.logprob == 0.0 for token in certain)


def test_an_answer_is_cut_where_it_is_to_be_within_what_must_come(tokenizer: Tokenizer) -> None:
    text = '{"city": "Pune", "n": 42}'
    for most in range(1, 12):
        found = all_pieces(tokenizer, Scripted(tokenizer, text), [Prompt("x", most, schema=SCHEMA)])
        assert list(found[-1].ids) == tokenizer.encode(text)[:most]
        assert found[-1].finish == "length"
    found = all_pieces(tokenizer, Scripted(tokenizer, text), [Prompt("x", 64, stop=('y": ',), schema=SCHEMA)])
    assert ("".join(piece.text for piece in found), found[-1].finish) == ('{"cit', "stop")


def test_of_many_rows_each_takes_one_token_a_step(tokenizer: Tokenizer) -> None:
    texts = [f'{{"city": "{city}", "n": {n}}}' for n in range(NARROW) for city in ("Pune", "Goa")][: NARROW + 1]
    model = Scripted(tokenizer, *texts)
    found = all_pieces(tokenizer, model, [Prompt(f"{n}", 64, schema=SCHEMA) for n in range(len(texts))])
    said = ["".join(piece.text for piece in found if piece.row == row) for row in range(len(texts))]
    assert said == texts
    wide = [step for step in model.given[1:] if len(step) > NARROW]
    assert {len(row) for step in wide for row in step} == {1}


TOLD = [
    (" the battery is", (), 50, " the battery is"),
    ("नमस्ते 🙂!", (), 50, "नमस्ते 🙂!"),
    ("one###two", ("###",), 50, "one"),
    ("the battery", ("he batt",), 50, "t"),
    ("a🙂", (), 3, "a\ufffd"),
    ("ab#", ("##",), 50, "ab#"),
]


@pytest.mark.parametrize(("text", "stop", "most", "shown"), TOLD)
def test_tokens_make_the_text_of_their_piece(
    tokenizer: Tokenizer, text: str, stop: tuple[str, ...], most: int, shown: str
) -> None:
    asked = Prompt("ab", most, stop=stop, logprobs=True, top_logprobs=3)
    found = all_pieces(tokenizer, Scripted(tokenizer, text), [asked])
    for piece in found:
        assert "".join(token.text for token in piece.said) == piece.text
    said = [token for piece in found for token in piece.said]
    assert "".join(token.text for token in said) == shown
    assert b"".join(token.raw for token in said).decode("utf-8", "replace") == shown
    assert [token.logprob for token in said] == list(found[-1].logprobs[: len(said)])
    for token in said[: -1 if stop else None]:
        assert token.top[0][0] == token.raw
        assert len(token.top) == 3
        assert token.logprob == token.top[0][1] > token.top[1][1]


def test_tokens_are_told_only_where_asked_for(tokenizer: Tokenizer) -> None:
    found = all_pieces(tokenizer, Scripted(tokenizer, "ab"), [Prompt("ab", 5)])
    assert not any(piece.said for piece in found)
    found = all_pieces(tokenizer, Scripted(tokenizer, "ab"), [Prompt("ab", 5, logprobs=True)])
    assert [token.top for piece in found for token in piece.said] == [(), ()]


def test_alternatives_are_those_that_may_come(tokenizer: Tokenizer) -> None:
    logits = np.zeros(5, np.float32)
    logits[[1, 3]] = [2, -np.inf]
    assert likeliest(logits, 0).tolist() == []
    assert likeliest(logits, 1).tolist() == [1]
    assert sorted(likeliest(logits, 9).tolist()) == [0, 1, 2, 4]
    asked = Prompt("ab", 50, schema=SCHEMA, logprobs=True, top_logprobs=20)
    found = all_pieces(tokenizer, Fixed(np.zeros(tokenizer.size, np.float32)), [asked])
    first = found[0].said[0]
    assert {raw[:1] for raw, _ in first.top} <= {b"{", b" "}


def test_plain_text_may_stand_instead_of_json(tokenizer: Tokenizer) -> None:
    def answer(text: str, **bound: Any) -> str:
        asked = Prompt("ab", 60, **bound)
        return "".join(piece.text for piece in all_pieces(tokenizer, Scripted(tokenizer, text), [asked]))

    whole = '{"city": "Goa", "n": 3}'
    assert answer(f" {whole}", schema=SCHEMA, plain=True) == f" {whole}"
    assert answer(" It is [warm].", schema=SCHEMA, plain=True) == " It is [warm]."
    assert answer("It is warm.", plain=True) == "It is warm."


def test_text_that_is_decoded_bit_by_bit_is_that_of_all_tokens(tokenizer: Tokenizer) -> None:
    random = np.random.default_rng(2)
    for number in range(60):
        ids = (
            tokenizer.encode("5 € für 猫 🐈 नमस्ते the battery ") * 2
            if number == 0
            else random.integers(0, 300, 90).tolist()
        )
        text = Text(tokenizer)
        for end in range(1, len(ids) + 1):
            assert text.add(ids[end - 1]) == tokenizer.decode(ids[:end])
