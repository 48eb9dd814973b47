"""What token engines share: planning a `score` call and the decoding loop of `generate`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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


def plan(
    tokenizer: Tokenizer, prompts: Sequence[str], answers: Sequence[str], prefix: str, *, reuse: bool, context: int
) -> Plan:
    """Raises ModelError where a prompt is empty or longer than the context."""
    tree = build_tree([tokenizer.encode(answer) for answer in answers], tokenizer.eos_id)
    shared = begin(tokenizer, prefix)
    if any(not prompt.startswith(prefix) for prompt in prompts):
        raise ModelError("A prompt does not begin with the shared prefix.", "Give the prefix that all prompts share.")
    rows = tokenizer.encode_all([prompt[len(prefix) :] for prompt in prompts])
    if not reuse or any(not row for row in rows):
        rows, shared = [shared + row for row in rows], []
    if any(not row for row in rows):
        raise ModelError("A prompt has no tokens.", "Give every input some text.")
    longest = len(shared) + max((len(row) for row in rows), default=0) + len(tree.nodes)
    if longest > context:
        raise ModelError(
            f"A prompt has {longest} tokens; the model's context has {context}.", "Shorten the input or the prompt."
        )
    return Plan(tree, tuple(shared), rows)


def decode(
    logits_after: Callable[[list[int]], NDArray[np.float32]],
    tokenizer: Tokenizer,
    prompt: str,
    *,
    context: int,
    max_tokens: int,
    temperature: float,
    seed: int,
    stop: Sequence[str],
) -> Iterator[str]:
    """The text after `prompt`, piece by piece.

    `logits_after(tokens)` takes in further tokens and gives the logits [V] after the last of them.
    Raises ModelError where prompt and answer together could pass the context.
    """
    new = begin(tokenizer, prompt)
    if len(new) + max_tokens > context:
        raise ModelError(
            f"{len(new)} prompt tokens and {max_tokens} answer tokens pass the model's context of {context}.",
            "Shorten the prompt, or ask for fewer tokens.",
        )
    random = np.random.default_rng(seed)
    answer: list[int] = []
    shown = ""
    for _ in range(max_tokens):
        token = _draw(logits_after(new), temperature, random)
        if token in tokenizer.end_ids:
            break
        answer.append(token)
        new = [token]
        text = tokenizer.decode(answer)
        cut = min((text.find(s) for s in stop if s in text), default=-1)
        if cut >= 0:
            yield text[len(shown) : cut]
            return
        if not _may_go_on(text, stop):
            yield text[len(shown) :]
            shown = text
    rest = tokenizer.decode(answer)[len(shown) :]
    if rest:
        yield rest


def _may_go_on(text: str, stop: Sequence[str]) -> bool:
    """Is the end of the text an unfinished character, or the beginning of a stop text?"""
    return text.endswith("�") or any(text.endswith(s[:n]) for s in stop for n in range(1, len(s)))


def _draw(logits: NDArray[np.float32], temperature: float, random: np.random.Generator) -> int:
    if temperature <= 0:
        return int(logits.argmax())
    scaled = logits.astype(np.float64) / temperature
    weights = np.exp(scaled - scaled.max())
    return int(random.choice(len(weights), p=weights / weights.sum()))
