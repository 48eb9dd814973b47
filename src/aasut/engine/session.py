"""Continuous decoding: prompts join the answers under way at the next step, and leave when they end.

One step runs the model once over the new tokens of every answer and over parts of the prompts that
came meanwhile. It is started as soon as its tokens are known, and works on while the caller hands out
what the step before it gave.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from aasut.engine.base import Piece, Prompt
from aasut.engine.base import Session as Started
from aasut.engine.blocks import SIZE, Blocks, Lease, names
from aasut.engine.common import tokens_of
from aasut.engine.decode import ROWS, Logits, Row, check_length
from aasut.formats.tokenizer import Tokenizer

TOKENS = 512  # of one step; longer prompts go in part by part


@dataclass(frozen=True)
class Span:
    """Tokens of one row behind `past` tokens that are in its blocks already; `ends`: their logits are wanted."""

    ids: Sequence[int]
    past: int
    blocks: Sequence[int]
    ends: bool


class Flight(Protocol):
    """A step that runs."""

    def logits(self) -> Logits:
        """Waits. Logits [rows that end, V]: what may come after them, valid until the next start."""


class Paged(Protocol):
    """A model whose keys and values lie in blocks."""

    blocks: Blocks

    def start(self, spans: Sequence[Span]) -> Flight:
        """Begin to run the model over all spans at once."""


@dataclass(eq=False)
class _Seat:
    """One answer: its prompt's tokens and those made so far, of which `done` have keys and values."""

    row: Row
    tokens: list[int]
    keys: list[bytes]
    most: int
    lease: Lease | None = None
    done: int = 0


class Session:
    """See `engine.base.Session`. At most `rows` answers are under way at once; further ones wait in order."""

    def __init__(
        self, model: Paged, tokenizer: Tokenizer, context: int, *, rows: int = ROWS, share: bool = True
    ) -> None:
        self.model, self.tokenizer, self.context = model, tokenizer, context
        self.rows, self.share = rows, share
        self._seats: dict[int, _Seat] = {}  # under way
        self._waiting: deque[tuple[int, _Seat]] = deque()
        self._flight: tuple[Flight, list[tuple[int, _Seat, Span]]] | None = None
        self._count = 0

    def __len__(self) -> int:
        return len(self._seats) + len(self._waiting)

    def add(self, prompt: Prompt) -> int:
        (tokens,) = tokens_of(self.tokenizer, [prompt.text], "", reuse=False)[1]
        return self.add_tokens(prompt, tokens)

    def add_tokens(self, prompt: Prompt, tokens: Sequence[int]) -> int:
        """`add` for a prompt whose tokens are known."""
        check_length(len(tokens), prompt.max_tokens, self.context)
        number, self._count = self._count, self._count + 1
        row = Row(number, prompt, self.tokenizer)
        keys = names(tokens) if self.share else []
        self._waiting.append((number, _Seat(row, list(tokens), keys, len(tokens) + prompt.max_tokens)))
        return number

    def cancel(self, number: int) -> None:
        self._waiting = deque(entry for entry in self._waiting if entry[0] != number)
        seat = self._seats.pop(number, None)
        if seat is not None:
            self._leave(seat)

    def step(self) -> list[tuple[int, Piece | Exception]]:
        if self._flight is None:
            self._start()
        if self._flight is None:
            return []
        flight, spans = self._flight
        self._flight = None
        try:
            logits = flight.logits()
        except Exception as error:  # what failed together has no good part
            failed = list(self._seats)
            for number in failed:
                self.cancel(number)
            return [(number, error) for number in failed]
        said: list[tuple[int, Piece | Exception]] = []
        place = 0
        for number, seat, span in spans:
            if number in self._seats:
                seat.done += len(span.ids)
                assert seat.lease is not None
                self.model.blocks.fill(seat.lease, seat.done)
                if span.ends:
                    said.extend(self._take(number, seat, logits[place]))
            place += span.ends
        self._start()
        return said

    def close(self) -> None:
        """Leave all answers as they are."""
        if self._flight is not None:
            self._flight[0].logits()
            self._flight = None
        self._waiting.clear()
        for number in list(self._seats):
            self.cancel(number)

    def _take(self, number: int, seat: _Seat, logits: Logits) -> Iterator[tuple[int, Piece | Exception]]:
        try:
            piece = seat.row.take(logits)
        except Exception as error:
            self.cancel(number)
            yield number, error
            return
        if piece.finish:
            self.cancel(number)
        else:
            seat.tokens.extend(seat.row.fresh)
        if piece.text or piece.finish:
            yield number, piece

    def _start(self) -> None:
        self._admit()
        left = TOKENS
        spans = []
        for number, seat in self._seats.items():  # those that came first go first, and all answers before new prompts
            ids = seat.tokens[seat.done : seat.done + left]
            if ids:
                assert seat.lease is not None
                ends = seat.done + len(ids) == len(seat.tokens)
                used = -(-(seat.done + len(ids)) // SIZE)
                spans.append((number, seat, Span(ids, seat.done, seat.lease.blocks[:used], ends)))
                left -= len(ids)
        if spans:
            self._flight = self.model.start([span for _, _, span in spans]), spans

    def _admit(self) -> None:
        """Seat those who wait, in order, but let one wait whose beginning another is about to compute."""
        blocks, passed = self.model.blocks, []
        while self._waiting and len(self._seats) < self.rows:
            number, seat = self._waiting.popleft()
            if not blocks.comes(seat.keys):
                seat.lease = blocks.lease(seat.keys, seat.most)
                if seat.lease is None:
                    self._waiting.appendleft((number, seat))
                    break
                seat.done = seat.lease.ready * SIZE
                self._seats[number] = seat
            else:
                passed.append((number, seat))
        self._waiting.extendleft(reversed(passed))

    def _leave(self, seat: _Seat) -> None:
        if seat.lease is not None:
            self.model.blocks.release(seat.lease)


class Joining(Started, Protocol):
    """A session that takes prompts as tokens too."""

    tokenizer: Tokenizer
    context: int

    def add_tokens(self, prompt: Prompt, tokens: Sequence[int]) -> int:
        """`add` for a prompt whose tokens are known."""


def write_all(session: Joining, prompts: Sequence[Prompt], prefix: str) -> Iterator[Piece]:
    """See `Engine.generate`: all prompts join at once; what fails ends all."""
    shared, rows = tokens_of(session.tokenizer, [prompt.text for prompt in prompts], prefix, reuse=True)
    for prompt, row in zip(prompts, rows, strict=True):
        check_length(len(shared) + len(row), prompt.max_tokens, session.context)
    try:
        for prompt, row in zip(prompts, rows, strict=True):
            session.add_tokens(prompt, [*shared, *row])
        while session:
            for _, said in session.step():
                if isinstance(said, Exception):
                    raise said
                yield said
    finally:
        session.close()
