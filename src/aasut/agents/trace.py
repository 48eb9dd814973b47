"""Traces: every step of every run of an agent, kept as it happens, in one SQLite file beside the run store.

    <root>/.store/agents.db

What was committed outlives a kill. Keys and tokens are blotted out before anything is written, as the gateway does.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aasut.errors import StoreError
from aasut.files import connect, connect_read_only, disk_errors
from aasut.gateway.redact import Redactor

STORE, FILE = ".store", "agents.db"
MIGRATIONS = [  # two agents may begin at once, so that each finds what the other made
    """
    CREATE TABLE IF NOT EXISTS run (
        id TEXT PRIMARY KEY, agent TEXT NOT NULL, model TEXT NOT NULL, began REAL NOT NULL,
        tools TEXT NOT NULL, settings TEXT NOT NULL, reason TEXT NOT NULL DEFAULT ''
    );
    CREATE TABLE IF NOT EXISTS event (
        n INTEGER PRIMARY KEY AUTOINCREMENT, run TEXT NOT NULL REFERENCES run (id), at REAL NOT NULL,
        kind TEXT NOT NULL, content TEXT NOT NULL
    );
    CREATE INDEX IF NOT EXISTS event_run ON event (run, n);
    """,
]


@dataclass(frozen=True)
class Event:
    """One thing that happened; `at` in seconds since 1970.

    kind: message (of OpenAI's form), request (tokens, usd, seconds of one answer of the model), call (tool, seconds,
    failed, approval, its whole output), end (reason, answer).
    """

    at: float
    kind: str
    content: dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One run; `reason` is why it ended, "" where it was killed or still goes on."""

    id: str
    agent: str
    model: str
    began: float
    reason: str
    tools: list[dict[str, Any]]
    settings: dict[str, Any]


class Trace:
    """One run's trace while it is written. Each event is on the disk when `add` returns."""

    def __init__(
        self,
        root: Path,
        agent: str,
        model: str,
        tools: Sequence[Mapping[str, Any]],
        settings: Mapping[str, Any],
        secret: Sequence[str] = (),
    ) -> None:
        path = root / STORE / FILE
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._database = connect(path, MIGRATIONS)
        self._redactor = Redactor(secrets=secret)
        began = time.time()
        self.id = f"{datetime.fromtimestamp(began, UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        self.path = path
        with disk_errors(path), self._database:
            self._database.execute(
                "INSERT INTO run (id, agent, model, began, tools, settings) VALUES (?, ?, ?, ?, ?, ?)",
                (self.id, agent, model, began, self._text(list(tools)), self._text(dict(settings))),
            )

    def add(self, kind: str, **content: Any) -> None:
        """Keep one event."""
        with disk_errors(self.path), self._database:
            self._database.execute(
                "INSERT INTO event (run, at, kind, content) VALUES (?, ?, ?, ?)",
                (self.id, time.time(), kind, self._text(content)),
            )

    def end(self, reason: str, **content: Any) -> None:
        """Keep why it ended."""
        self.add("end", reason=reason, **content)
        with disk_errors(self.path), self._database:
            self._database.execute("UPDATE run SET reason = ? WHERE id = ?", (reason, self.id))

    def close(self) -> None:
        self._database.close()

    def _text(self, value: Any) -> str:
        written = json.dumps(self._redactor.value(value), ensure_ascii=False)
        return written.encode("utf-8", "backslashreplace").decode()  # half a surrogate pair is no text of SQLite


def runs(root: Path, agent: str = "") -> list[Run]:
    """Runs, the oldest first; of one agent where it is named. Raises StoreError where there are none."""
    with closing(_open(root)) as database:
        found = database.execute(
            "SELECT id, agent, model, began, reason, tools, settings FROM run "
            "WHERE ? IN ('', agent) ORDER BY began, id",
            (agent,),
        )
        return [_run(row) for row in found]


def find(root: Path, name: str) -> Run:
    """A run by its id, or by so much of it as no other has; "last" is the newest. Raises StoreError."""
    every = runs(root)
    found = every[-1:] if name == "last" else [run for run in every if run.id == name or (name and name in run.id)]
    if len(found) != 1:
        what = "No trace" if not found else f"{len(found)} traces"
        raise StoreError(
            f"{what} of {root} {'has' if not found else 'have'} {name!r} in its name.", "See aasut traces."
        )
    return found[0]


def events(root: Path, run: str) -> Iterator[Event]:
    """What happened in a run, in order."""
    with closing(_open(root)) as database:
        for at, kind, content in database.execute(
            "SELECT at, kind, content FROM event WHERE run = ? ORDER BY n", (run,)
        ).fetchall():
            yield Event(at, kind, json.loads(content))


def _run(row: Sequence[Any]) -> Run:
    name, agent, model, began, reason, tools, settings = row
    return Run(name, agent, model, began, reason, json.loads(tools), json.loads(settings))


def _open(root: Path) -> sqlite3.Connection:
    path = root / STORE / FILE
    if not path.is_file():
        raise StoreError(f"There are no traces of agents in {root}.", "Make one with aasut agent, or name its --root.")
    database = connect_read_only(path, MIGRATIONS)
    if database is None:  # written by an older aasut
        connect(path, MIGRATIONS).close()
        database = connect_read_only(path, MIGRATIONS)
    assert database is not None
    return database
