from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from aasut.formats.same_tokens import difference, identity
from aasut.formats.tokenizer import Tokenizer

Change = Callable[[dict[str, Any]], None]


def changed(folder: Path, change: Change, settings: dict[str, Any] | None = None) -> Tokenizer:
    """The folder's tokenizer with its JSON changed."""
    body = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    change(body)
    given = {"bos_token": "<|begin|>", "eos_token": "<|end|>"} if settings is None else settings
    return Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(body)), given)


def swap_tokens(body: dict[str, Any]) -> None:
    vocabulary = body["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]


def drop_a_merge(body: dict[str, Any]) -> None:
    body["model"]["merges"].pop()


def swap_merges(body: dict[str, Any]) -> None:
    merges = body["model"]["merges"]
    merges[0], merges[1] = merges[1], merges[0]


def lower_case(body: dict[str, Any]) -> None:
    body["normalizer"] = {"type": "Lowercase"}


def digits_together(body: dict[str, Any]) -> None:
    body["pre_tokenizer"] = body["pre_tokenizer"]["pretokenizers"][-1]


def make_text_of_a_control_token(body: dict[str, Any]) -> None:
    next(token for token in body["added_tokens"] if token["content"] == "<|end|>")["special"] = False


def another_end(body: dict[str, Any]) -> None:
    token = next(token for token in body["added_tokens"] if token["content"] == "<|end|>")
    token["content"] = "</s>"
    body["model"]["vocab"]["</s>"] = body["model"]["vocab"].pop("<|end|>")


def one_more_control_token(body: dict[str, Any]) -> None:
    last = max([*body["model"]["vocab"].values(), *(token["id"] for token in body["added_tokens"])])
    body["added_tokens"].append(body["added_tokens"][0] | {"id": last + 1, "content": "<|pad|>"})


def one_more_word(body: dict[str, Any]) -> None:
    last = max([*body["model"]["vocab"].values(), *(token["id"] for token in body["added_tokens"])])
    body["added_tokens"].append(body["added_tokens"][0] | {"id": last + 1, "content": "<new>", "special": False})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (swap_tokens, "token "),
        (drop_a_merge, "rules that join letters"),
        (swap_merges, "rules that join letters"),
        (lower_case, 'it makes other tokens of "The quick'),
        (digits_together, ""),  # these tokens hold no numbers, so that nothing comes of it
        (make_text_of_a_control_token, "token 1 is '<control token>' in the teacher and '<|end|>' in the student"),
        (one_more_word, "is '<new>' in the student alone"),
    ],
)
def test_what_changes_tokens_is_found(tiny_llama: Path, change: Change, says: str) -> None:
    one, other = Tokenizer.load(tiny_llama), changed(tiny_llama, change)
    assert says in difference(one, other)
    assert bool(difference(one, other)) == bool(says) == bool(difference(other, one))
    assert identity(one) != identity(other)


@pytest.mark.parametrize("change", [another_end, one_more_control_token])
def test_control_tokens_that_no_text_becomes_do_not_count(tiny_llama: Path, change: Change) -> None:
    one, other = Tokenizer.load(tiny_llama), changed(tiny_llama, change)
    assert difference(one, other) == difference(other, one) == ""


def test_names_and_the_tokens_that_begin_and_end_a_text_do_not_count(tiny_llama: Path) -> None:
    def post(body: dict[str, Any]) -> None:
        body["post_processor"] = body["decoder"] = None

    one, other = Tokenizer.load(tiny_llama), changed(tiny_llama, post, {"eos_token": "<|begin|>"})
    assert identity(one) == identity(other)
    assert difference(one, other) == ""


def test_a_file_written_otherwise_is_the_same(tiny_llama: Path) -> None:
    """Merges as texts, as older files have them."""

    def merges(body: dict[str, Any]) -> None:
        body["model"]["merges"] = [" ".join(pair) for pair in body["model"]["merges"]]

    assert identity(Tokenizer.load(tiny_llama)) == identity(changed(tiny_llama, merges))
