"""The ledger: every answer that was ever received, so that no call is paid for twice.

A key is the hash of the whole request body, the teacher's endpoint and model revision, and the
sample index. Entries are added and never changed; a batch is committed as a whole, the moment it
is there.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from aasut.store import connect, digest, disk_errors
from aasut.teacher.base import Teacher
from aasut.types import Completion, Request, Usage

# Append-only: never edit an entry, add one.
MIGRATIONS = (
    """
    CREATE TABLE call (
        key TEXT PRIMARY KEY, teacher TEXT NOT NULL, request TEXT NOT NULL, completion TEXT NOT NULL,
        usd REAL NOT NULL, at REAL NOT NULL
    );
    """,
)


class Ledger:
    """A teacher whose answers are kept in a file: asks `teacher` only for what is not there yet.

    `calls_made` and `calls_reused` count the requests of this object's life; `usd_spent` sums what
    the made ones cost, `usd_reused` what the others had cost when they were made, each once. Failed
    answers are not kept: they are asked again by the next run.
    """

    def __init__(self, teacher: Teacher, path: Path) -> None:
        self.teacher = teacher
        self.identity = teacher.identity
        self.calls_made = self.calls_reused = 0
        self.usd_spent = self.usd_reused = 0.0
        self._counted: set[str] = set()  # keys whose price is in one of the two sums
        self._database: sqlite3.Connection = connect(path, MIGRATIONS)
        self._path = path
        paid = self._database.execute("SELECT SUM(usd) FROM call WHERE teacher = ?", (self.identity,)).fetchone()[0]
        teacher.charge(paid or 0.0)

    def key(self, request: Request) -> str:
        """The request's identity for this teacher."""
        return digest([self.identity, request.body()])

    def complete(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request, in order; see `Teacher.complete`."""
        keys = [self.key(request) for request in requests]
        have = {key: found for key in dict.fromkeys(keys) if (found := self._find(key)) is not None}
        missing = {key: request for key, request in zip(keys, requests, strict=True) if key not in have}
        self.calls_reused += len(keys) - len(missing)
        self.usd_reused += sum(self._price_of(key) for key in have if key not in self._counted)
        self._counted |= have.keys()
        if missing:
            answers = self.teacher.complete(list(missing.values()), self._keep)
            have |= dict(zip(missing, answers, strict=True))
        return [have[key] for key in keys]

    def holds(self, requests: Sequence[Request]) -> int:
        """How many of these are answered already."""
        return sum(self._find(self.key(request)) is not None for request in requests)

    def close(self) -> None:
        self.teacher.close()
        self._database.close()

    def _find(self, key: str) -> Completion | None:
        row = self._database.execute("SELECT completion FROM call WHERE key = ?", (key,)).fetchone()
        return None if row is None else _from_json(row[0])

    def _price_of(self, key: str) -> float:
        return float(self._database.execute("SELECT usd FROM call WHERE key = ?", (key,)).fetchone()[0])

    def _keep(self, answered: Sequence[tuple[Request, Completion]]) -> None:
        rows = []
        for request, answer in answered:
            usd = self.teacher.price(answer.usage)
            self.calls_made += 1
            self.usd_spent += usd
            if not answer.failure:
                self._counted.add(self.key(request))
                body = json.dumps(request.body())
                rows.append((self.key(request), self.identity, body, _to_json(answer), usd, time.time()))
        with disk_errors(self._path), self._database:
            self._database.executemany("INSERT OR IGNORE INTO call VALUES (?, ?, ?, ?, ?, ?)", rows)


def _to_json(completion: Completion) -> str:
    usage = completion.usage
    return json.dumps(
        {
            "text": completion.text,
            "choice_logprobs": completion.choice_logprobs,
            "finish_reason": completion.finish_reason,
            "usage": [usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens],
        }
    )  # ASCII, so that halves of surrogate pairs, which some APIs send, can be stored


def _from_json(text: str) -> Completion:
    plain = json.loads(text)
    logprobs = plain["choice_logprobs"]
    return Completion(
        text=plain["text"],
        usage=Usage(*plain["usage"]),
        choice_logprobs=None if logprobs is None else tuple(logprobs),
        finish_reason=plain["finish_reason"],
    )
