"""A student's targets from an API's log-probabilities: the likeliest tokens exactly, all others in one bucket.

That is biased: nothing is known of how the rest of the mass lies. It can be had only where the API's
tokens are the student's, byte for byte; where an answer's are not, its text alone is learned.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aasut.formats.token_bytes import vocabulary_bytes
from aasut.formats.tokenizer import Tokenizer
from aasut.teacher.logprobs import Token, unpack

UNTOLD = "the answer came without usable log-probabilities"
REWRITTEN = "the answer was rewritten, so that its tokens are not those of its text"
CHANGED = "the student's tokenizer does not keep the text's bytes"
BOUNDARIES = "the endpoint's tokens are not the student's"


@dataclass(frozen=True)
class Listed:
    """What is known of the teacher's distribution for each of an answer's n tokens, given those before it.

    answer_ids: the student's tokens of the answer, without an end token · ids [n, K] int64, each once in a row
    but for padding · mass [n, K] float32, zero for padding · rest [n] float32, the mass of all other tokens
    together; a row of `mass` and its `rest` sum to 1 · untold: of the first so many tokens the API says nothing,
    and each has all the mass.
    """

    answer_ids: tuple[int, ...]
    ids: NDArray[np.int64]
    mass: NDArray[np.float32]
    rest: NDArray[np.float32]
    untold: int = 0


@dataclass(frozen=True)
class Matches:
    """How many of an endpoint's texts can be learned token by token; the others by reason.

    `covered` is the mean mass, over the tokens of the former that the API tells of, that lies on known tokens.
    """

    texts: int
    kept: int
    refused: Mapping[str, int]
    covered: float

    @property
    def share(self) -> float:
        """Of the texts, those whose tokens match; 0 where there are none."""
        return self.kept / self.texts if self.texts else 0.0


class ApiLogits:
    """Reads an API's tokens as those of a student's tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._bytes = vocabulary_bytes(tokenizer)
        # Of tokens for the same bytes the last is the one that texts are written with: others stand in for bytes.
        self._ids = {said: number for number, said in sorted(self._bytes.items())}
        end = None if tokenizer.eos_id is None else tokenizer.token_name(tokenizer.eos_id)
        if tokenizer.eos_id is not None and end:
            self._ids.setdefault(end.encode(), tokenizer.eos_id)  # an alternative of that name ends the answer

    def match(self, answers: Iterable[tuple[str, bytes | None]]) -> Matches:
        """How many (answer as the student writes it, its packed tokens) can be learned token by token."""
        texts, covered, tokens, refused = 0, 0.0, 0, Counter[str]()
        for answer, told in answers:
            found, reason = self.listed(answer, told)
            texts += 1
            if found is None:
                refused[reason] += 1
            else:
                covered += float((1 - found.rest[found.untold :]).sum())
                tokens += len(found.rest) - found.untold
        return Matches(texts, texts - refused.total(), dict(refused), covered / max(tokens, 1))

    def listed(self, answer: str, token_logprobs: bytes | None) -> tuple[Listed | None, str]:
        """(the distributions for the tokens of an answer, ""), or (None, why its text alone can be learned).

        `answer` is the text as it continues the student's prompt. White space that the API wrote in front is
        not the student's: its first token's alternatives are compared, and mapped, without theirs. Where that
        space makes the student split the first word otherwise, the word's tokens are left untold.
        """
        if token_logprobs is None:
            return None, UNTOLD
        text = answer.lstrip().encode()
        ids = tuple(self._tokenizer.encode(answer))
        mine = [self._bytes.get(number, b"") for number in ids]
        written = b"".join(mine)
        own = _span(mine, len(written) - len(text), len(text))
        if not text or not all(mine) or not written.endswith(text) or own is None:
            return None, CHANGED
        tokens = [token for token in unpack(token_logprobs) if token.token]
        theirs = [token.token for token in tokens]
        start = b"".join(theirs).find(text)
        if start < 0:
            return None, REWRITTEN
        said = _span(theirs, start, len(text))
        meeting = None if said is None else _meeting(own[1], said[1])
        if said is None or meeting is None:
            return None, BOUNDARIES
        first, after = own[0] + meeting[0], said[0] + meeting[1]
        lead = None if meeting[0] else mine[first].removesuffix(own[1][0])
        rows: list[dict[int, float]] = [{number: 1.0} for number in ids[:first]]
        for number, token in zip(ids[first:], tokens[after:], strict=False):  # tokens behind the text are left out
            rows.append(self._row(number, token, lead if len(rows) == first else None))
        return _table(ids, rows, first), ""

    def _row(self, number: int, token: Token, lead: bytes | None) -> dict[int, float]:
        """Masses by the student's token where the API said `token`, which is the student's `number`.

        `lead`: white space that the student's token begins with; None where no answer begins.
        """
        mass: dict[int, float] = {}
        for said, logprob in token.top:
            if lead is not None:
                said = lead + rest if (rest := _stripped(said)) else b""
            found = number if said == self._bytes[number] else self._ids.get(said)
            if found is not None:
                mass[found] = mass.get(found, 0.0) + math.exp(logprob)
        if number not in mass:
            mass[number] = math.exp(token.logprob)
        total = max(sum(mass.values()), 1.0)
        return {found: each / total for found, each in mass.items()}


def _span(pieces: Sequence[bytes], start: int, length: int) -> tuple[int, list[bytes]] | None:
    """(the number of the piece in which a span of the joined bytes begins, its pieces).

    The first is given without what stands before the span in it; None where that is no white space. The last
    may reach beyond the span.
    """
    at, first, found = 0, 0, list[bytes]()
    for number, piece in enumerate(pieces):
        end = at + len(piece)
        if at <= start < end:
            if _stripped(piece[: start - at]):
                return None
            first, found = number, [piece[start - at :]]
        elif start < at < start + length:
            found.append(piece)
        at = end
    return first, found


def _meeting(mine: Sequence[bytes], theirs: Sequence[bytes]) -> tuple[int, int] | None:
    """How many tokens of either come before the two go on alike; None where that is not within the first word."""
    alike = 0
    while alike < min(len(mine), len(theirs)) and mine[-1 - alike] == theirs[-1 - alike]:
        alike += 1
    before = b"".join(mine[: len(mine) - alike])
    if not alike or len(before.split()) > 1 or before[-1:].isspace():
        return None
    return len(mine) - alike, len(theirs) - alike


def _stripped(data: bytes) -> bytes:
    """Without the white space that it begins with."""
    return data.decode("utf-8", "surrogateescape").lstrip().encode("utf-8", "surrogateescape")


def _table(ids: tuple[int, ...], rows: Sequence[Mapping[int, float]], untold: int) -> Listed:
    """Rows of masses by token as arrays."""
    width = max(map(len, rows))
    tokens, mass = np.zeros((len(rows), width), np.int64), np.zeros((len(rows), width), np.float32)
    for place, row in enumerate(rows):
        tokens[place, : len(row)] = list(row)
        mass[place, : len(row)] = list(row.values())
    return Listed(ids, tokens, mass, np.maximum(1 - mass.sum(axis=1), 0).astype(np.float32), untold)
