"""SEAM: running a model. Two calls: `score` given answers, `generate` free text.

An engine takes text and owns the model's tokenizer, so that models with different tokenizers, and
models with none, stand behind the same calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from aasut.errors import EngineError
from aasut.types import Usage


@dataclass(frozen=True)
class Scores:
    """Natural log-probabilities of each answer to each prompt, float64 [prompts, answers].

    Each row is normalised over the answers: it is the distribution of decoding that is bound to
    them, the product along each answer's tokens of the softmax over the tokens allowed there.
    """

    logprobs: NDArray[np.float64]
    usage: Usage


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text to go on from. The answer ends at the model's end, before the first of `stop`, or at max_tokens.

    Greedy at temperature 0; else drawn, with `seed`, from the fewest likeliest tokens whose mass reaches
    `top_p`. `schema`, a JSON Schema as text, binds the answer to JSON of that shape. `plain`: text that begins
    with neither [ nor { is allowed beside that JSON, or without a schema, nothing else. `logprobs`: say how likely
    the answer's tokens were, and the `top_logprobs` likeliest in each one's place, where the engine lists them.
    """

    text: str
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    schema: str = ""
    logprobs: bool = False
    plain: bool = False
    top_logprobs: int = 0


@dataclass(frozen=True, slots=True)
class Token:
    """A token of an answer: its share of the text, and its bytes, which may be a part of a character.

    Such a part has no text; the token that ends the character has all of it. `logprob` is natural, among the tokens
    allowed there and at temperature 1; `top` lists the likeliest by their bytes, the likeliest first.
    """

    text: str
    raw: bytes
    logprob: float
    top: tuple[tuple[bytes, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that the answer to prompt number `row` goes on with.

    `finish` is "" until the row's last piece, which says "stop" or "length"; `tokens` were made so far.
    `logprobs`, where the prompt asks for them, stand in the last piece: the natural log-probability of
    each token chosen, one that ends the answer included, among those allowed there and at temperature 1; 0 for
    tokens of text that a schema leaves no choice in, which are not asked of the model.
    `said` then has the tokens of this piece's text: the texts of all together are the answer.
    `ids`, in the last piece: the numbers of all tokens chosen, but one that ends the answer.
    """

    row: int
    text: str
    tokens: int
    finish: str = ""
    logprobs: tuple[float, ...] = ()
    said: tuple[Token, ...] = ()
    ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """A whole answer: its text, its tokens, and whether it came to its end ("stop") or was cut ("length").

    `logprobs` and `ids` as in the last `Piece`.
    """

    text: str
    tokens: int
    finish: str
    logprobs: tuple[float, ...] = ()
    ids: tuple[int, ...] = ()


class Engine(Protocol):
    """A loaded model."""

    name: str  # the engine and its precision, for reports and ledger keys, for example "torch-bfloat16"
    prefix_cache: bool  # compute a shared prefix once; off for measuring what that saves
    context: int  # most tokens of prompt and answer together
    parameters: int  # weights of the model, tied ones counted once
    alternatives: int  # most of them that `generate` lists in the place of a token; 0 where it knows of none

    def score(self, prompts: Sequence[str], answers: Sequence[str], *, prefix: str = "") -> Scores:
        """How likely each answer is after each prompt. All prompts begin with `prefix`, computed once.

        The tokens of `prefix` and of each prompt's rest are made apart, then joined.
        """

    def generate(self, prompts: Sequence[Prompt], *, prefix: str = "") -> Iterator[Piece]:
        """The answers to all prompts, in pieces, as they come; each row's last piece has a `finish`.

        All prompts begin with `prefix`, computed once. Raises ModelError where a prompt and its
        max_tokens pass the context.
        """

    def count_tokens(self, text: str) -> int:
        """Tokens that `text` costs in a prompt."""

    def close(self) -> None:
        """Give memory back."""


class Session(Protocol):
    """Answers under way on one engine, which others may join and leave between its steps. All calls on one thread."""

    def add(self, prompt: Prompt) -> int:
        """The number of a new row, which joins at the next step. Raises what `Engine.generate` raises."""

    def step(self) -> list[tuple[int, Piece | Exception]]:
        """(row, a further piece of its answer, or why there is none), for the rows that have something to say."""

    def cancel(self, row: int) -> None:
        """Nobody waits for this row any more."""

    def __len__(self) -> int:
        """Rows that have not ended."""

    def close(self) -> None:
        """Leave all rows as they are."""


def session(engine: Engine, rows: int) -> Session | None:
    """A session of at most `rows` answers at once; None on an engine that has none and takes whole batches only."""
    make: Callable[[int], Session] | None = getattr(engine, "session", None)
    return None if make is None else make(rows)


def write(engine: Engine, prompts: Sequence[Prompt], *, prefix: str = "") -> list[Written]:
    """The whole answers to all prompts, in order."""
    texts = [""] * len(prompts)
    ends: dict[int, tuple[int, str, tuple[float, ...], tuple[int, ...]]] = {}
    for piece in engine.generate(prompts, prefix=prefix):
        texts[piece.row] += piece.text
        if piece.finish:
            ends[piece.row] = piece.tokens, piece.finish, piece.logprobs, piece.ids
    return [Written(text, *ends[row]) for row, text in enumerate(texts)]


Factory = Callable[..., Engine]

_FACTORIES = {
    "torch": "aasut.engine.torch:load",
    "openvino": "aasut.engine.openvino:load",
    "linear": "aasut.engine.linear:load",
    "scripted": "aasut.engine.scripted:load",
    "vllm": "aasut.engine.vllm:load",
}


def engines() -> list[str]:
    """Names that `load` takes, `auto` aside."""
    return sorted(_FACTORIES)


def load(name: str, path: Path, *, precision: str = "auto", prefix_cache: bool = True) -> Engine:
    """Load the model file or folder `path` on the engine `name`.

    `auto` takes `linear` for linear students, vLLM where it is installed beside a CUDA device, OpenVINO for the models
    that it reads and torch for the rest. Precision: auto, bfloat16 or float32.
    Raises EngineError for an unknown name, ModelError for a model that cannot be read.
    """
    if name == "auto":
        name = _choose(path)
    if name not in _FACTORIES:
        raise EngineError(f"There is no engine {name!r}.", f"Choose one of: auto, {', '.join(engines())}.")
    module, function = _FACTORIES[name].split(":")
    factory: Factory = getattr(import_module(module), function)
    return factory(path, precision=precision, prefix_cache=prefix_cache)


def _choose(path: Path) -> str:
    if (path / "vocabulary.json").exists():
        return "linear"
    from aasut.engine import openvino
    from aasut.engine.vllm import fits

    if fits():
        return "vllm"
    return "openvino" if openvino.reads(path) else "torch"
