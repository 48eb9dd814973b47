"""The decoding loop that token engines share: many rows at once, each with its own settings and its own end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from aasut.engine.base import Piece, Prompt, Token
from aasut.engine.common import tokens_of
from aasut.engine.grammar import Grammar
from aasut.errors import ModelError
from aasut.formats.token_bytes import vocabulary_bytes
from aasut.formats.tokenizer import Tokenizer

ALTERNATIVES = 20  # to a token, listed at most
ROWS = 64  # decoded at once; more rows share each reading of the weights
NARROW = 8  # rows; of more, each takes one token a step, since padding to several would cost more than it saves
OVERLAP = 8  # tokens

Logits = NDArray[np.float32]


class Stepper(Protocol):
    """A model that takes tokens of many rows and keeps their state."""

    def start(self, prefix: tuple[int, ...], rows: Sequence[Sequence[int]]) -> Logits:
        """Forget everything; take in the rows, each behind `prefix`. Logits [rows, V] after their last tokens."""

    def advance(self, keep: Sequence[int], tokens: Sequence[Sequence[int]]) -> Logits:
        """Go on with the rows at these places of the last call, one token or more each. Logits [len(keep), V]."""


def decode(
    stepper: Stepper, tokenizer: Tokenizer, prompts: Sequence[Prompt], prefix: str, *, reuse: bool, context: int
) -> Iterator[Piece]:
    """See `Engine.generate`."""
    shared, rows = tokens_of(tokenizer, [prompt.text for prompt in prompts], prefix, reuse=reuse)
    for prompt, row in zip(prompts, rows, strict=True):
        check_length(len(shared) + len(row), prompt.max_tokens, context)
    for begin in range(0, len(rows), ROWS):
        part = range(begin, min(begin + ROWS, len(rows)))
        live = [Row(number, prompts[number], tokenizer) for number in part]
        logits = stepper.start(shared, [rows[number] for number in part])
        while live:
            pieces = [row.take(logits[place]) for place, row in enumerate(live) if not row.fresh]
            ended = {piece.row for piece in pieces if piece.finish}
            keep = [place for place, row in enumerate(live) if row.number not in ended]
            live = [live[place] for place in keep]
            if live:  # the engine works on while the caller reads: pieces go out afterwards
                width = max(len(row.fresh) for row in live) if len(live) <= NARROW else 1
                logits = stepper.advance(keep, [row.fresh[:width] for row in live])
                for one in live:
                    del one.fresh[:width]
            yield from (piece for piece in pieces if piece.text or piece.finish)


def check_length(prompt: int, answer: int, context: int) -> None:
    """Raises ModelError where a prompt and its answer, in tokens, pass the model's context."""
    if prompt + answer > context:
        raise ModelError(
            f"{prompt} prompt tokens and {answer} answer tokens pass the model's context of {context}.",
            "Shorten the prompt, or ask for fewer tokens.",
        )


