"""A stand-in for the teacher: it notes what would be asked, counts its tokens, and answers for nothing."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from aasut.errors import AasutError
from aasut.formats.tokenizer import Tokenizer
from aasut.sources.models import cache_root
from aasut.store import digest
from aasut.teacher.base import Keep, Teacher
from aasut.teacher.local import plain_text
from aasut.types import Completion, Message, Request, Usage

BYTES_A_TOKEN = 4
MESSAGE_TOKENS = 4  # that chat APIs add to a message for its role and its ends
ROW_BYTES = 520  # of a ledger's entry, beyond the request itself


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of one call: `prefix` is what it shares with others, `question` the rest, `answer` what comes back."""

    prefix: int
    question: int
    answer: int


class Pieces(Tokenizer):
    """Where no model's tokenizer is at hand: pieces of four bytes, about what a token of prose in Latin letters has."""

    def __init__(self) -> None:
        self.bos_id = self.pad_id = self.unk_id = None
        self.eos_id, self.add_bos, self.end_ids = 0, False, frozenset((0,))

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        size = BYTES_A_TOKEN
        raw = [text.encode("utf-8", "replace") for text in texts]
        return [[int.from_bytes(one[i : i + size]) + 1 for i in range(0, len(one), size)] for one in raw]


class Counter:
    """Counts a request's tokens: exactly as a local model takes them, or as an API's bill may have them."""

    def __init__(self, tokenizer: Tokenizer, *, chat: bool, learned: tuple[float, float] = (1.0, 1.0)) -> None:
        """chat: messages with roles, for an API. learned: what the API counted for each token counted here."""
        self.tokenizer, self.chat, self.learned = tokenizer, chat, learned
        self._prefixes: dict[tuple[Message, ...], int] = {}

    def text(self, text: str) -> int:
        return len(self.tokenizer.encode(text))

    def count(self, request: Request, answer: str) -> Tokens:
        if not self.chat:
            return self._local(request, answer)
        question = self.text(request.messages[-1].content) + 2 * MESSAGE_TOKENS
        prefix = self._shared(request.messages[:-1]) + (self.text(request.tools) if request.tools else 0)
        scale_in, scale_out = self.learned
        whole = round((prefix + question) * scale_in)
        return Tokens(round(prefix * scale_in), whole - round(prefix * scale_in), round(self.text(answer) * scale_out))

    def _local(self, request: Request, answer: str) -> Tokens:
        before, question = plain_text(request.messages, request.tools)
        key = (Message("system", request.tools), *request.messages[:-1])
        if key not in self._prefixes:
            begin = int(self.tokenizer.add_bos and self.tokenizer.bos_id is not None)
            self._prefixes[key] = begin + (self.text(before) if before else 0)
        return Tokens(self._prefixes[key], self.text(question), 1 if request.choices else self.text(answer))

    def _shared(self, messages: tuple[Message, ...]) -> int:
        if messages not in self._prefixes:
            self._prefixes[messages] = sum(self.text(m.content) + MESSAGE_TOKENS for m in messages)
        return self._prefixes[messages]


@dataclass
class Asked:
    """What one stage would ask: batches as they would go out, and their tokens."""

    batches: list[list[Request]] = field(default_factory=list)
    tokens: list[Tokens] = field(default_factory=list)
    usd: float = 0.0
    worst_usd: float = 0.0
    body_bytes: int = 0

    @property
    def requests(self) -> list[Request]:
        return [request for batch in self.batches for request in batch]


class StandIn:
    """See `teacher.base.Teacher`. `asked` holds, by stage, the requests for which there is no answer yet.

    Answers are drawn by the request's hash: one of its choices, or one of `texts`; a scripted
    teacher answers itself, since that costs nothing.
    """

    def __init__(
        self, identity: str, counter: Counter, texts: Sequence[str], *, logprobs: bool, real: Teacher | None = None
    ) -> None:
        self.identity, self.counter, self.texts, self.logprobs, self.real = identity, counter, texts, logprobs, real
        self.stage = ""
        self.asked: dict[str, Asked] = {}
        self.paid = 0.0
        self.answers: Callable[[Request], Completion] | None = None

    def complete(self, requests: Sequence[Request], keep: Keep | None = None) -> list[Completion]:
        asked = self.asked.setdefault(self.stage, Asked())
        asked.batches.append(list(requests))
        completions = []
        for request in requests:
            text = self._text(request)
            tokens = self.counter.count(request, text)
            asked.tokens.append(tokens)
            usage = Usage(tokens.prefix + tokens.question, tokens.answer)
            asked.usd += self.price(usage)
            asked.worst_usd += self.worst(request)
            asked.body_bytes += ROW_BYTES + len(json.dumps(request.body()))
            completions.append(self._completion(request, text, usage))
        if keep is not None:
            keep(list(zip(requests, completions, strict=True)))
        return completions

    def _text(self, request: Request) -> str:
        listed = request.choices or self.texts
        return listed[int(digest(request.body())[:8], 16) % len(listed)] if listed else "answer"

    def _completion(self, request: Request, text: str, usage: Usage) -> Completion:
        if self.answers is not None:
            return self.answers(request)
        if not request.choices or not self.logprobs:
            return Completion(text, usage)
        rest = math.log(0.3 / max(len(request.choices) - 1, 1))
        return Completion(text, usage, tuple(math.log(0.7) if c == text else rest for c in request.choices))

    def price(self, usage: Usage) -> float:
        return self.real.price(usage) if self.real is not None else 0.0

    def worst(self, request: Request) -> float:
        """Dollars that a call costs at most, as the cap reckons: a token is a byte at least."""
        text = sum(len(m.content.encode("utf-8", "replace")) + 16 for m in request.messages)
        return self.price(Usage(text, request.max_tokens))

    def charge(self, usd: float) -> None:
        """Dollars that earlier runs paid."""
        self.paid += usd

    def close(self) -> None:
        """Nothing is held."""


def learned(ledger: Path, identity: str, counter: Counter) -> tuple[float, float] | None:
    """What this endpoint counted for each token of `counter`, for prompts and answers; None without entries."""
    if not ledger.exists():
        return None
    database = sqlite3.connect(ledger)
    try:
        rows = database.execute(
            "SELECT request, completion FROM call WHERE teacher = ? ORDER BY at DESC LIMIT 200", (identity,)
        ).fetchall()
    finally:
        database.close()
    ours, theirs = [0, 0], [0, 0]
    for request, completion in rows:
        body, answer = json.loads(request), json.loads(completion)
        messages = tuple(Message(role, content) for role, content in body["messages"])
        tokens = counter.count(Request(messages, max_tokens=body["max_tokens"]), answer["text"])
        ours = [ours[0] + tokens.prefix + tokens.question, ours[1] + tokens.answer]
        theirs = [theirs[0] + answer["usage"][0], theirs[1] + answer["usage"][1]]
    if not rows or not all(ours) or not all(theirs):
        return None
    return theirs[0] / ours[0], theirs[1] / ours[1]


def tokenizer_of(folder: Path | None) -> Tokenizer:
    """A model folder's tokenizer; where the model is not here, that of any model in the cache, else `Pieces`."""
    cached = cache_root() / "models"
    others = sorted(path.parent for path in cached.glob("*/tokenizer.json")) if cached.is_dir() else []
    for path in (folder, *others):
        if path is not None:
            with suppress(AasutError):
                return Tokenizer.load(path)
    return Pieces()
