"""Decoding that is bound to a JSON Schema, or to text that is none: which tokens may come next, by llguidance.

The JSON has one space after each comma and colon and no other white space, as `json.dumps` writes
it, so that a student sees one form only. One space may stand before it.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aasut.errors import EngineError, RecipeError
from aasut.formats.tokenizer import Tokenizer

TEXT = r"/[^\[{\s](.|\n)*/"  # begins with what JSON objects and lists do not
SPACING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


class Grammar:
    """The state of one row's answer."""

    def __init__(self, tokenizer: Tokenizer, schema: str, *, plain: bool = False) -> None:
        """See `base.Prompt` for `plain`.

        Raises RecipeError for a schema that cannot be followed, EngineError for a model without an end token.
        """
        import llguidance

        if tokenizer.eos_id is None:
            raise EngineError("This model has no end token, so that no JSON can be bound.", "Take another model.")
        self.tokenizer = tokenizer
        self._matcher = llguidance.LLMatcher(_tokens(tokenizer), compiled(schema, plain))
        self._check()

    def mask(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """The logits [V] with those of tokens that may not come next at minus infinity."""
        import llguidance.numpy as bits

        words = bits.allocate_token_bitmask(1, len(logits))
        bits.fill_next_token_bitmask(self._matcher, words)
        self._check()
        allowed = np.unpackbits(words.view(np.uint8), bitorder="little")[: len(logits)].astype(bool)
        return np.where(allowed, logits, np.float32(-np.inf))

    def take(self, token: int) -> None:
        """Go on with a token that the mask allowed."""
        self._matcher.consume_token(token)
        self._check()

    def forced(self) -> list[int]:
        """Tokens of text that must come next, cut as the tokenizer cuts it; none that hangs on what follows.

        Jump-forward decoding (SGLang, Zheng et al. 2024).
        """
        found: list[int] = self._matcher.compute_ff_tokens()
        self._check()
        return found

    @property
    def complete(self) -> bool:
        """May nothing but the end come next?"""
        return bool(self._matcher.is_stopped())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise _refusal(str(self._matcher.get_error()))


def check(schema: str, what: str = "task.schema") -> None:
    """Raises RecipeError where decoding cannot be bound to this JSON Schema; `what` names it."""
    import llguidance

    problem = llguidance.LLMatcher.validate_grammar(compiled(schema, False))
    if problem:
        raise _refusal(problem, what)


def _refusal(problem: str, what: str = "task.schema") -> RecipeError:
    reason = " ".join(problem.partition("\n")[0].split())  # the lines after it show the grammar
    return RecipeError(f"{what} cannot be followed: {reason[:200]}.", "Write it with fewer or simpler keywords.")


@lru_cache(maxsize=8)
def compiled(schema: str, plain: bool) -> str:
    """The grammar of answers that are bound to a schema, or plain text, as llguidance reads it (see `base.Prompt`)."""
    import llguidance

    rules = ['start: " "? answer']
    if schema:
        rules += [f"value: %json {json.dumps(json.loads(schema) | {'x-guidance': SPACING})}"]
    if plain:
        rules += [f"TEXT: {TEXT}"]
    rules += [f"answer: {' | '.join(['value'] * bool(schema) + ['TEXT'] * plain)}"]
    grammar: str = llguidance.LLMatcher.grammar_from_lark("\n".join(rules))
    return grammar


@lru_cache(maxsize=4)
def _tokens(tokenizer: Tokenizer) -> Any:
    import llguidance

    return llguidance.LLTokenizer(tokenizer.to_json(), n_vocab=tokenizer.size, eos_token=sorted(tokenizer.end_ids))
