"""The ledger: every answer that was ever received, so that no call is paid for twice.

A key is the hash of the whole request body, the teacher's endpoint and model revision, and the
sample index. Entries are added and never changed. A local batch is committed as a whole, an API's
answers as they arrive. Answers that were recorded elsewhere, as by a gateway, are entered as that:
they are not asked for again, and what others paid for them counts towards no cap. Dollars that
bought no answer are entered too, so that a cap holds over all runs: what calls in flight may cost
at worst is entered before they are sent, and stays if the run is killed.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from aasut.store import connect, digest, disk_errors
from aasut.teacher.answer import CUT
from aasut.teacher.base import Remote, Teacher
from aasut.types import Completion, Request, Usage

# Append-only: never edit an entry, add one.
MIGRATIONS = (
    """
    CREATE TABLE call (
        key TEXT PRIMARY KEY, teacher TEXT NOT NULL, request TEXT NOT NULL, completion TEXT NOT NULL,
        usd REAL NOT NULL, at REAL NOT NULL
    );
    """,
    """
    CREATE TABLE loss (teacher TEXT NOT NULL, reason TEXT NOT NULL, usd REAL NOT NULL, at REAL NOT NULL);
    """,
    """
    ALTER TABLE call ADD COLUMN token_logprobs BLOB;
    """,
    """
    ALTER TABLE call ADD COLUMN recorded INTEGER NOT NULL DEFAULT 0;
    """,
)

Told = Callable[[Sequence[Completion], bool], None]
Heard = Callable[[Request, Completion, bool], None]
_INSERT = "INSERT OR IGNORE INTO call VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class Recorded:
    """An answer that was given to this request elsewhere: what it cost in dollars, and when, in seconds since 1970."""

    request: Request
    completion: Completion
    usd: float
    at: float


class Ledger:
    """A teacher whose answers are kept in a file: asks `teacher` only for what is not there yet.

    `calls_made` and `calls_reused` count the requests of this object's life, and `calls_recorded` those of the
    reused ones whose answer was recorded elsewhere; `usd_spent` sums what the made ones cost, `usd_reused` what
    the others had cost when they were made, each once and the recorded ones not. Failed
    answers are not kept: they are asked again by the next run; but one that the endpoint cut short or
    withheld would be again, and is kept as that. An answer that an older version kept has no
    `token_logprobs`, whatever was asked for, and is not asked again for them.
    """

    def __init__(self, teacher: Teacher, path: Path) -> None:
        self.teacher = teacher
        self.identity = teacher.identity
        self.remote = teacher if isinstance(teacher, Remote) else None
        self.calls_made = self.calls_reused = self.calls_recorded = 0
        self.usd_spent = self.usd_reused = 0.0
        self._counted: set[str] = set()  # keys whose price is in one of the two sums
        self._recorded: set[str] = set()  # keys that were met, whose answers were recorded elsewhere
        self._told: Told | None = None
        self._heard: Heard | None = None
        self._at_risk = 0.0  # dollars entered for calls in flight
        self._risk: int | None = None  # their entry
        self._database: sqlite3.Connection = connect(path, MIGRATIONS)
        self._path = path
        bought = "SELECT teacher, usd FROM call WHERE NOT recorded UNION ALL SELECT teacher, usd FROM loss"
        paid = f"SELECT SUM(usd) FROM ({bought})"
        row = self._database.execute(f"{paid} WHERE teacher = ?", (self.identity,)).fetchone()
        self._paid = float(row[0] or 0.0)  # dollars entered for this teacher, calls in flight aside
        teacher.charge(self._paid)

    def key(self, request: Request) -> str:
        """The request's identity for this teacher."""
        return digest([self.identity, request.body()])

    def complete(
        self, requests: Iterable[Request], told: Told | None = None, heard: Heard | None = None
    ) -> list[Completion]:
        """One completion a request, in order; see `Teacher.complete`.

        A remote teacher's requests are taken as it goes, so there may be very many. `told` hears of
        answers as they come, and whether they were there before; what it raises stops the asking. `heard` hears the
        same one by one with the request, equal requests once, so that what is asked next may hang on it.
        """
        self._told, self._heard = told, heard
        keys: list[str] = []
        have: dict[str, Completion] = {}
        missing: dict[str, None] = {}
        wanted = self._missing(requests, keys, have, missing)
        if self.remote is not None:
            answers = self._flow(self.remote, wanted)
        else:
            asked = list(wanted)
            answers = self.teacher.complete(asked, self._keep) if asked else []
        have |= dict(zip(missing, answers, strict=True))
        return [have[key] for key in keys]

    def enter(self, recorded: Sequence[Recorded]) -> None:
        """Take in answers that were given elsewhere; a request that is answered here already keeps its answer."""
        rows = []
        for one in recorded:
            plain = one.request.body()
            key, answer = digest([self.identity, plain]), one.completion
            told = answer.token_logprobs
            rows.append((key, self.identity, json.dumps(plain), _to_json(answer), one.usd, one.at, told, 1))
        with disk_errors(self._path), self._database:
            self._database.executemany(_INSERT, rows)

    def holds(self, requests: Sequence[Request]) -> int:
        """How many of these are answered already."""
        return sum(self._find(self.key(request)) is not None for request in requests)

    def notes(self) -> list[tuple[str, int]]:
        """What the user should know of the answers since this was last asked, and of how many."""
        if self.remote is None:
            return []
        found = self.remote.notes.most_common()
        self.remote.notes.clear()
        return found

    def close(self) -> None:
        self.teacher.close()
        self._database.close()

    def _missing(
        self, requests: Iterable[Request], keys: list[str], have: dict[str, Completion], missing: dict[str, None]
    ) -> Iterator[Request]:
        """The requests that must be asked, each once. Fills in the keys of all, what is there, and the others' keys."""
        for request in requests:
            key = self.key(request)
            keys.append(key)
            found = None if key in have or key in missing else self._find(key)
            if found is not None:
                have[key], usd, recorded = found
                if recorded:
                    self._recorded.add(key)
                elif key not in self._counted:
                    self._counted.add(key)
                    self.usd_reused += usd
            if key not in have and key not in missing:
                missing[key] = None
                yield request
                continue
            if found is not None and self._heard is not None:
                self._heard(request, have[key], True)
            self.calls_reused += 1
            self.calls_recorded += key in self._recorded
            if self._told is not None:
                self._told([have[key]] if key in have else [Completion("")], True)

    def _flow(self, teacher: Remote, requests: Iterator[Request]) -> list[Completion]:
        """Ask as requests come; what calls in flight may cost is entered as lost until they are in."""

        def entered() -> Iterator[Request]:
            for request in requests:
                if teacher.at_risk(self._paid, request) > self._at_risk:
                    with disk_errors(self._path), self._database:
                        self._enter_risk(teacher.at_risk(self._paid))
                yield request

        try:
            return teacher.complete(entered(), self._keep)
        finally:
            with disk_errors(self._path), self._database:
                self._enter_loss(teacher.take_lost(), "no answer")
                self._enter_risk(0.0)

    def _find(self, key: str) -> tuple[Completion, float, bool] | None:
        """An answer, what it cost, and whether it was recorded elsewhere."""
        found = "SELECT completion, token_logprobs, usd, recorded FROM call WHERE key = ?"
        row = self._database.execute(found, (key,)).fetchone()
        return (
            None if row is None else (replace(_from_json(row[0]), token_logprobs=row[1]), float(row[2]), bool(row[3]))
        )

    def _keep(self, answered: Sequence[tuple[Request, Completion]]) -> None:
        rows, wasted = [], 0.0
        for request, answer in answered:
            usd = self.teacher.price(answer.usage)
            self.calls_made += 1
            self.usd_spent += usd
            if not answer.failure or answer.finish_reason in CUT:
                plain = request.body()
                key = digest([self.identity, plain])
                self._counted.add(key)
                self._paid += usd
                told = answer.token_logprobs
                rows.append((key, self.identity, json.dumps(plain), _to_json(answer), usd, time.time(), told, 0))
            else:
                wasted += usd
        with disk_errors(self._path), self._database:
            self._database.executemany(_INSERT, rows)
            self._enter_loss(wasted, "unusable answers")
            if self.remote is not None:
                self._enter_loss(self.remote.take_lost(), "no answer")
                self._enter_risk(self.remote.at_risk(self._paid))
        if self._told is not None:
            self._told([answer for _, answer in answered], False)
        if self._heard is not None:
            for request, answer in answered:
                self._heard(request, answer, False)

    def _enter_loss(self, usd: float, reason: str) -> None:
        if usd:
            self._paid += usd
            self._database.execute("INSERT INTO loss VALUES (?, ?, ?, ?)", (self.identity, reason, usd, time.time()))

    def _enter_risk(self, usd: float) -> None:
        """Enter what calls in flight may cost, in place of what this object entered before."""
        if usd != self._at_risk:
            self._database.execute("DELETE FROM loss WHERE rowid = ?", (self._risk,))
            entry = (self.identity, "in flight when the run was killed", usd, time.time())
            self._risk = (
                self._database.execute("INSERT INTO loss VALUES (?, ?, ?, ?)", entry).lastrowid if usd else None
            )
            self._at_risk = usd


def _to_json(completion: Completion) -> str:
    usage = completion.usage
    return json.dumps(
        {
            "text": completion.text,
            "choice_logprobs": completion.choice_logprobs,
            "finish_reason": completion.finish_reason,
            "failure": completion.failure,
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
        failure=plain.get("failure", ""),
    )
