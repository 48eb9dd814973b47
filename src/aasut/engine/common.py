"""What token engines share: prompts as tokens, and the plan of a `score` call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aasut.engine.tree import TokenTree
from aasut.engine.tree import build as build_tree
from aasut.errors import ModelError
from aasut.formats.tokenizer import Tokenizer
from aasut.types import Usage

PREFIXES_KEPT = 8  # states of shared prefixes that an engine holds at most


@dataclass(frozen=True)
class Plan:
    """One `score` call in tokens: every row goes on from `prefix`, which is empty where nothing is reused."""

    tree: TokenTree
    prefix: tuple[int, ...]
    rows: list[list[int]]

    @property
    def usage(self) -> Usage:
        cached = len(self.prefix) * len(self.rows)
        return Usage(sum(len(row) for row in self.rows) + cached, len(self.rows), cached)


def begin(tokenizer: Tokenizer, text: str) -> list[int]:
    """Tokens of the text that a prompt begins with, after the model's begin token where it wants one."""
    first = [tokenizer.bos_id] if tokenizer.add_bos and tokenizer.bos_id is not None else []
    return first + tokenizer.encode(text)


def opening(tokenizer: Tokenizer) -> list[int]:
    """Tokens that a text by itself stands behind: the begin token where the model wants one, else a line break.

    A causal model says nothing of the first token it is given, and any tokenizer has a line break.
    """
    return begin(tokenizer, "") or tokenizer.encode("\n")


def tokens_of(
    tokenizer: Tokenizer, prompts: Sequence[str], prefix: str, *, reuse: bool
) -> tuple[tuple[int, ...], list[list[int]]]:
    """(tokens of the shared prefix, those of each prompt's rest); all in the rows where nothing is to be reused.

    Raises ModelError where a prompt is empty or does not begin with the prefix.
    """
    shared = begin(tokenizer, prefix)
    if any(not prompt.startswith(prefix) for prompt in prompts):
        raise ModelError("A prompt does not begin with the shared prefix.", "Give the prefix that all prompts share.")
    rows = tokenizer.encode_all([prompt[len(prefix) :] for prompt in prompts])
    if not reuse or any(not row for row in rows):
        rows, shared = [shared + row for row in rows], []
    if any(not row for row in rows):
        raise ModelError("A prompt has no tokens.", "Give every input some text.")
    return tuple(shared), rows


def plan(
    tokenizer: Tokenizer, prompts: Sequence[str], answers: Sequence[str], prefix: str, *, reuse: bool, context: int
) -> Plan:
    """Raises ModelError where a prompt is empty or longer than the context."""
    tree = build_tree([tokenizer.encode(answer) for answer in answers], tokenizer.eos_id)
    shared, rows = tokens_of(tokenizer, prompts, prefix, reuse=reuse)
    longest = len(shared) + max((len(row) for row in rows), default=0) + len(tree.nodes)
    if longest > context:
        raise ModelError(
            f"A prompt has {longest} tokens; the model's context has {context}.", "Shorten the input or the prompt."
        )
    return Plan(tree, shared, rows)
