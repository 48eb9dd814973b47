from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from aasut.engine.common import begin, decode, plan
from aasut.errors import ModelError
from aasut.formats.tokenizer import Tokenizer
from aasut.types import Usage

ANSWERS = [" positive", " negative"]


@pytest.fixture(scope="session")
def tokenizer(tiny_llama: Path) -> Tokenizer:
    return Tokenizer.load(tiny_llama)


@pytest.fixture(scope="session")
def with_begin(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """The same tokenizer for a model that wants its begin token."""
    folder = tmp_path_factory.mktemp("begin")
    inner = tokenizers.Tokenizer.from_file(str(tiny_llama / "tokenizer.json"))
    inner.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", 0)]
    )
    inner.save(str(folder / "tokenizer.json"))
    shutil.copy(tiny_llama / "tokenizer_config.json", folder)
    return Tokenizer.load(folder)


def test_a_prompt_is_the_prefix_tokens_then_its_rest(tokenizer: Tokenizer) -> None:
    prefix, rests = "Review: great\n\n", ["Review: a", "Review: the battery"]
    kept = plan(tokenizer, [prefix + r for r in rests], ANSWERS, prefix, reuse=True, context=512)
    assert kept.prefix == tuple(tokenizer.encode(prefix))
    assert kept.rows == [tokenizer.encode(r) for r in rests]
    whole = plan(tokenizer, [prefix + r for r in rests], ANSWERS, prefix, reuse=False, context=512)
    assert whole.prefix == ()
    assert whole.rows == [[*kept.prefix, *row] for row in kept.rows]


def test_usage_says_what_was_cached(tokenizer: Tokenizer) -> None:
    prefix = "Review: great\n\n"
    size = len(tokenizer.encode(prefix))
    rests = [len(tokenizer.encode(r)) for r in ("a", "the battery")]
    prompts = [prefix + "a", prefix + "the battery"]
    total = sum(rests) + 2 * size
    kept = plan(tokenizer, prompts, ANSWERS, prefix, reuse=True, context=512)
    assert kept.usage == Usage(total, 2, 2 * size)
    assert plan(tokenizer, prompts, ANSWERS, prefix, reuse=False, context=512).usage == Usage(total, 2, 0)


@pytest.mark.parametrize("reuse", [True, False])
def test_the_begin_token_stands_once_before_everything(with_begin: Tokenizer, *, reuse: bool) -> None:
    made = plan(with_begin, ["ab cd", "ab ef"], ANSWERS, "ab", reuse=reuse, context=512)
    whole = [[*made.prefix, *row] for row in made.rows]
    assert [row.count(0) for row in whole] == [1, 1]
    assert [row[0] for row in whole] == [0, 0]
    assert begin(with_begin, "ab") == [0, *with_begin.encode("ab")]


def test_a_prompt_that_is_the_prefix_alone_still_has_a_last_token(tokenizer: Tokenizer) -> None:
    made = plan(tokenizer, ["ab", "abc"], ANSWERS, "ab", reuse=True, context=512)
    assert made.prefix == ()
    assert [tokenizer.decode(row) for row in made.rows] == ["ab", "abc"]


@pytest.mark.parametrize(
    ("prompts", "prefix", "context", "message"),
    [
        (["ab", "xb"], "a", 512, "does not begin"),
        (["ab", ""], "", 512, "no tokens"),
        (["ab", "word " * 60], "", 60, "context has 60"),
        (["xy" + "word " * 60], "xy", 60, "context has 60"),
    ],
)
def test_prompts_that_cannot_be_run_are_refused(
    tokenizer: Tokenizer, prompts: list[str], prefix: str, context: int, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        plan(tokenizer, prompts, ANSWERS, prefix, reuse=True, context=context)


def test_a_prompt_may_fill_the_context_to_the_last_token(tokenizer: Tokenizer) -> None:
    prompt = "zqj" * 9  # no merges: a token a letter
    length = len(tokenizer.encode(prompt))
    tree = plan(tokenizer, [prompt], ANSWERS, "", reuse=True, context=512).tree
    plan(tokenizer, [prompt], ANSWERS, "", reuse=True, context=length + len(tree.nodes))
    with pytest.raises(ModelError, match="context has"):
        plan(tokenizer, [prompt], ANSWERS, "", reuse=True, context=length + len(tree.nodes) - 1)


class Scripted:
    """Logits that make greedy decoding say `text`, then the end token; `given` are the tokens that came in."""

    def __init__(self, tokenizer: Tokenizer, text: str, end: int = 1) -> None:
        self.size, self.left = tokenizer.size, [*tokenizer.encode(text), end]
        self.given: list[list[int]] = []

    def __call__(self, tokens: list[int]) -> np.ndarray:
        self.given.append(tokens)
        logits = np.zeros(self.size, np.float32)
        logits[self.left.pop(0)] = 9
        return logits


def pieces(
    tokenizer: Tokenizer,
    logits_after: Callable[[list[int]], np.ndarray],
    *,
    prompt: str = "ab",
    max_tokens: int = 50,
    context: int = 512,
    temperature: float = 0.0,
    seed: int = 0,
    stop: tuple[str, ...] = (),
) -> list[str]:
    return list(
        decode(
            logits_after,
            tokenizer,
            prompt,
            context=context,
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            stop=stop,
        )
    )


def test_text_comes_in_pieces_until_the_end_token(tokenizer: Tokenizer) -> None:
    model = Scripted(tokenizer, " the battery")
    found = pieces(tokenizer, model)
    assert "".join(found) == " the battery"
    assert len(found) > 1
    assert model.left == []
    ids = tokenizer.encode(" the battery")
    assert model.given == [tokenizer.encode("ab"), *[[i] for i in ids]]


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
        drawn = pieces(tokenizer, lambda _: logits, max_tokens=800, context=9999, temperature=temperature, seed=seed)
        return "".join(drawn)

    for temperature in (1.0, 2.0):
        share = text(temperature, 1).count("a") / 800
        assert share == pytest.approx(1 / (1 + np.exp(-2.0 / temperature)), abs=0.05)
    assert text(1.0, 1) == text(1.0, 1) != text(1.0, 2)
    assert set(text(0.0, 1)) == {"a"}
