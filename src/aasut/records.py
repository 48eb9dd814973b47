"""What the run store's database records: artefacts, what they were made from, work begun, runs and opened splits."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aasut.files import disk_errors

# Append-only: never edit an entry, add one.
MIGRATIONS = (
    """
    CREATE TABLE artefact (
        fingerprint TEXT PRIMARY KEY, stage TEXT NOT NULL, version INTEGER NOT NULL, settings TEXT NOT NULL,
        content TEXT NOT NULL, facts TEXT NOT NULL, created REAL NOT NULL, seconds REAL NOT NULL
    );
    CREATE TABLE parent (
        fingerprint TEXT NOT NULL REFERENCES artefact, position INTEGER NOT NULL, parent TEXT NOT NULL,
        PRIMARY KEY (fingerprint, position)
    );
    CREATE TABLE opening (split TEXT NOT NULL, stage TEXT NOT NULL, at REAL NOT NULL);
    """,
    """
    CREATE TABLE run (name TEXT NOT NULL, report TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (name, report));
    INSERT INTO run SELECT json_extract(settings, '$[0].name'), fingerprint, created FROM artefact
        WHERE stage = 'report' AND json_extract(settings, '$[0].name') IS NOT NULL;
    CREATE TABLE attempt (fingerprint TEXT PRIMARY KEY, stage TEXT NOT NULL, parents TEXT NOT NULL, at REAL NOT NULL);
    """,
    """
    CREATE TABLE declaration (
        split TEXT PRIMARY KEY, margin REAL NOT NULL, confidence REAL NOT NULL, metrics TEXT NOT NULL, at REAL NOT NULL
    );
    """,
)


@dataclass(frozen=True)
class Artefact:
    """A stage's finished result. `facts` is what the stage says of it; `content` hashes its files."""

    stage: str
    fingerprint: str
    path: Path
    content: str
    facts: dict[str, Any]
    seconds: float
    reused: bool


@dataclass(frozen=True)
class Entry:
    """What the store recorded of a finished artefact. `created` is in seconds since 1970."""

    fingerprint: str
    parents: tuple[str, ...]
    stage: str
    version: int
    content: str
    created: float
    seconds: float


@dataclass(frozen=True)
class Attempt:
    """Work that was begun at `at` and is not finished."""

    fingerprint: str
    stage: str
    parents: tuple[str, ...]
    at: float


@dataclass(frozen=True)
class FinishedRun:
    """A run that reached its report: `report` is that artefact's fingerprint, `at` when it last did so."""

    name: str
    report: str
    at: float


@dataclass(frozen=True)
class Declaration:
    """What was fixed before a split was opened: margin and confidence as shares, the metrics; `at` when."""

    margin: float
    confidence: float
    metrics: tuple[str, ...]
    at: float