class Row:
    """One answer under way."""

    def __init__(self, number: int, prompt: Prompt, tokenizer: Tokenizer) -> None:
        self.number, self.prompt, self.tokenizer = number, prompt, tokenizer
        bound = prompt.schema or prompt.plain
        self.grammar = Grammar(tokenizer, prompt.schema, plain=prompt.plain) if bound else None
        self.random = np.random.default_rng(prompt.seed)
        self.answer: list[int] = []
        self.fresh: list[int] = []  # of the answer, that the model has not read
        self.certain: list[int] = []  # tokens that must come, where they are chosen elsewhere
        self.text = Text(tokenizer)
        self.logprobs: list[float] = []
        self.held: list[Token] = []  # tokens whose text is not shown yet
        self.told = 0  # characters of the answer that stand in tokens
        self.shown = 0

    def take(self, logits: Logits) -> Piece:
        """Choose the next token, and take those that then must come; what may be shown of the answer now."""
        if self.grammar is not None:
            logits = self.grammar.mask(logits)
        before = len(self.answer)
        token = draw(logits, self.prompt.temperature, self.prompt.top_p, self.random)
        text, finish = self._add(token, *self._places(logits, token))
        for token in self.grammar.forced() if self.grammar is not None and not finish else ():
            text, finish = self._add(token, 0.0, [(token, 0.0)][: self.prompt.top_logprobs])
            if finish:
                break
        self.fresh = self.answer[before:]
        return self._show(text, finish)

    def hear(self, token: int, sure: float, listed: Sequence[tuple[int, float]]) -> Piece:
        """`take` for a token that was chosen elsewhere, whose log-probability is `sure`; `listed`: the likeliest."""
        expected = self.certain[:1]
        if expected == [token]:
            sure, listed = 0.0, [(token, 0.0)][: self.prompt.top_logprobs]
        text, finish = self._add(token, sure, listed)
        self.certain = self.certain[1:] if expected == [token] else []
        if self.grammar is not None and self.prompt.logprobs and not self.certain and not finish:
            self.certain = self.grammar.forced()
        return self._show(text, finish)

    def _places(self, logits: Logits, token: int) -> tuple[float, list[tuple[int, float]]]:
        """(log-probability of the token, the likeliest in its place), where they are asked for."""
        if not self.prompt.logprobs:
            return 0.0, []
        likely = likeliest(logits, self.prompt.top_logprobs)
        return logprob(logits, token), [(int(i), logprob(logits, int(i))) for i in likely]

    def _add(self, token: int, sure: float, listed: Sequence[tuple[int, float]]) -> tuple[str, str]:
        """The answer's text with a token more, and why it ends there."""
        if self.prompt.logprobs:
            self.logprobs.append(sure)
        if token in self.tokenizer.end_ids:
            return self.text.whole, "stop"
        self.answer.append(token)
        text = self.text.add(token)
        if self.prompt.logprobs:
            self._hold(text, listed)
        cut = min((text.find(stop) for stop in self.prompt.stop if stop in text), default=-1)
        if cut >= 0:
            return text[:cut], "stop"
        if self.grammar is not None:
            self.grammar.take(token)
            if self.grammar.complete:
                return text, "stop"
        return text, "length" if len(self.answer) == self.prompt.max_tokens else ""

    def _hold(self, text: str, listed: Sequence[tuple[int, float]]) -> None:
        """Note the last token, with what it adds to the text."""
        token, told = self.answer[-1], self.told
        self.told = max(told, len(text.rstrip("\ufffd")))
        known = _bytes_of(self.tokenizer)
        added = text[told : self.told]
        raw = known.get(token) or added.encode("utf-8", "replace")
        top = tuple((known.get(i) or self.tokenizer.written(i).encode(), value) for i, value in listed)
        self.held.append(Token(added, raw, self.logprobs[-1], top))

    def _show(self, text: str, finish: str) -> Piece:
        """What may be shown of the answer's text now."""
        if finish:
            return self._piece(text, finish)
        return self._piece(text[: self.shown] if _may_go_on(text, self.prompt.stop) else text, "")

    def _piece(self, text: str, finish: str) -> Piece:
        said = self._said(text, finish) if len(text) > self.shown or finish else ()
        sure = tuple(self.logprobs) if finish else ()
        ids = tuple(self.answer) if finish else ()
        piece = Piece(self.number, text[self.shown :], len(self.answer), finish, sure, said, ids)
        self.shown = max(self.shown, len(text))
        return piece

    def _said(self, text: str, finish: str) -> tuple[Token, ...]:
        """The tokens of the text that is shown now; one that a stop text cuts is cut too, and those behind it left."""
        held, self.held = self.held, []
        if finish and held and len(text) > self.told:  # the answer ends within a character
            held[-1] = replace(held[-1], text=held[-1].text + text[self.told :])
        found, left = [], len(text) - self.shown
        for token in held:
            if left == 0 and token.text:
                break
            kept = token.text[:left]
            found.append(token if kept == token.text else replace(token, text=kept, raw=kept.encode()))
            left -= len(kept)
        return tuple(found)


class Text:
    """The text of tokens that come one by one; only the last ones are decoded anew each time."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.whole = ""
        self._settled = ""
        self._tail: list[int] = []
        self._skip = 0  # characters of the tail's text that are in `_settled`

    def add(self, token: int) -> str:
        """The whole text with one token more."""
        self._tail.append(token)
        text = self.tokenizer.decode(self._tail)
        self.whole = self._settled + text[self._skip :]
        if len(self._tail) >= 2 * OVERLAP and not text.endswith("\ufffd"):
            # A decoder may treat the first token in a special way, so some are kept before those that come.
            self._tail = self._tail[-OVERLAP:]
            self._settled, self._skip = self.whole, len(self.tokenizer.decode(self._tail))
        return self.whole


def _may_go_on(text: str, stop: Sequence[str]) -> bool:
    """Is the end of the text an unfinished character, or the beginning of a stop text?"""
    return text.endswith("�") or any(text.endswith(s[:n]) for s in stop for n in range(1, len(s)))


def draw(logits: Logits, temperature: float, top_p: float, random: np.random.Generator) -> int:
    """The likeliest token at temperature 0; else one of the fewest likeliest whose mass, after it, reaches `top_p`."""
    if temperature <= 0 or top_p <= 0:
        return int(logits.argmax())
    weights = (logits - logits.max()) / np.float32(temperature)
    np.exp(weights, out=weights)
    if top_p < 1:
        order = np.argsort(-weights, kind="stable")
        mass = np.cumsum(weights[order], dtype=np.float64) - weights[order]
        weights[order[mass >= top_p * weights.sum(dtype=np.float64)]] = 0.0
    mass = np.cumsum(weights, dtype=np.float64)
    return int(mass.searchsorted(random.random() * mass[-1], side="right"))


def likeliest(logits: Logits, count: int) -> NDArray[np.int64]:
    """The tokens with the largest logits [V], in order, those aside that may not come."""
    if not count:
        return np.zeros(0, np.int64)
    found = np.argpartition(-logits, min(count, len(logits)) - 1)[:count]
    found = found[np.argsort(-logits[found], kind="stable")]
    return np.asarray(found[logits[found] > -np.inf])


@lru_cache(maxsize=4)
def _bytes_of(tokenizer: Tokenizer) -> dict[int, bytes]:
    return vocabulary_bytes(tokenizer)


def logprob(logits: Logits, token: int) -> float:
    """Natural log of softmax(logits) [V] at `token`, summed in float64."""
    top = float(logits.max())
    return float(logits[token]) - top - float(np.log(np.exp(logits - top).sum(dtype=np.float64)))
