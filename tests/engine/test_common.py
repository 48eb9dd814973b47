from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tokenizers

from aasut.engine.common import begin, plan
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