class Records:
    """The records in an open database; `root` is the store's folder."""

    root: Path
    database: sqlite3.Connection

    def begin(self, fingerprint: str, stage: str, parents: Sequence[Artefact]) -> None:
        """Record that work on an artefact begins."""
        with self.database:
            self.database.execute(
                "INSERT OR REPLACE INTO attempt VALUES (?, ?, ?, ?)",
                (fingerprint, stage, json.dumps([p.fingerprint for p in parents]), time.time()),
            )

    def record(self, made: Artefact, version: int, settings: Any, parents: Sequence[Artefact]) -> None:
        """Record a finished artefact in the place of the work on it."""
        facts = json.dumps(made.facts)
        row = (made.fingerprint, made.stage, version, json.dumps(settings), made.content, facts, time.time())
        with self.database:
            self.database.execute("INSERT INTO artefact VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*row, made.seconds))
            self.database.executemany(
                "INSERT INTO parent VALUES (?, ?, ?)",
                [(made.fingerprint, i, p.fingerprint) for i, p in enumerate(parents)],
            )
            self.database.execute("DELETE FROM attempt WHERE fingerprint = ?", (made.fingerprint,))

    def recorded(self, fingerprint: str) -> Artefact | None:
        """A finished artefact, whether or not its files are still there; None where there is none."""
        row = self.database.execute(
            "SELECT stage, content, facts, seconds FROM artefact WHERE fingerprint = ?", (fingerprint,)
        ).fetchone()
        if row is None:
            return None
        path = self.root / "artefacts" / fingerprint
        return Artefact(row[0], fingerprint, path, row[1], json.loads(row[2]), row[3], reused=True)

    def entries(self) -> dict[str, Entry]:
        """Every finished artefact by its fingerprint."""
        parents: dict[str, list[str]] = {}
        for fingerprint, parent in self.database.execute("SELECT fingerprint, parent FROM parent ORDER BY position"):
            parents.setdefault(fingerprint, []).append(parent)
        rows = self.database.execute("SELECT fingerprint, stage, version, content, created, seconds FROM artefact")
        return {row[0]: Entry(row[0], tuple(parents.get(row[0], ())), *row[1:]) for row in rows}

    def newest(self, stage: str, parents: Sequence[Artefact]) -> Artefact | None:
        """The artefact of a stage that was made last from exactly these parents; None where there is none."""
        wanted = tuple(parent.fingerprint for parent in parents)
        made = [one for one in self.entries().values() if one.stage == stage and one.parents == wanted]
        made.sort(key=lambda one: one.created)
        return self.recorded(made[-1].fingerprint) if made else None

    def settings(self, fingerprint: str) -> Any:
        """The settings, as plain data, that a finished artefact was made with."""
        row = self.database.execute("SELECT settings FROM artefact WHERE fingerprint = ?", (fingerprint,)).fetchone()
        return None if row is None else json.loads(row[0])

    def finished(self, name: str, report: Artefact) -> None:
        """Record that a run of this name reached this report."""
        with disk_errors(self.root), self.database:
            self.database.execute(
                "INSERT OR REPLACE INTO run VALUES (?, ?, ?)", (name, report.fingerprint, time.time())
            )

    def runs(self) -> list[FinishedRun]:
        """Every finished run, the newest first; those of one name differ in their report."""
        rows = self.database.execute("SELECT name, report, at FROM run ORDER BY at DESC, report")
        return [FinishedRun(*row) for row in rows]

    def attempts(self) -> dict[str, Attempt]:
        """Work that was begun and is not finished, by fingerprint."""
        rows = self.database.execute("SELECT fingerprint, stage, parents, at FROM attempt")
        return {row[0]: Attempt(row[0], row[1], tuple(json.loads(row[2])), row[3]) for row in rows}

    def forget(self, fingerprints: Collection[str], reports: Collection[str] = ()) -> None:
        """Delete the records of artefacts, of work begun and of the runs with these reports, all at once.

        Their files are left: without a record they are rubbish, which the next build or clean-up takes away.
        """
        with disk_errors(self.root), self.database:
            for table in ("artefact", "parent", "attempt"):
                self.database.executemany(
                    f"DELETE FROM {table} WHERE fingerprint = ?", [(name,) for name in fingerprints]
                )
            self.database.executemany("DELETE FROM run WHERE report = ?", [(name,) for name in reports])

    def lineage(self, artefact: Artefact) -> list[dict[str, Any]]:
        """The artefact and all it was made from, parents before children."""
        entries = self.entries()
        made = [entries[name] for name in ancestry(entries, [artefact.fingerprint]) if name in entries]
        return [
            {
                "stage": entry.stage,
                "version": entry.version,
                "fingerprint": entry.fingerprint,
                "content": entry.content,
                "parents": list(entry.parents),
            }
            for entry in made
        ]

    def open_split(self, split: str, stage: str) -> None:
        """Record that the held-out split of this content hash is being looked at."""
        with self.database:
            self.database.execute("INSERT INTO opening VALUES (?, ?, ?)", (split, stage, time.time()))

    def openings(self, split: str) -> int:
        """How often a split was opened in this store."""
        row = self.database.execute("SELECT COUNT(*) FROM opening WHERE split = ?", (split,)).fetchone()
        return int(row[0])

    def declare(self, split: str, margin: float, confidence: float, metrics: Sequence[str]) -> Declaration:
        """Fix what a split will be judged by; returns what is fixed, which is another one where it came too late.

        A declaration may be replaced until the split is opened. A split that was opened when nothing
        was recorded yet gets this one.
        """
        standing = self.declared(split)
        wanted = Declaration(margin, confidence, tuple(metrics), time.time())
        if standing is not None:
            same = replace(wanted, at=standing.at) == standing
            if same or self.openings(split):
                return standing
        row = (split, margin, confidence, json.dumps(wanted.metrics), wanted.at)
        with disk_errors(self.root), self.database:
            self.database.execute("INSERT OR REPLACE INTO declaration VALUES (?, ?, ?, ?, ?)", row)
        return wanted

    def declared(self, split: str) -> Declaration | None:
        """What was fixed for a split, None where nothing was."""
        row = self.database.execute(
            "SELECT margin, confidence, metrics, at FROM declaration WHERE split = ?", (split,)
        ).fetchone()
        return None if row is None else Declaration(row[0], row[1], tuple(json.loads(row[2])), row[3])


def ancestry(entries: Mapping[str, Entry], fingerprints: Iterable[str]) -> list[str]:
    """These and all that they were made from, parents first; also those of which there is no entry."""
    seen: dict[str, None] = {}

    def visit(fingerprint: str) -> None:
        if fingerprint not in seen:
            for parent in entries[fingerprint].parents if fingerprint in entries else ():
                visit(parent)
            seen[fingerprint] = None

    for fingerprint in fingerprints:
        visit(fingerprint)
    return list(seen)
